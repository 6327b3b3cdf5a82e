"""The subgraph blueprints of `subgraphs/`, which ComfyUI lists in its node library."""

import json
from pathlib import Path

import pytest

from wuerstchen_nodes.headless import execute, load_workflow
from wuerstchen_nodes.headless.workflow import examples
from wuerstchen_nodes.registry import NODE_CLASS_MAPPINGS

FOLDER = Path(__file__).parents[3] / "subgraphs"
QUICK = {"Stage C Sampler.steps": 2, "Stage B Decode.steps": 1, "Stage B Decode.seed": 7}
WIDGETS = ("STRING", "INT", "FLOAT", "BOOLEAN")


def blueprint(name):
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def with_node(document, node, source, target):
    """Add a node to a document, fed by `source` and feeding `target`, each (node, slot) or None."""
    links = document["links"]
    for origin, end in ((source, (node, 0)), ((node, 0), target)):
        if origin and end:
            (a, output), (b, slot) = origin, end
            links.append([100 + len(links), a["id"], output, b["id"], slot, a["outputs"][output]["type"]])
            a["outputs"][output]["links"].append(links[-1][0])
            b["inputs"][slot]["link"] = links[-1][0]
    document["nodes"].append(node)


def save_image():
    images = {"name": "images", "type": "IMAGE"}
    return {"id": 50, "type": "SaveImage", "mode": 0, "inputs": [images], "outputs": [], "widgets_values": ["it"]}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.json")), ids=lambda path: path.stem)
def test_the_nodes_inside_list_their_inputs_as_the_page_does(path):
    """The page finds a link by the position of its input: sockets first, then fields, each in the class's order."""
    document = blueprint(path.stem)
    (outside,) = document["nodes"]
    (inside,) = document["definitions"]["subgraphs"]
    assert (outside["type"], outside["title"], inside["name"]) == (inside["id"], path.stem, path.stem)
    for ends in ("inputs", "outputs"):
        assert [each["name"] for each in outside[ends]] == [each["name"] for each in inside[ends]]
    for node in inside["nodes"]:
        types = NODE_CLASS_MAPPINGS[node["type"]].INPUT_TYPES()
        declared = {**types["required"], **types.get("optional", {})}
        fields = [name for name, spec in declared.items() if isinstance(spec[0], list) or spec[0] in WIDGETS]
        sockets = [name for name in declared if name not in fields]
        assert [each["name"] for each in node["inputs"]] == sockets + fields, node["title"]


def test_text_to_image_is_a_picture_of_its_text():
    document = blueprint("Wuerstchen text to image")
    (node,) = document["nodes"]
    with_node(document, save_image(), (node, 0), None)
    (image,) = execute(load_workflow(document), QUICK).images
    example = {"Prompt.value": "a large red heart on a white background", **QUICK}
    (expected,) = execute(load_workflow(examples.locate(None)), example).images
    assert pixels(image) == pixels(expected)


def test_decode_takes_the_latent_of_stage_c():
    document = json.loads(examples.locate(None).read_text(encoding="utf-8"))
    other = blueprint("Wuerstchen decode")
    document["definitions"] = other["definitions"]
    sampler, shown = (next(node for node in document["nodes"] if node["id"] == i) for i in (8, 13))
    with_node(document, {**other["nodes"][0], "id": 40}, (sampler, 0), (shown, 0))
    (image,) = execute(load_workflow(document), {"Stage C Sampler.steps": 2, "40:10.steps": 1}).images
    assert pixels(image)


def pixels(path):
    from PIL import Image

    with Image.open(path) as image:
        return image.convert("RGB").tobytes()
