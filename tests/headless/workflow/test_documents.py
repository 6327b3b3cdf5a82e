import json
from pathlib import Path

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from support.workflows import editor, editor_node, node
from wuerstchen_core.errors import WorkflowError
from wuerstchen_nodes.headless.errors import UsageError
from wuerstchen_nodes.headless.workflow import documents
from wuerstchen_nodes.headless.workflow.documents import load_workflow
from wuerstchen_nodes.headless.workflow.editor import read_document

PROMPT = {"1": node("Number", value=1)}
EDITOR = editor([editor_node(1, "Number", widgets_values=[1])], [])


def write(path: Path, content: object) -> Path:
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def png(path: Path, **texts: str) -> Path:
    info = PngInfo()
    for key, text in texts.items():
        info.add_text(key, text)
    Image.new("RGB", (4, 4)).save(path, pnginfo=info)
    return path


def test_reads_both_formats_and_the_body_of_a_request(tmp_path):
    assert load_workflow(write(tmp_path / "e.json", EDITOR)).editor == EDITOR
    assert load_workflow(write(tmp_path / "p.json", PROMPT)).prompt == PROMPT
    assert load_workflow(write(tmp_path / "r.json", {"prompt": PROMPT, "client_id": "x"})).prompt == PROMPT
    assert load_workflow(PROMPT).prompt == PROMPT


def test_reads_text_with_a_byte_order_mark(tmp_path):
    path = tmp_path / "w.json"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(PROMPT).encode())
    assert load_workflow(path).prompt == PROMPT


def test_a_png_carries_both_formats(tmp_path):
    found = load_workflow(png(tmp_path / "w.png", prompt=json.dumps(PROMPT), workflow=json.dumps(EDITOR)))
    assert (found.prompt, found.editor) == (PROMPT, EDITOR)
    assert load_workflow(png(tmp_path / "e.png", workflow=json.dumps(EDITOR))).prompt is None


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"{", "not JSON: .* line 1, column 2"),
        (b"", "not JSON"),
        (b"\xff\xfe{\x00}\x00", "not UTF-8"),
        (b"[" * 100_000, "more than 100 levels deep"),
        (b"[" * 5_000 + b"]" * 5_000, "more than 100 levels deep"),
        (b'{"1": ' + b"9" * 5_000 + b"}", "cannot be|can be read|is a number"),
        (b"[]", "holds a list at the top"),
        (b'"x"', "holds a text at the top"),
        (b"null", "holds null at the top"),
        (b"7", "holds a number at the top"),
        (b"{}", "is empty"),
        (b'{"1": 5}', "entry '1' is a number"),
        (b'{"1": {"inputs": {}}}', "entry '1' is an object without class_type"),
        (b'{"1": {"class_type": "Number", "inputs": []}}', "inputs of node 1 are a list"),
        (b'{"nodes": {}}', "entry 'nodes' is an object without class_type"),
        (b"\x89PNG\r\n\x1a\n and then nothing", "damaged PNG"),
    ],
)
def test_says_what_is_wrong_with_a_file(tmp_path, content, says):
    path = tmp_path / "w.json"
    path.write_bytes(content)
    with pytest.raises(WorkflowError, match=says):
        load_workflow(path)


def test_a_png_without_a_workflow_or_with_a_broken_one(tmp_path):
    with pytest.raises(WorkflowError, match="PNG without a workflow"):
        load_workflow(png(tmp_path / "w.png"))
    with pytest.raises(WorkflowError, match=r"w.png \(prompt\) is not JSON"):
        load_workflow(png(tmp_path / "w.png", prompt="{"))
    truncated = png(tmp_path / "t.png", prompt=json.dumps(PROMPT))
    truncated.write_bytes(truncated.read_bytes()[:60])
    with pytest.raises(WorkflowError, match=r"damaged PNG|without a workflow"):
        load_workflow(truncated)


@pytest.mark.parametrize("path", ["absent.json", ".", "nul\0l", "w.json/x.json"])
def test_a_path_that_cannot_be_opened_is_bad_usage(tmp_path, path):
    (tmp_path / "w.json").write_text("{}")
    with pytest.raises(UsageError, match="Give the path of a workflow"):
        load_workflow(path)


def test_a_file_too_large_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(documents, "MAX_TEXT_BYTES", 10)
    with pytest.raises(WorkflowError, match="larger than"):
        load_workflow(write(tmp_path / "w.json", PROMPT))


def test_links_as_lists_and_as_objects_are_one():
    as_list = read_document(editor([], [[4, 1, 0, 2, 1, "INT"]]), "w")
    fields = {"id": 4, "origin_id": 1, "origin_slot": 0, "target_id": 2, "target_slot": 1, "type": "INT"}
    as_objects = read_document({"nodes": [], "links": [fields], "version": 1}, "w")
    assert as_list.links == as_objects.links
    assert as_list.links[0].origin_id == 1
    assert read_document({"nodes": [], "links": [None]}, "w").links == []


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ({"nodes": [5]}, "nodes.0"),
        ({"nodes": [{"id": 1}]}, "nodes.0.type"),
        ({"nodes": [{"id": 1, "type": "Number", "inputs": 3}]}, "nodes.0.inputs"),
        ({"nodes": [], "links": [[1, 2]]}, "links.0"),
        ({"nodes": [], "links": "x"}, "links"),
    ],
)
def test_an_editor_document_of_the_wrong_shape_is_located(document, says):
    with pytest.raises(WorkflowError, match=f"{says}.*save it again from the editor"):
        read_document(document, "w.json")
