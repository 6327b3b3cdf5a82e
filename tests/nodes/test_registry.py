"""Ids, inputs, outputs and their order, on which workflow files rely; and the texts that the editor shows."""

import inspect
import json
from pathlib import Path

import pytest

from wuerstchen_nodes import host as host_module
from wuerstchen_nodes import registry
from wuerstchen_nodes.comfy import nodes as comfy_nodes
from wuerstchen_nodes.registry import NODE_CLASS_MAPPINGS

# id: (display name, inputs in the editor's order, outputs). Saved workflows store widgets by position: append only.
NODES = {
    "WuerstchenLoadTextEncoder": ("Load Text Encoder", ["model", "for_stage", "dtype"], ["WUERSTCHEN_TEXT_ENCODER"]),
    "WuerstchenLoadStageC": ("Load Stage C", ["model", "dtype"], ["WUERSTCHEN_STAGE_C"]),
    "WuerstchenLoadStageB": ("Load Stage B", ["model", "dtype"], ["WUERSTCHEN_STAGE_B"]),
    "WuerstchenLoadStageA": ("Load Stage A", ["model", "dtype"], ["WUERSTCHEN_STAGE_A"]),
    "WuerstchenTextEncode": ("Text Encode", ["text_encoder", "text", "weights"], ["CONDITIONING"]),
    "WuerstchenStageCSampler": (
        "Stage C Sampler",
        [
            *("stage_c", "positive", "negative", "seed", "steps", "schedule", "cfg", "width", "height", "batch_size"),
            *("latent", "denoise", "context"),
        ],
        ["LATENT"],
    ),
    "WuerstchenStageBDecode": (
        "Stage B Decode",
        ["stage_b", "latent", "seed", "steps", "cfg", "positive", "negative", "schedule", "start", "denoise"],
        ["LATENT"],
    ),
    "WuerstchenStageADecode": ("Stage A VQGAN Decode", ["stage_a", "latent"], ["IMAGE"]),
    "WuerstchenCheckpointInterpolate": (
        "Interpolate Checkpoints",
        ["base", "finetuned", "weight"],
        ["WUERSTCHEN_STAGE_C"],
    ),
    "WuerstchenSaveStageC": ("Save Stage C", ["stage_c", "filename_prefix"], []),
    "WuerstchenCompileStageC": ("Compile Stage C", ["stage_c"], ["WUERSTCHEN_STAGE_C"]),
    "WuerstchenCompileStageB": ("Compile Stage B", ["stage_b"], ["WUERSTCHEN_STAGE_B"]),
    "WuerstchenDownload": ("Download Weights", ["model", "download"], []),
    "WuerstchenKeep": ("Keep on Disk", ["value", "mode"], ["CONDITIONING,LATENT,IMAGE,MASK"]),
    "WuerstchenLoadImageEncoder": ("Load Image Encoder", ["model"], ["WUERSTCHEN_IMAGE_ENCODER"]),
    "WuerstchenImageEncode": ("Image to Stage C", ["image_encoder", "image"], ["LATENT"]),
    "WuerstchenStageAEncode": ("Stage A VQGAN Encode", ["stage_a", "image"], ["LATENT"]),
    "WuerstchenVariations": (
        "Variations",
        ["stage_c", "positive", "latent", "seed", "steps", "strength", "count"],
        ["LATENT"],
    ),
    "WuerstchenLoadLoRA": (
        "Load LoRA",
        ["stage_c", "name", "strength", "text_encoder", "text_strength"],
        ["WUERSTCHEN_STAGE_C", "WUERSTCHEN_TEXT_ENCODER"],
    ),
    "WuerstchenMergeCheckpoints": (
        "Merge Checkpoints",
        [
            *("stage_c_1", "stage_c_2", "weight_1", "weight_2", "stage_c_3", "stage_c_4", "weight_3", "weight_4"),
            *("mode", "blocks"),
        ],
        ["WUERSTCHEN_STAGE_C"],
    ),
    "WuerstchenStageCToModel": ("Stage C to MODEL", ["stage_c"], ["MODEL"]),
    "WuerstchenModelToStageC": ("MODEL to Stage C", ["model"], ["WUERSTCHEN_STAGE_C"]),
    "WuerstchenStageBToModel": ("Stage B to MODEL", ["stage_b"], ["MODEL"]),
    "WuerstchenStageAToVAE": ("Stage A to VAE", ["stage_a"], ["VAE"]),
    "WuerstchenImageEncoderToVAE": ("Image Encoder to VAE", ["image_encoder"], ["VAE"]),
    "WuerstchenSigmas": ("Würstchen Sigmas", ["steps", "schedule", "denoise"], ["SIGMAS"]),
    "WuerstchenEmptyLatent": (
        "Empty Würstchen Latent",
        ["width", "height", "batch_size"],
        ["LATENT", "LATENT"],
    ),
}

ALL = {**registry.NODE_CLASS_MAPPINGS, **comfy_nodes.NODE_CLASS_MAPPINGS}
TITLES = {**registry.NODE_DISPLAY_NAME_MAPPINGS, **registry.COMFYUI_ONLY}

each_node = pytest.mark.parametrize(("node_id", "node"), ALL.items(), ids=ALL)


def inputs_of(node) -> dict[str, tuple]:
    declared = node.INPUT_TYPES()
    assert set(declared) <= {"required", "optional", "hidden"}
    return {**declared["required"], **declared.get("optional", {})}


def test_ids_names_inputs_and_outputs_are_as_published():
    found = {
        node_id: (TITLES[node_id], list(inputs_of(node)), list(node.RETURN_TYPES)) for node_id, node in ALL.items()
    }
    assert found == NODES
    assert set(TITLES) == set(NODES)


@each_node
def test_says_what_it_is(node_id, node):
    assert node.CATEGORY.startswith("wuerstchen/")
    assert len(node.DESCRIPTION) > 20
    assert node.SEARCH_ALIASES and all(isinstance(alias, str) for alias in node.SEARCH_ALIASES)
    assert len(node.RETURN_NAMES) == len(node.OUTPUT_TOOLTIPS) == len(node.RETURN_TYPES)
    assert all(node.OUTPUT_TOOLTIPS)
    assert getattr(node, "OUTPUT_NODE", False) == (node_id in ("WuerstchenSaveStageC", "WuerstchenDownload"))


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
    defaults = {name: decoder[name][1]["default"] for name in ("steps", "schedule", "cfg")}
    assert defaults == {"steps": 12, "schedule": "linear", "cfg": 0.0}


def test_a_node_that_runs_without_a_host_says_what_to_do(monkeypatch):
    monkeypatch.setattr(host_module, "_installed", None)
    with pytest.raises(RuntimeError, match="install"):
        NODE_CLASS_MAPPINGS["WuerstchenTextEncode"]().encode(None, "a circle")


@each_node
def test_has_a_help_page_that_names_and_shows_it(node_id, node):
    folder = Path(registry.__file__).parent / "web" / "docs"
    picture = f"images/{node_id}.png"
    page = (folder / f"{node_id}.md").read_text(encoding="utf-8")
    assert page.startswith(f"# {TITLES[node_id]}\n\n![{TITLES[node_id]}]({picture})\n")
    assert (folder / picture).is_file()


LOCALES = Path(registry.__file__).parents[1] / "locales"


@pytest.mark.parametrize("language", ["en", "de", "zh"])
def test_translations_cover_every_node_and_input(language):
    told = json.loads((LOCALES / language / "nodeDefs.json").read_text(encoding="utf-8"))
    assert list(told) == list(ALL)
    for node_id, node in ALL.items():
        assert list(told[node_id]["inputs"]) == list(inputs_of(node)), node_id
        assert len(told[node_id].get("outputs", {})) == len(node.RETURN_TYPES), node_id


def test_english_is_what_the_nodes_say_themselves():
    told = json.loads((LOCALES / "en/nodeDefs.json").read_text(encoding="utf-8"))
    for node_id, node in ALL.items():
        assert told[node_id]["display_name"] == TITLES[node_id]
        assert told[node_id]["description"] == node.DESCRIPTION
        tooltips = {name: options["tooltip"] for name, (_, options) in inputs_of(node).items()}
        assert {name: each["tooltip"] for name, each in told[node_id]["inputs"].items()} == tooltips
        assert [each["tooltip"] for each in told[node_id].get("outputs", {}).values()] == list(node.OUTPUT_TOOLTIPS)
