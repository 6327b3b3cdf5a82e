"""What workflow files rely on: ids, inputs and their order, outputs; and what the editor shows of each node."""

import inspect
from pathlib import Path

import pytest

from wuerstchen_nodes import host as host_module
from wuerstchen_nodes import registry
from wuerstchen_nodes.registry import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS

# id: (display name, inputs in the editor's order, outputs). Saved workflows store widgets by position: append only.
NODES = {
    "WuerstchenLoadTextEncoder": ("Load Text Encoder", ["model", "for_stage"], ["WUERSTCHEN_TEXT_ENCODER"]),
    "WuerstchenLoadStageC": ("Load Stage C", ["model", "dtype"], ["WUERSTCHEN_STAGE_C"]),
    "WuerstchenLoadStageB": ("Load Stage B", ["model", "dtype"], ["WUERSTCHEN_STAGE_B"]),
    "WuerstchenLoadStageA": ("Load Stage A", ["model", "dtype"], ["WUERSTCHEN_STAGE_A"]),
    "WuerstchenTextEncode": ("Text Encode", ["text_encoder", "text"], ["CONDITIONING"]),
    "WuerstchenStageCSampler": (
        "Stage C Sampler",
        ["stage_c", "positive", "negative", "seed", "steps", "schedule", "cfg", "width", "height", "batch_size"],
        ["LATENT"],
    ),
    "WuerstchenStageBDecode": (
        "Stage B Decode",
        ["stage_b", "latent", "seed", "steps", "cfg", "positive", "negative"],
        ["LATENT"],
    ),
    "WuerstchenStageADecode": ("Stage A VQGAN Decode", ["stage_a", "latent"], ["IMAGE"]),
    "WuerstchenCheckpointInterpolate": (
        "Interpolate Checkpoints",
        ["base", "finetuned", "weight"],
        ["WUERSTCHEN_STAGE_C"],
    ),
    "WuerstchenSaveStageC": ("Save Stage C", ["stage_c", "filename_prefix"], []),
}

each_node = pytest.mark.parametrize(("node_id", "node"), NODE_CLASS_MAPPINGS.items(), ids=NODE_CLASS_MAPPINGS)


def inputs_of(node) -> dict[str, tuple]:
    declared = node.INPUT_TYPES()
    assert set(declared) <= {"required", "optional"}
    return {**declared["required"], **declared.get("optional", {})}


def test_ids_names_inputs_and_outputs_are_as_published():
    found = {
        node_id: (NODE_DISPLAY_NAME_MAPPINGS[node_id], list(inputs_of(node)), list(node.RETURN_TYPES))
        for node_id, node in NODE_CLASS_MAPPINGS.items()
    }
    assert found == NODES
    assert set(NODE_DISPLAY_NAME_MAPPINGS) == set(NODES)


@each_node
def test_says_what_it_is(node_id, node):
    assert node.CATEGORY.startswith("wuerstchen/")
    assert len(node.DESCRIPTION) > 20
    assert node.SEARCH_ALIASES and all(isinstance(alias, str) for alias in node.SEARCH_ALIASES)
    assert len(node.RETURN_NAMES) == len(node.OUTPUT_TOOLTIPS) == len(node.RETURN_TYPES)
    assert all(node.OUTPUT_TOOLTIPS)
    assert getattr(node, "OUTPUT_NODE", False) == (node_id == "WuerstchenSaveStageC")


@each_node
def test_every_input_has_a_tooltip_and_a_default_it_accepts(node_id, node):
    for name, (kind, options) in inputs_of(node).items():
        assert len(options["tooltip"]) > 10, name
        if isinstance(kind, list):
            assert options["default"] in kind, name
        elif kind in ("INT", "FLOAT"):
            assert options["min"] <= options["default"] <= options["max"], name


@each_node
def test_function_takes_the_inputs(node_id, node):
    function = inspect.signature(getattr(node(), node.FUNCTION))
    required, optional = (node.INPUT_TYPES().get(kind, {}) for kind in ("required", "optional"))
    function.bind(**dict.fromkeys([*required, *optional]))
    lazy = [name for name, (_, options) in required.items() if options.get("lazy")]
    function.bind(**dict.fromkeys(name for name in required if name not in lazy))


@each_node
def test_inputs_are_listed_without_a_host(node_id, node, monkeypatch):
    monkeypatch.setattr(host_module, "_installed", None)
    assert list(inputs_of(node)) == NODES[node_id][1]


def test_seeds_offer_control_after_generate():
    for node_id in ("WuerstchenStageCSampler", "WuerstchenStageBDecode"):
        _, options = inputs_of(NODE_CLASS_MAPPINGS[node_id])["seed"]
        assert options["control_after_generate"] is True
        assert (options["min"], options["max"]) == (0, 2**64 - 1)


def test_both_inputs_of_the_interpolation_are_lazy():
    inputs = inputs_of(NODE_CLASS_MAPPINGS["WuerstchenCheckpointInterpolate"])
    assert {name for name, (_, options) in inputs.items() if options.get("lazy")} == {"base", "finetuned"}


def test_the_published_defaults():
    sampler = inputs_of(NODE_CLASS_MAPPINGS["WuerstchenStageCSampler"])
    decoder = inputs_of(NODE_CLASS_MAPPINGS["WuerstchenStageBDecode"])
    defaults = {name: sampler[name][1]["default"] for name in ("steps", "schedule", "cfg")}
    assert defaults == {"steps": 29, "schedule": "v2", "cfg": 4.0}
    assert {name: decoder[name][1]["default"] for name in ("steps", "cfg")} == {"steps": 12, "cfg": 0.0}


def test_a_node_that_runs_without_a_host_says_what_to_do(monkeypatch):
    monkeypatch.setattr(host_module, "_installed", None)
    with pytest.raises(RuntimeError, match="install"):
        NODE_CLASS_MAPPINGS["WuerstchenTextEncode"]().encode(None, "a circle")


@each_node
def test_has_a_help_page_that_names_it(node_id, node):
    page = Path(registry.__file__).parent / "web" / "docs" / f"{node_id}.md"
    assert page.read_text(encoding="utf-8").startswith(f"# {NODE_DISPLAY_NAME_MAPPINGS[node_id]}\n")
