"""Workflow files that attack: huge, deep, endless, doubled, and with values of wrong types."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from support.attacks import MEBIBYTES
from support.pngs import png, text
from support.workflows import editor, editor_node, node, socket
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


def written(document: Any, name: str = "w.json") -> str:
    """A file with a document, and a picture beside it."""
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save("in.png")
    text = document if isinstance(document, str) else json.dumps(document)
    Path(name).write_text(text, encoding="utf-8")
    return name


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


def chained(subgraphs: int, copies: int, notes: int = 0) -> dict[str, Any]:
    """Subgraphs each of which holds copies of the next."""
    inner = [
        {
            "id": str(level),
            "name": f"level {level}",
            "nodes": [editor_node(each, str(level + 1)) for each in range(copies)],
            "links": [],
        }
        for level in range(subgraphs)
    ]
    inner.append({"id": str(subgraphs), "nodes": [editor_node(each, "Note") for each in range(notes + 1)], "links": []})
    return editor([editor_node(1, "0")], [], definitions={"subgraphs": inner})


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        (chained(40, 2), "more than 200,000 nodes"),
        (chained(5, 100), "more than 200,000 nodes"),
        (chained(2, 500, notes=10), "more than 200,000 nodes"),
        (chained(1000, 1), "more than 100 subgraphs"),
        pytest.param(chained(100_000, 1), "more than 100 subgraphs", marks=pytest.mark.long),
        (chained(3000, 2), "more than 200,000 nodes"),
        (
            editor([editor_node(1, "a")], [], definitions={"subgraphs": [{"id": "a", "nodes": [editor_node(1, "a")]}]}),
            "itself",
        ),
        (
            editor(
                [editor_node(1, "a")],
                [],
                definitions={
                    "subgraphs": [
                        {"id": each, "name": each, "nodes": [editor_node(1, after)]}
                        for each, after in ("ab", "bc", "ca")
                    ]
                },
            ),
            "itself",
        ),
    ],
    ids=["40 levels of 2", "5 of 100", "notes", "1000 deep", "100000 deep", "doubling 3000 deep", "itself", "in turn"],
)
def test_subgraphs_that_would_fill_the_memory(attack, document, problem):
    _, error = attack.alone("validate", written(document), codes=REFUSED)
    assert problem in error


WIDE = 1000
"""Most inputs and outputs that a node may have."""


def shown_field(number: int, link: int | None = None) -> dict[str, Any]:
    """An input of a node that has a field for it."""
    return socket(f"field {number}", "INT", link) | {"widget": {"name": f"field {number}"}}


def many(count: int) -> dict[str, Callable[[], Any]]:
    """Workflows of many nodes, by what is odd about them."""
    numbers = range(2, count)
    picture = editor_node(1, "LoadImage", widgets_values=["in.png"])
    saver = {"widgets_values": ["%Node.seed%"]}
    to_first = [[each, 1, 0, each, 0, "IMAGE"] for each in numbers]
    inner = {
        "id": "s",
        "nodes": [picture, *(editor_node(each, "Note") for each in range(2, count // 2))],
        "links": [[1, 1, 0, -20, 0, "IMAGE"]],
        "outputs": [{"name": "IMAGE", "type": "IMAGE"}],
    }
    wide = {
        "inputs": [socket("", f"A{each}", None) for each in range(WIDE)],
        "outputs": [socket("", f"B{each}", None) for each in range(WIDE)],
    }
    return {
        "outputs of one node": lambda: (
            {"1": node("LoadImage", image="in.png")}
            | {str(each): node("SaveImage", images=["1", 0], filename_prefix="x") for each in numbers}
        ),
        "errors": lambda: {str(each): node("SaveImage", filename_prefix="x") for each in numbers},
        "errors in a chain": lambda: (
            {"1": node("ImageCompositeMasked")}
            | {str(each): node("ImageCompositeMasked", destination=[str(each - 1), 0], x="x") for each in numbers}
            | {"s": node("SaveImage", images=[str(count - 1), 0], filename_prefix="x")}
        ),
        "unknown classes": lambda: {str(each): node(f"Nope{each}") for each in numbers},
        "one id twice": lambda: editor([editor_node(min(each, count - 2), "Note") for each in numbers], []),
        "fields in file names": lambda: editor(
            [
                picture,
                *(
                    editor_node(each, "SaveImage", inputs=[socket("images", "IMAGE", each)], **saver)
                    for each in numbers
                ),
            ],
            to_first,
        ),
        "reroutes in a row": lambda: editor(
            [picture, *(editor_node(each, "Reroute", inputs=[socket("", "*", each)]) for each in numbers)]
            + [
                editor_node(-each, "SaveImage", inputs=[socket("images", "IMAGE", count)], **saver)
                for each in numbers[:999]
            ],
            [[each, each - 1, 0, each, 0, "*"] for each in [*numbers, count]],
        ),
        "links out of a subgraph": lambda: editor(
            [editor_node(1, "s")]
            + [editor_node(each, "SaveImage", inputs=[socket("images", "IMAGE", each)], **saver) for each in numbers],
            to_first,
            definitions={"subgraphs": [inner]},
        ),
        "seeds": lambda: editor(
            [editor_node(each, "WuerstchenStageBDecode", widgets_values=[each]) for each in numbers], []
        ),
        "fields of a subgraph": lambda: editor(
            [editor_node(1, "s", inputs=[shown_field(each) for each in numbers], widgets_values=[0] * count)],
            [],
            definitions={
                "subgraphs": [
                    {
                        "id": "s",
                        "nodes": [
                            editor_node(each, "WuerstchenStageBDecode", inputs=[shown_field(each, each)])
                            for each in numbers
                        ],
                        "links": [[each, -10, each - 2, each, 0, "INT"] for each in numbers],
                    }
                ]
            },
        ),
        "inputs of bypassed nodes": lambda: editor(
            [editor_node(-each, "SaveImage", mode=4, **wide) for each in range(1, count // WIDE + 1)]
            + [editor_node(each, "SaveImage", inputs=[socket("images", "IMAGE", each)]) for each in numbers],
            [[each, -1 - each // (WIDE + 1), each % WIDE, each, 0, "IMAGE"] for each in numbers],
        ),
        "keys": lambda: "{" + "".join(f'"{each}":0,' for each in range(7 * count)) + '"last":0,"last":0}',
        "numbers": lambda: "[" + "0," * (30 * count) + "0]",
        "empty lists": lambda: "[" + "[]," * (18 * count) + "[]]",
        "texts": lambda: json.dumps({str(each): "\U0001f600" * 40 for each in range(2 * count)}),
    }


@pytest.mark.parametrize("kind", list(many(2)))
@pytest.mark.parametrize("count", [2000, pytest.param(100_000, marks=pytest.mark.long)])
def test_workflows_of_many_nodes(attack, kind, count):
    seed = ["--seed", 5] if kind == "seeds" else []
    attack.alone("validate", written(many(count)[kind]()), *seed, codes=REFUSED, may_succeed=True, seconds=90)


def reroutes(count: int, kinds: list[str]) -> dict[str, Any]:
    """A row of reroutes from a picture to outputs that want something of a type each."""
    rows = [[each, each - 1, 0, each, 0, "*"] for each in range(1, count + 2)]
    return editor(
        [editor_node(0, "LoadImage", widgets_values=["in.png"])]
        + [editor_node(each, "Reroute", inputs=[socket("", "*", each)]) for each in range(1, count + 1)]
        + [
            editor_node(-place, "SaveImage", inputs=[socket("images", kind, count + 1)])
            for place, kind in enumerate(kinds, 1)
        ],
        rows,
    )


def long_ids(count: int) -> dict[str, Any]:
    """A subgraph of many nodes inside 98 others whose ids are long, and so are the ids of each of those nodes."""
    nodes = [[editor_node("i" * 200, str(level + 1))] for level in range(98)]
    nodes.append([editor_node(each, "SaveImage") for each in range(count)])
    inner = [{"id": str(level), "nodes": each, "links": []} for level, each in enumerate(nodes)]
    return editor([editor_node("i" * 200, "0")], [], definitions={"subgraphs": inner})


GROWING: dict[str, Callable[[], Any]] = {
    "a text in a name": lambda: editor(
        [
            editor_node(1, "PrimitiveString", title="S", widgets_values=["A" * 1_000_000]),
            editor_node(2, "SaveImage", widgets_values=["%S.value%" * 10_000]),
        ],
        [],
    ),
    "a long type": lambda: reroutes(5000, ["A" * 1_000_000]),
    "many types": lambda: reroutes(20_000, [f"T{each}" for each in range(20_000)]),
    "a type of many": lambda: editor(
        [
            editor_node(
                1,
                "SaveImage",
                mode=4,
                inputs=[socket("", "IMAGE", None)],
                outputs=[socket("", ",".join(map(str, range(300_000))), None)],
            ),
            *(editor_node(each, "SaveImage", inputs=[socket("images", "IMAGE", each)]) for each in range(2, 1000)),
        ],
        [[each, 1, 0, each, 0, "IMAGE"] for each in range(2, 1000)],
    ),
    "long ids": lambda: long_ids(150_000),
    "endless errors": lambda: '{"nodes":[' + "0," * 2_800_000 + "0]}",
    "endless errors of links": lambda: '{"nodes":[],"links":[' + "0," * 2_800_000 + "0]}",
    "a long class": lambda: {str(each): node("A" * 10_000_000) for each in range(3)},
    "a long model": lambda: {
        "1": node("WuerstchenLoadStageC", model="A" * 50_000_000, dtype="default"),
        "2": node("SaveImage", images=["1", 0], filename_prefix="x"),
    },
}
"""Small or plain files that would take the memory or the time of many."""


@pytest.mark.parametrize("kind", list(GROWING))
def test_a_workflow_that_grows_as_it_is_read(attack, kind):
    attack.alone("validate", written(GROWING[kind]()), codes=REFUSED, may_succeed=kind in ("many types", "a long type"))


def test_a_wrong_name_among_many_long_ones(attack):
    letters = "abcd" * 15
    titles = [f"{letters[each % 60 :]}{letters[: each % 60]}{each}" for each in range(60_000)]
    document = {str(each): node("PreviewImage", title, images=["x", 0]) for each, title in enumerate(titles)}
    document["x"] = node("LoadImage", image="in.png")
    attack.alone("validate", written(document), "--set", f"{letters}.value=x", codes=frozenset({BAD_USAGE}))


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


def test_a_large_document_takes_little_memory(attack):
    attack.alone("validate", written("[" + '"x",' * 2_900_000 + "1]"), codes=REFUSED)
    attack.alone("validate", written('["' + "\U0001f600" * 16_000_000 + '"]'), codes=REFUSED)
    assert MEBIBYTES <= 1024
