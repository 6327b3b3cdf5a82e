"""Broken workflows: whatever is in the file, there is one clear error or a run, and nothing outside the folder."""

import copy
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from support.workflows import editor, editor_node, node, socket
from wuerstchen_core.errors import WuerstchenError
from wuerstchen_nodes.headless.cli.checks import warnings_of, weights_of
from wuerstchen_nodes.headless.host import HeadlessHost
from wuerstchen_nodes.headless.output_files import OutputFiles
from wuerstchen_nodes.headless.run import execute, prepare, resolve
from wuerstchen_nodes.headless.stock.nodes import default_catalog
from wuerstchen_nodes.headless.workflow import examples
from wuerstchen_nodes.headless.workflow.documents import Workflow, load_workflow
from wuerstchen_nodes.host import using

GRAPHS = Path(__file__).parents[1] / "headless" / "workflow" / "graphs"
ANY = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
KEYS = st.sampled_from(
    [
        *("id", "type", "mode", "inputs", "outputs", "link", "links", "nodes", "widgets_values", "name", "widget"),
        *("title", "class_type", "properties", "definitions", "subgraphs", "origin_id", "origin_slot", "target_id"),
        *("version", "_meta", "prompt", "__value__"),
    ]
)
PARTS = st.sampled_from([2, 4, -10, -20, "Reroute", "PrimitiveNode", "SaveImage", "1", ["1", 0], ["3", 7], [], {}])
FUZZ = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to everything inside of a document."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(each for key, inner in inside for each in places(inner, (*path, key)))]


@st.composite
def broken(draw, documents: list[dict[str, Any]]) -> Any:
    """One of the documents with a few things replaced, removed, doubled or added."""
    document: Any = [copy.deepcopy(draw(st.sampled_from(documents)))]
    for _ in range(draw(st.integers(1, 4))):
        *way, last = draw(st.sampled_from(places(document)[1:]))
        holder = document
        for key in way:
            holder = holder[key]
        change = draw(st.sampled_from(["replace", "part", "remove", "double", "add"]))
        if change == "remove" and way:
            del holder[last]
        elif change == "double" and way and isinstance(holder, list):
            holder.append(copy.deepcopy(holder[last]))
        elif change == "add" and isinstance(holder, dict):
            holder[draw(KEYS)] = copy.deepcopy(draw(ANY | PARTS))
        else:
            holder[last] = copy.deepcopy(draw(PARTS if change == "part" else ANY))
    return document[0]


def as_read(folder: Path, document: Any) -> Workflow:
    """The document from a file."""
    path = folder / "w.json"
    path.write_text(json.dumps(document))
    return load_workflow(path)


EDITOR = [
    *(json.loads(examples.locate(name).read_text(encoding="utf-8")) for name in examples.names()),
    *(
        json.loads((GRAPHS / f"{name}.json").read_text(encoding="utf-8"))
        for name in (
            "subgraph_nested",
            "subgraph_twice",
            "primitives",
            "reroute_nodes",
            "bypassed_in_a_row",
            "version_1",
        )
    ),
]


def check(folder: Path, document: Any, tried: Callable[[int], None]) -> None:
    """Do all that `wuerstchen validate` does with a document."""
    tried(1)
    host, catalog = HeadlessHost(OutputFiles("out"), device="cpu"), default_catalog()
    try:
        prompt = prepare(as_read(folder, document), seed=5, host=host, catalog=catalog).prompt
        warnings_of(prompt)
        with using(host):
            weights_of(prompt, catalog)
    except WuerstchenError as error:
        assert str(error)


@given(broken(EDITOR))
@FUZZ
def test_a_broken_document_of_the_editor_is_one_clear_error(tmp_path, tried, document):
    check(tmp_path, document, tried)


RUNNABLE = [name for name in examples.names() if name != "comfyui_samplers"]
API = [
    json.loads((GRAPHS / "subgraph.prompt").read_text(encoding="utf-8")),
    *(resolve(load_workflow(examples.locate(name)), repeatable=True).prompt for name in RUNNABLE),
]


@given(broken(API))
@FUZZ
def test_a_broken_prompt_is_one_clear_error(tmp_path, tried, document):
    check(tmp_path, document, tried)


def pictures_through(prefix: Any) -> list[dict[str, Any]]:
    """Small workflows that run: a picture is loaded, saved under that name, and shown."""
    prompt = {
        "1": node("LoadImage", image="in.png"),
        "2": node("PrimitiveString", value=prefix),
        "3": node("SaveImage", images=["1", 0], filename_prefix=["2", 0]),
        "4": node("SaveImage", images=["1", 0], filename_prefix=prefix),
    }
    document = editor(
        [
            editor_node(1, "LoadImage", widgets_values=["in.png"]),
            editor_node(2, "SaveImage", inputs=[socket("images", "IMAGE", 1)], widgets_values=[prefix]),
        ],
        [[1, 1, 0, 2, 0, "IMAGE"]],
    )
    return [prompt, document]


WORDS = ["..", "/", "\\", "a", "~", "\0", "C:", ".", "%width%", "out", "%1.image%", " ", "{index}"]
NAMES = st.text(max_size=20) | st.lists(st.sampled_from(WORDS), max_size=8).map("".join)


@given(st.data())
@FUZZ
@pytest.mark.parametrize("out", ["made/out", "made/out/{prefix}_{index}.png", "made/out/{node}/x.png"])
def test_nothing_is_written_outside_of_the_output_folder(tmp_path, tried, out, data):
    tried(1)
    picture = tmp_path / "in.png"
    if not picture.exists():
        Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(picture)
    document = data.draw(broken(pictures_through(data.draw(NAMES))) | NAMES.map(lambda name: pictures_through(name)[0]))
    host = HeadlessHost(OutputFiles(out), input_folders=[tmp_path], device="cpu")
    try:
        execute(as_read(tmp_path, document), host=host)
    except WuerstchenError as error:
        assert str(error)
    allowed = {tmp_path / "in.png", tmp_path / "w.json"}
    written = {path for path in tmp_path.rglob("*") if path.is_file()} - allowed
    assert all(tmp_path / "made/out" in path.parents for path in written), written
    assert not (tmp_path.parent / "made").exists()
    assert os.getcwd() == str(tmp_path)
