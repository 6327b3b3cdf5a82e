"""Workflow files that are huge, or small and doubled: read, or refused, before they take time or memory."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from support.attacks import MEBIBYTES
from support.workflows import editor, editor_node, node, socket, written
from wuerstchen_nodes.headless.report import BAD_USAGE, INVALID_WORKFLOW

REFUSED = frozenset({INVALID_WORKFLOW})


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


def test_a_large_document_takes_little_memory(attack):
    attack.alone("validate", written("[" + '"x",' * 2_900_000 + "1]"), codes=REFUSED)
    attack.alone("validate", written('["' + "\U0001f600" * 16_000_000 + '"]'), codes=REFUSED)
    assert MEBIBYTES <= 1024
