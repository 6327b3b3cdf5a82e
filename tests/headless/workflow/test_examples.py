"""The bundled examples: they run as they are, and a person can read them."""

import json
from itertools import combinations
from pathlib import Path

import pytest

from wuerstchen_core.checkpoints.presets import PRESETS, published_file
from wuerstchen_nodes.headless.errors import InvalidWorkflowError, UsageError
from wuerstchen_nodes.headless.run import prepare
from wuerstchen_nodes.headless.workflow import examples
from wuerstchen_nodes.headless.workflow.documents import load_workflow

TITLE = 30
PREVIEW = 212
"""Height in pixels that ComfyUI's page adds to a node for a picture."""
SHOW_PREVIEWS = ("WuerstchenStageCSampler", "WuerstchenStageBDecode", "KSampler")
INSIDE_COMFYUI = "comfyui_samplers"
"""The example of the nodes that exist there only."""


@pytest.fixture(params=examples.names())
def document(request):
    return json.loads(examples.locate(request.param).read_text(encoding="utf-8"))


def box(node):
    """Left, top, right, bottom, with the title and the picture that the page adds with previews on."""
    (x, y), (width, height) = node["pos"], node["size"]
    return x, y - TITLE, x + width, y + height + (PREVIEW if node["type"] in SHOW_PREVIEWS else 0)


def overlap(a, b):
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def test_the_examples_are_there_and_found_by_name_or_path():
    drawn = ["comfyui_samplers", "interpolation", "lora", "stage_reuse", "text_to_image", "v2"]
    redrawn = [
        "image_to_image",
        "inpainting",
        "inpainting_by_mask_file",
        "restyle",
        "variations",
        "what_stages_know",
    ]
    assert examples.names() == sorted(drawn + redrawn)
    assert examples.locate(None) == examples.folder() / "wuerstchen_text_to_image.json"
    assert examples.locate("elsewhere.json").name == "elsewhere.json"


def test_every_example_is_found_by_the_word_wuerstchen_and_has_a_thumbnail():
    files = {path.stem for path in examples.folder().glob("*.json")}
    assert files == {f"wuerstchen_{name}" for name in examples.names()}
    assert all((examples.folder() / f"{name}.jpg").is_file() for name in files)


@pytest.mark.parametrize("name", ["stage_reuse", "wuerstchen_stage_reuse", "v2", "wuerstchen_v2"])
@pytest.mark.parametrize("form", ["{}", "{}.json", "workflows/{}.json", "/elsewhere/workflows/{}.json"])
def test_an_example_goes_by_its_short_name_its_file_and_the_paths_that_it_had(tmp_path, monkeypatch, name, form):
    monkeypatch.chdir(tmp_path)
    example = examples.locate(form.format(name))
    assert example == examples.folder() / f"wuerstchen_{name.removeprefix('wuerstchen_')}.json"
    assert load_workflow(form.format(name)) == load_workflow(example)


def test_a_file_of_the_user_comes_before_an_example(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("stage_reuse.json").touch()
    assert examples.locate("stage_reuse.json") == Path("stage_reuse.json")
    assert examples.locate("stage_reuse").parent == examples.folder()


def test_a_path_elsewhere_is_the_users_and_opens_no_example():
    with pytest.raises(UsageError, match=r"mine/stage_reuse.json does not exist.*Did you mean 'stage_reuse'\?"):
        examples.locate("mine/stage_reuse.json")


@pytest.mark.parametrize("name", [name for name in examples.names() if name != INSIDE_COMFYUI])
def test_an_example_is_valid_as_it_is(name):
    prepare(load_workflow(examples.locate(name)))


def test_what_leads_into_comfyui_is_refused_by_name():
    with pytest.raises(InvalidWorkflowError) as caught:
        prepare(load_workflow(examples.locate(INSIDE_COMFYUI)))
    message = str(caught.value)
    for title in ("Stage C to MODEL", "Stage B to MODEL", "Stage A to VAE", "Empty Würstchen Latent"):
        assert f"{title} leads into ComfyUI's own samplers and exists inside ComfyUI only" in message
    assert "'comfy-core', which runs in ComfyUI only" in message


def test_links_agree_with_the_sockets_at_both_ends(document):
    nodes = {node["id"]: node for node in document["nodes"]}
    assert len(nodes) == len(document["nodes"]) == document["last_node_id"]
    for link_id, origin, origin_slot, target, target_slot, kind in document["links"]:
        assert link_id in nodes[origin]["outputs"][origin_slot]["links"]
        assert kind in nodes[origin]["outputs"][origin_slot]["type"].split(",")
        assert nodes[target]["inputs"][target_slot]["link"] == link_id
        assert kind in nodes[target]["inputs"][target_slot]["type"].split(",")
    ends = [socket["link"] for node in nodes.values() for socket in node["inputs"] if socket["link"] is not None]
    assert sorted(ends) == [link[0] for link in document["links"]]


def test_an_example_is_laid_out_left_to_right_without_overlaps_in_titled_groups(document):
    nodes = document["nodes"]
    for a, b in combinations(nodes, 2):
        assert not overlap(box(a), box(b)), (a["title"], b["title"])
    by_id = {node["id"]: node for node in nodes}
    for _, origin, _, target, _, _ in document["links"]:
        left_of = box(by_id[origin])[2] <= box(by_id[target])[0]
        above = box(by_id[origin])[3] <= box(by_id[target])[1]
        below = box(by_id[origin])[1] >= box(by_id[target])[3]
        assert left_of or above or below
        assert by_id[origin]["pos"][0] <= by_id[target]["pos"][0]
    groups = [(x, y, x + width, y + height) for x, y, width, height in (g["bounding"] for g in document["groups"])]
    for a, b in combinations(groups, 2):
        assert not overlap(a, b)
    assert [group["title"][:2] for group in document["groups"]] == [f"{i}." for i in range(1, len(groups) + 1)]
    stages = [node for node in nodes if node["type"].startswith("Wuerstchen")]
    for node in stages:
        left, top, right, bottom = box(node)
        assert any(g[0] <= left and g[1] <= top and right <= g[2] and bottom <= g[3] for g in groups), node["title"]
    assert any(node["type"] == "Note" and node["title"] == "What to try" for node in nodes)


def test_every_node_says_its_class_and_pack_and_all_its_values(document):
    for node in document["nodes"]:
        if node["type"] == "Note":
            continue
        assert node["properties"]["Node name for S&R"] == node["type"]
        ours = node["type"].startswith("Wuerstchen")
        assert node["properties"]["cnr_id"] == ("wuerstchen" if ours else "comfy-core")
        # Some are from before denoise, which is 1 where it is missing.
        counts = {"WuerstchenStageCSampler": (8, 10), "WuerstchenStageBDecode": (5, 6)}.get(node["type"])
        assert counts is None or (len(node["widgets_values"]) in counts and node["widgets_values"][1] == "fixed")


def inputs_of(name, class_type):
    prompt = prepare(load_workflow(examples.locate(name))).prompt
    return [node["inputs"] for node in prompt.values() if node["class_type"] == class_type]


def test_interpolation_draws_base_half_and_aesthetic_from_one_seed():
    samplers = inputs_of("interpolation", "WuerstchenStageCSampler")
    assert len(samplers) == 3
    assert len({json.dumps(each["seed"]) for each in samplers}) == 1
    assert len({json.dumps(each["stage_c"]) for each in samplers}) == 3
    assert {each["model"] for each in inputs_of("interpolation", "WuerstchenLoadStageC")} == {
        "cocktail-base",
        "cocktail-aesthetic",
    }
    assert [each["weight"] for each in inputs_of("interpolation", "WuerstchenCheckpointInterpolate")] == [0.5]


def test_stage_reuse_decodes_one_stage_c_result_with_three_seeds():
    decodes = inputs_of("stage_reuse", "WuerstchenStageBDecode")
    assert len(inputs_of("stage_reuse", "WuerstchenStageCSampler")) == 1
    assert len({json.dumps(each["latent"]) for each in decodes}) == 1
    assert len({each["seed"] for each in decodes}) == 3


def test_wuerstchen_v2_is_as_published():
    (sampler,) = inputs_of("wuerstchen_v2", "WuerstchenStageCSampler")
    wanted = {"steps": 29, "schedule": "v2", "cfg": 4.0, "width": 1024, "height": 1536, "batch_size": 2}
    assert {name: sampler[name] for name in wanted} == wanted
    (decode,) = inputs_of("wuerstchen_v2", "WuerstchenStageBDecode")
    assert (decode["steps"], decode["cfg"]) == (12, 0.0)
    document = json.loads(examples.locate("wuerstchen_v2").read_text(encoding="utf-8"))
    loaders = [node for node in document["nodes"] if "Load" in node["type"]]
    assert len(loaders) == 5
    for node in loaders:
        assert node["widgets_values"][0] == "v2-interpolated"


def test_the_published_weights_are_listed_as_the_loaders_look_for_them():
    listed = json.loads(examples.locate("v2").read_text(encoding="utf-8"))["models"]
    places = dict(PRESETS["v2-interpolated"])
    del places["image_encoder"]  # the example reads no picture
    expected = {f"{place.repo}/{published_file(place, part)}": place.repo for part, place in places.items()}
    assert {each["name"]: each["directory"] for each in listed} == dict.fromkeys(expected, "wuerstchen")
    for each in listed:
        repo = expected[each["name"]]
        assert each["url"] == f"https://huggingface.co/{repo}/resolve/main/{each['name'].removeprefix(f'{repo}/')}"
