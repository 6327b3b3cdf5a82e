"""Pictures that attack: as workflows, and as pictures and masks that a workflow loads."""

import json
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from support.attacks import Attack
from support.pngs import SIGNATURE, Header, chunk, compressed, header, international, pixels, png, text
from support.workflows import node
from wuerstchen_nodes.headless.report import BAD_USAGE, FAILED, INVALID_WORKFLOW

GRAPH = json.dumps(
    {"1": node("LoadImage", image="in.png"), "2": node("SaveImage", images=["1", 0], filename_prefix="x")}
)
BOMB = zlib.compress(bytes(80 * 2**20))
"""A text of 80 MiB, compressed."""
LARGE = GRAPH[:-1] + ', "3": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}, "_meta": {"title": "%s"}}}'
EDITOR = json.dumps({"nodes": [], "links": []})

HOSTILE: dict[str, bytes] = {
    "empty": b"",
    "signature": SIGNATURE,
    "half a signature": SIGNATURE[:5],
    "end alone": SIGNATURE + chunk(b"IEND"),
    "header twice": png(header()),
    "no header": SIGNATURE + pixels() + chunk(b"IEND"),
    "no pixels": SIGNATURE + header() + chunk(b"IEND"),
    "no end": SIGNATURE + header() + pixels(),
    "negative length": SIGNATURE + header() + chunk(b"tEXt", b"a\0b", length=2**32 - 1) + pixels(),
    "large length": SIGNATURE + header() + chunk(b"tEXt", b"a\0b", length=2**31 - 1) + pixels(),
    "wrong checksum": SIGNATURE + header() + chunk(b"tEXt", b"a\0b", checksum=1) + pixels() + chunk(b"IEND"),
    "wrong checksum of pixels": SIGNATURE + header() + pixels()[:-4] + b"abcd" + chunk(b"IEND"),
    "odd chunk": png(chunk(b"\0\0\0\0")),
    "0 x 0": SIGNATURE + header(Header(0, 0)) + pixels() + chunk(b"IEND"),
    "0 wide": SIGNATURE + header(Header(0, 9)) + pixels() + chunk(b"IEND"),
    "100,000 x 100,000": SIGNATURE + header(Header(100_000, 100_000)) + pixels() + chunk(b"IEND"),
    "2**31 x 1": SIGNATURE + header(Header(2**31 - 1, 1)) + pixels() + chunk(b"IEND"),
    "2**32 x 2**32": SIGNATURE + header(Header(2**32 - 1, 2**32 - 1)) + pixels() + chunk(b"IEND"),
    "9,400 x 9,400 of nothing": SIGNATURE + header(Header(9400, 9400)) + pixels() + chunk(b"IEND"),
    "pixels that expand": SIGNATURE + header() + pixels(BOMB) + chunk(b"IEND"),
    "pixels that are junk": SIGNATURE + header() + pixels(b"junk" * 99) + chunk(b"IEND"),
    "depth 3": SIGNATURE + header(Header(depth=3)) + pixels() + chunk(b"IEND"),
    "colour 5": SIGNATURE + header(Header(colour=5)) + pixels() + chunk(b"IEND"),
    "colour 3 without a palette": SIGNATURE + header(Header(colour=3)) + pixels() + chunk(b"IEND"),
    "compression 9": SIGNATURE + header(Header(compression=9)) + pixels() + chunk(b"IEND"),
    "filtering 9": SIGNATURE + header(Header(filtering=9)) + pixels() + chunk(b"IEND"),
    "interlacing 9": SIGNATURE + header(Header(interlacing=9)) + pixels() + chunk(b"IEND"),
    "palette of 2 bytes": png(chunk(b"PLTE", b"ab")),
    "profile that expands": png(chunk(b"iCCP", b"a\0\0" + BOMB)),
    "profile that is junk": png(chunk(b"iCCP", b"a\0\0junk")),
    "exif that is junk": png(chunk(b"eXIf", b"MM\0*" + b"\xff" * 60)),
    "exif in a circle": png(chunk(b"eXIf", b"MM\0*\0\0\0\x08\0\1\x87\x69\0\4\0\0\0\1\0\0\0\x08\0\0\0\x08")),
    "frames without end": png(chunk(b"acTL", b"\xff\xff\xff\xff\0\0\0\0")),
    "frame outside": png(
        chunk(b"acTL", b"\0\0\0\2\0\0\0\0"), chunk(b"fcTL", b"\0\0\0\0" + b"\x7f\xff\xff\xff" * 4 + bytes(6))
    ),
    "text without a value": png(chunk(b"tEXt", b"prompt")),
    "compressed text without a value": png(chunk(b"zTXt", b"prompt")),
    "compressed text of method 7": png(compressed(b"prompt", b"{}", method=7)),
    "compressed text that is junk": png(chunk(b"zTXt", b"prompt\0\0junk")),
    "text that expands": png(chunk(b"zTXt", b"prompt\0\0" + BOMB)),
    "text that expands, twice": png(chunk(b"zTXt", b"prompt\0\0" + BOMB), chunk(b"zTXt", b"workflow\0\0" + BOMB)),
    "international text that expands": png(chunk(b"iTXt", b"prompt\0\1\0\0\0" + BOMB)),
    "international text with a flag of 9": png(international(b"prompt", b"{}", flag=9)),
    "international text that is no UTF-8": png(international(b"prompt", b"\xff\xfe")),
    "international text without a language": png(chunk(b"iTXt", b"prompt\0\0\0")),
    "1,000 texts": png(*(text(b"%d" % each, b"x" * 999) for each in range(1000))),
    "text of every byte": png(text(b"prompt", bytes(range(256)))),
    "a GIF": b"GIF89a" + bytes(200),
    "a TIFF in a circle": b"II*\0\x08\0\0\0\1\0\0\1\4\0\1\0\0\0\1\0\0\0\x08\0\0\0",
    "a JPEG's head": b"\xff\xd8\xff\xe0\0\x10JFIF" + bytes(99),
    "a BMP of 2**31": b"BM" + bytes(12) + (40).to_bytes(4, "little") + b"\xff\xff\xff\x7f" * 2 + bytes(28),
    "a WebP's head": b"RIFF\xff\xff\xff\xffWEBPVP8X" + bytes(20),
    "an icon": b"\0\0\1\0\1\0" + b"\xff" * 40,
    "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/x) run\n",
    "SVG": b"<svg xmlns='http://www.w3.org/2000/svg'><script>1</script></svg>",
    "HTML": b"<html></html>",
    "zeros": bytes(5000),
}
"""Pictures by what is wrong with them."""


def gif(frames: int) -> bytes:
    data = BytesIO()
    first = Image.new("L", (1000, 1000))
    first.save(
        data, "GIF", save_all=True, append_images=[Image.new("L", (1000, 1000), each % 256) for each in range(frames)]
    )
    return data.getvalue()


@pytest.mark.parametrize("name", list(HOSTILE))
@pytest.mark.parametrize("verb", ["validate", "convert"])
def test_a_picture_that_is_no_workflow(attack, verb, name):
    Path("w.png").write_bytes(HOSTILE[name])
    attack.here(verb, "w.png", codes=frozenset({INVALID_WORKFLOW}))


@pytest.mark.parametrize("name", list(HOSTILE))
@pytest.mark.parametrize("loader", ["LoadImage", "LoadImageMask"])
def test_a_picture_that_is_loaded(attack, loader, name):
    Path("in.png").write_bytes(HOSTILE[name])
    shown = node("SaveImage", images=["1", 0], filename_prefix="x")
    load = node("LoadImage", image="in.png")
    document = {"1": load, "2": shown}
    if loader == "LoadImageMask":
        Image.new("RGB", (4, 4)).save("ok.png")
        document = {
            "0": node("LoadImage", image="ok.png"),
            "m": node(loader, image="in.png", channel="alpha"),
            "1": node(
                "ImageCompositeMasked",
                destination=["0", 0],
                source=["0", 0],
                x=0,
                y=0,
                resize_source=False,
                mask=["m", 0],
            ),
            "2": shown,
        }
    Path("w.json").write_text(json.dumps(document))
    attack.here("run", "w.json", "--no-cache", codes=frozenset({FAILED}), may_succeed=True)


@pytest.mark.parametrize(
    "name", ["text that expands", "pixels that expand", "100,000 x 100,000", "profile that expands"]
)
def test_bombs_take_little_memory(attack, name):
    Path("w.png").write_bytes(HOSTILE[name])
    attack.alone("validate", "w.png", codes=frozenset({INVALID_WORKFLOW}))
    Path("w.json").write_text(GRAPH.replace("in.png", "w.png"))
    attack.alone("run", "w.json", "--no-cache", codes=frozenset({FAILED}), may_succeed=True)


def gif_of_small_frames(count: int) -> bytes:
    """Return a GIF whose frames have one pixel and 23 bytes each."""
    size = (1).to_bytes(2, "little") * 2
    start = b"GIF89a" + size + b"\x80\0\0" + b"\0\0\0" + b"\xff\xff\xff"
    frame = b"\x21\xf9\x04\x04\x01\0\0\0" + b"\x2c" + b"\0" * 4 + size + b"\0" + b"\x02\x02\x44\x01\0"
    return start + frame * count + b"\x3b"


@pytest.mark.parametrize(
    ("film", "count"), [pytest.param(gif, 200, marks=pytest.mark.long), (gif_of_small_frames, 1_000_000)]
)
def test_a_film_of_many_frames_is_refused(attack, film, count):
    Path("in.gif").write_bytes(film(count))
    Path("w.json").write_text(GRAPH.replace("in.png", "in.gif"))
    _, error = attack.alone("run", "w.json", "--no-cache", codes=frozenset({FAILED}))
    assert "too large an image" in error


def workflow_png(
    attack: Attack, *chunks: bytes, codes: Any = frozenset({INVALID_WORKFLOW}), may_succeed: bool = False
) -> int:
    Image.new("RGB", (4, 4)).save("in.png")
    Path("w.png").write_bytes(png(*chunks))
    return attack.here("validate", "w.png", codes=codes, may_succeed=may_succeed)[0]


@pytest.mark.parametrize(
    "form", [text, compressed, international, lambda key, value: international(key, value, flag=1)]
)
@pytest.mark.parametrize("size", [0, 2**10, 2 * 2**20])
def test_a_workflow_in_any_kind_of_text_is_read(attack, form, size):
    value = (LARGE % ("x" * size)).encode()
    assert workflow_png(attack, form(b"prompt", value), may_succeed=True) == 0
    assert workflow_png(attack, form(b"x", b"y" * size), form(b"prompt", value), may_succeed=True) == 0


@pytest.mark.parametrize(
    "texts",
    [
        {b"prompt": b""},
        {b"prompt": b"{}", b"workflow": b"{}"},
        {b"prompt": b"NaN"},
        {b"prompt": b"[" * 9999},
        {b"prompt": EDITOR.encode(), b"workflow": GRAPH.encode()},
        {b"prompt": b"{", b"workflow": EDITOR.encode()},
        {b"workflow": b"null"},
        {b"Prompt": GRAPH.encode()},
        {b"prompt ": GRAPH.encode()},
        {b"prompt": b"\0" + GRAPH.encode()},
        {b"prompt": GRAPH.encode() + b"\0"},
        {b"prompt": b'{"1": {"class_type": "LoadImage", "class_type": "SaveImage"}}'},
        {b"prompt": rb'{"1": {"class_type": "\ud800", "inputs": {}}}'},
        {b"workflow": b'{"nodes": [{"id": 1, "type": "x", "extra": ' + b"[" * 600 + b"]" * 600 + b"}]}"},
    ],
)
@pytest.mark.parametrize("form", [text, compressed, international])
def test_texts_that_are_no_workflow(attack, form, texts):
    workflow_png(attack, *(form(key, value) for key, value in texts.items()))


def test_a_saved_picture_that_is_cut_at_every_kilobyte(attack):
    Path("w.json").write_text(GRAPH)
    random = np.random.default_rng(0)
    Image.fromarray(random.integers(0, 256, (200, 200, 3), np.uint8)).save("in.png")
    code, _ = attack.here("run", "w.json", "--out", "whole.png", "--no-cache", may_succeed=True)
    data = Path("whole.png").read_bytes()
    assert code == 0 and len(data) > 100 * 1024
    for end in range(0, len(data) - 16, 1024):
        Path("cut.png").write_bytes(data[:end])
        attack.here("validate", "cut.png", codes=frozenset({INVALID_WORKFLOW}))
    for end in range(0, len(data) - 16, 16 * 1024):
        Path("in.png").write_bytes(data[:end])
        attack.here("run", "w.json", "--no-cache", codes=frozenset({FAILED}))


def test_a_saved_picture_with_any_byte_changed(attack):
    Path("w.json").write_text(GRAPH)
    Image.new("RGB", (4, 4), "red").save("in.png")
    attack.here("run", "w.json", "--out", "whole.png", "--no-cache", may_succeed=True)
    data = Path("whole.png").read_bytes()
    for place in range(len(data)):
        Path("odd.png").write_bytes(data[:place] + bytes([data[place] ^ 0x55]) + data[place + 1 :])
        attack.here("validate", "odd.png", codes=frozenset({INVALID_WORKFLOW, BAD_USAGE}), may_succeed=True)


@pytest.mark.long
def test_a_file_of_a_gigabyte(attack):
    for name in ("w.png", "w.json"):
        with open(name, "wb") as file:
            file.write(SIGNATURE if name == "w.png" else b"{")
            file.truncate(2**30)
        attack.alone("validate", name, codes=frozenset({INVALID_WORKFLOW}))
        Path("load.json").write_text(GRAPH.replace("in.png", name))
        attack.alone("run", "load.json", "--no-cache", codes=frozenset({INVALID_WORKFLOW}))
