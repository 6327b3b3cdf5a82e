"""Workflow files that attack: deep, endless, damaged, and with values of wrong types."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from support.pngs import png, text
from support.workflows import node, written
from wuerstchen_nodes.headless.report import BAD_USAGE, FAILED, INVALID_WORKFLOW, WEIGHTS_MISSING
from wuerstchen_nodes.registry import NODE_CLASS_MAPPINGS

REFUSED = frozenset({INVALID_WORKFLOW})
VALUES: list[Any] = [
    *(None, True, -1, 2**70, 1e308, "", "x" * 5000, "\0", "../../x", "/", [], ["1"], ["1", 0, 0], [1, 0], ["1", -1]),
    *(["1", 10**9], ["1", 0.5], ["1", True], ["absent", 0], [[]], [None, None], {}, {"__value__": []}, {"a": 1}),
    *({"__value__": {"__value__": 1}}, {"__type__": "x"}, [{}], float("nan"), float("inf")),
]
SAMPLERS = [name for name in NODE_CLASS_MAPPINGS if "Load" not in name]
LOADERS = [name for name in NODE_CLASS_MAPPINGS if "Load" in name]


def saving(**inputs: Any) -> dict[str, Any]:
    return {"1": node("LoadImage", image="in.png"), "2": node("SaveImage", **{"filename_prefix": "x", **inputs})}


def nested(depth: int, inside: str = "1") -> str:
    return '{"a":' * depth + inside + "}" * depth


DEEP = [101, 600, 990, 1000, 5000, 100_000]


@pytest.mark.parametrize("depth", DEEP)
@pytest.mark.parametrize(
    "text",
    [
        '{"nodes": [], "links": [], "extra": %s}',
        '{"1": {"class_type": "SaveImage", "inputs": {}, "_meta": %s}}',
        '{"1": {"class_type": "SaveImage", "inputs": {"images": %s}}}',
        '{"nodes": [{"id": 1, "type": "SaveImage", "widgets_values": [%s]}], "links": []}',
        '{"nodes": [{"id": 1, "type": "SaveImage", "properties": {"x": %s}}], "links": []}',
        '{"nodes": [], "links": [], "definitions": {"subgraphs": [%s]}}',
        "%s",
    ],
)
def test_values_that_are_nested_deeply(attack, text, depth):
    _, error = attack.here("validate", written(text % nested(depth)), codes=REFUSED)
    assert "levels deep" in error


@pytest.mark.parametrize(
    "text",
    [
        '{"1": {"class_type": "SaveImage", "inputs": {}}, "1": {"class_type": "LoadImage", "inputs": {}}}',
        '{"1": {"class_type": "SaveImage", "class_type": "LoadImage", "inputs": {}}}',
        '{"1": {"class_type": "LoadImage", "inputs": {"image": "a.png", "image": "in.png"}}}',
        '{"nodes": [], "nodes": [], "links": []}',
        '{"nodes": [{"id": 1, "id": 2, "type": "SaveImage"}], "links": []}',
        '{"nodes": [], "links": [], "extra": {"a": 1, "a": 1}}',
        r'{"1": {"class_type": "LoadImage", "inputs": {"image": "\ud800"}}}',
        r'{"\udfff": {"class_type": "LoadImage", "inputs": {}}}',
        r'{"1": {"class_type": "\ud83d", "inputs": {}}}',
        r'{"1": {"class_type": "LoadImage", "inputs": {}, "_meta": {"title": "\ude00"}}}',
        r'{"nodes": [{"id": "\ud800", "type": "SaveImage"}], "links": []}',
        r'{"nodes": [{"id": 1, "type": "SaveImage", "widgets_values": ["\ud800"]}], "links": []}',
        *("", " ", "{", "[]", "1", "null", '"x"', "nan", "{}", '{"1": 1}', '{"1": {}}', '{"1": {"class_type": 1}}'),
        *('{"1": {"class_type": "SaveImage", "inputs": []}}', '{"nodes": 1}', '{"nodes": {}}', '{"nodes": [1]}'),
        *('{"nodes": [null]}', '{"nodes": [{}]}', '{"nodes": [{"id": 1}]}', '{"nodes": [], "links": [[1]]}', "\ufeff"),
        *('{"nodes": [], "links": 1}', '{"nodes":[],"definitions":1}'),
        *('{"nodes": [], "definitions": {"subgraphs": [1]}}', '{"prompt": {"1": 1}}', "[" * 200, '{"a":' * 200),
        *("1" * 5000, '{"1": {"class_type": "SaveImage", "inputs": {"x": %s}}}' % ("9" * 5000), "//", "/**/{}", "{,}"),
        *(
            "{'1': 1}",
            '{"nodes": [{"id": 1e400, "type": "x"}]}',
            '{"nodes": [{"id": 1.5, "type": "x"}]}',
            "\0",
            "PK\3\4",
        ),
        '{"nodes": [{"id": %s, "type": "SaveImage"}], "links": []}' % ("9" * 4000),
        '{"nodes": [{"id": "%s", "type": "SaveImage"}], "links": []}' % ("x" * 5000),
    ],
    ids=lambda text: text[:40].encode("unicode_escape").decode(),
)
@pytest.mark.parametrize("verb", ["validate", "convert"])
def test_documents_that_are_no_workflow(attack, verb, text):
    attack.here(verb, written(text), codes=REFUSED)


@pytest.mark.parametrize(
    "data", [b"\xff\xfe{\0}\0", b"{\xe9}", b"\x80", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"\x1f\x8b\x08"]
)
def test_files_that_are_no_text(attack, data):
    Path("w.json").write_bytes(data)
    attack.here("validate", "w.json", codes=REFUSED)


@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value)[:20])
@pytest.mark.parametrize("name", ["images", "filename_prefix"])
def test_a_value_of_any_type_where_a_picture_or_a_name_belongs(attack, name, value):
    document = saving(**{"images": ["1", 0], name: value})
    code, _ = attack.here(
        "run", written(document), "--no-cache", codes=REFUSED | {FAILED}, may_succeed=name != "images"
    )
    assert code or list(Path("output").rglob("*.png"))


@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value)[:20])
@pytest.mark.parametrize("class_type", LOADERS)
def test_a_loader_of_any_model(attack, class_type, value):
    declared: Any = NODE_CLASS_MAPPINGS[class_type]
    first = next(iter(declared.INPUT_TYPES()["required"]))
    document = {
        "1": node("LoadImage", image="in.png"),
        "l": node(class_type, **{first: value, "dtype": "default", "for_stage": "C"}),
        "s": node("PreviewAny", source=["l", 0]),
        "2": node("SaveImage", images=["1", 0], filename_prefix="x"),
        "3": node("WuerstchenStageADecode", stage_a=["l", 0], latent=["l", 0]),
        "4": node("SaveImage", images=["3", 0], filename_prefix="x"),
    }
    del document["s"]
    attack.here("validate", written(document), codes=REFUSED | {WEIGHTS_MISSING, BAD_USAGE})


@pytest.mark.parametrize("class_type", sorted(NODE_CLASS_MAPPINGS))
@pytest.mark.parametrize("inputs", [{}, None, {"model": None}, {"nonsense": 1}])
def test_nodes_without_inputs(attack, class_type, inputs):
    document = {
        "1": {"class_type": class_type} if inputs is None else node(class_type, **inputs),
        "2": node("SaveImage", images=["1", 0], filename_prefix="x"),
    }
    attack.here("run", written(document), "--no-cache", codes=REFUSED)


@pytest.mark.parametrize(
    "document",
    [
        {"nodes": [5]},
        {"nodes": [{"id": 1, "type": ["x"]}]},
        {"nodes": [{"id": 1, "type": "SaveImage", "inputs": [5]}]},
        {"nodes": [{"id": 1, "type": "SaveImage", "inputs": [{"name": "images", "link": [1]}]}]},
        {"nodes": [{"id": 1, "type": "SaveImage", "widgets_values": 5}]},
        {"nodes": [], "links": 5},
        {"nodes": [], "links": [[]]},
    ],
)
def test_a_picture_with_a_sound_prompt_and_a_damaged_workflow(attack, document):
    prompt = {"1": node("LoadImage", image="in.png"), "2": node("WuerstchenStageBDecode", seed=1)}
    texts = {b"prompt": json.dumps(prompt).encode(), b"workflow": json.dumps(document).encode()}
    Path("w.png").write_bytes(png(*(text(key, value) for key, value in texts.items())))
    attack.here("convert", "w.png", "--seed", "3", codes=frozenset({INVALID_WORKFLOW}))


@pytest.mark.parametrize("kind", ["pipe", "device", "socket", "loop", "sparse"])
@pytest.mark.parametrize("verb", ["run", "validate", "convert"])
def test_files_that_never_end(attack, verb, kind):
    if kind == "pipe":
        os.mkfifo("w.json")
    elif kind == "sparse":
        with open("w.json", "wb") as file:
            file.truncate(50 * 2**30)
    else:
        os.symlink({"device": "/dev/zero", "socket": "/dev/stdin", "loop": "w.json"}[kind], "w.json")
    attack.here(verb, "w.json", codes=REFUSED | {BAD_USAGE})
