"""A ComfyUI server that misleads a run by the files that it names, and by what it sends for them."""

from pathlib import Path

import pytest

from support.hostile_server import FILE, PNG, SHAPES, command, http, pictures, says
from wuerstchen_nodes.headless.report import FAILED
from wuerstchen_nodes.headless.server import run, saved

NAMES = [
    *("", ".", "..", "../x.png", "../../../x.png", "/x.png", "/etc/passwd", "//x", "a/b.png", "a/../../x.png", "./x"),
    *("C:\\x.png", "..\\x.png", "\\\\host\\share", "\\x", "x\0.png", "\0", "x\n.png", "\x1b[31m.png", "x" * 5000),
    *("\u00e4" * 128, "x" * 256, "\u202egnp.x", *SHAPES),
]
"""Names that no file of a server has."""


def test_a_file_of_a_name_that_is_none_is_not_saved(attack, server):
    for name in NAMES:
        for key in ("filename", "subfolder"):
            if name == "text" or (key == "subfolder" and name in (None, "", "a/b.png", "C:\\x.png")):  # right there
                continue
            for kind in ("output", "temp") if key == "filename" else ("output",):
                server.restore()
                server.outputs = {"1": {"images": [{**FILE, "type": kind, key: name}]}}
                command(attack, server)
    assert not Path("output").exists()


def test_a_file_of_a_strange_name_stays_in_the_folder(attack, server, tmp_path):
    Path("link").symlink_to("/tmp")
    strange = ["-rf", "~", "$HOME", "%s{prefix}", "a b", "...", ".x", "x.", "con", "nul.png", "\u2126.png", "a:b", "*?"]
    strange += [f"{'x' * 251}.png", f"x.{'p' * 240}", "x_00001_.png", "_00001_.png", "_00001_", "x.py", "x.PNG.exe"]
    for name in strange:
        for folder in ("", "sub\\deep"):
            server.restore()
            server.outputs = {"1": {"images": [{**FILE, "filename": name, "subfolder": folder}]}}
            command(attack, server, frozenset({FAILED}), well=True)
    assert len(pictures()) > 30
    Path("output/way").symlink_to(tmp_path.parent)
    server.outputs = {"1": {"images": [{**FILE, "subfolder": "way"}]}}
    assert "leads out of the output folder" in command(attack, server, frozenset({FAILED}))


@pytest.mark.long
def test_items_that_are_no_files_are_passed_over(attack, server):
    for shape in SHAPES:
        for items in (shape, [shape], [{**FILE, "type": shape}], [{"type": "output", "a": shape}]):
            for kind in ("images", "other"):
                server.restore()
                server.outputs = {"1": {kind: items}, "none": {kind: items}}
                command(attack, server, frozenset(), well=True)


def test_a_file_that_is_named_again_and_again_is_saved_once(attack, server):
    server.outputs = {str(node): {"images": [FILE] * 10_000} for node in range(10)}
    attack.here("run", "w.json", "--server", server.url, may_succeed=True)
    assert pictures() == ["picture_00001_.png"] and server.asked.count("GET /view") == 1


def test_files_without_end_are_given_up(attack, server, monkeypatch):
    monkeypatch.setattr(run, "MAX_FILES", 20)
    server.outputs = {"1": {"images": [{**FILE, "filename": f"x_{index:05}_.png"} for index in range(21)]}}
    assert "more than 20 saved files" in command(attack, server)
    assert saved.MAX_FILES == 10_000


CONTENT = [b"", b"<html>", PNG[:8], PNG[:-1], PNG[:40], b"\xff\xd8\xff jpeg", b"MZ", bytes(1000), b"GIF89a", PNG[1:]]


def test_a_picture_that_is_none_is_not_saved(attack, server):
    for content in CONTENT:
        for reply in (http(content), b"HTTP/1.1 200 OK\r\n\r\n" + content):
            server.replies["/view"] = says(reply)
            assert "no whole PNG file" in command(attack, server)
    assert not Path("output").exists()
