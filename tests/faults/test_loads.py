"""Files that attack when a workflow loads them: pictures of too many parts or other formats, and latents."""

import json
import re
import struct
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from support.pngs import SIGNATURE, Header, chunk, header, pixels, png
from support.workflows import node
from wuerstchen_nodes.headless.report import FAILED, INVALID_WORKFLOW

GRAPH = json.dumps(
    {"1": node("LoadImage", image="in.png"), "2": node("SaveImage", images=["1", 0], filename_prefix="x")}
)


def test_images_that_are_doubled_again_and_again_are_refused(attack):
    Image.new("RGB", (64, 64)).save("in.png")
    graph = {"0": node("LoadImage", image="in.png")}
    for step in range(39):
        graph[str(step + 1)] = node("ImageBatch", image1=[str(step), 0], image2=[str(step), 0])
    graph["last"] = node("SaveImage", images=["39", 0], filename_prefix="x")
    Path("w.json").write_text(json.dumps(graph))
    _, error = attack.alone("run", "w.json", "--no-cache", codes=frozenset({FAILED}))
    assert "expected at most 1,000 images" in error


def jpeg(*, segments: bytes = b"", scans: int = 0) -> bytes:
    """Return a progressive JPEG with further segments before, and further scans after its own."""
    data = BytesIO()
    Image.new("RGB", (8, 8)).save(data, "JPEG", progressive=True)
    start, end = data.getvalue()[:2], data.getvalue()[2:-2]
    return start + segments + end + end[end.rindex(b"\xff\xda") :] * scans + b"\xff\xd9"


def expanding(kind: bytes) -> bytes:
    """Return 300 chunks of 60 MiB each, compressed; the checksum inside is wrong, so that Pillow forgets each."""
    return chunk(kind, b"a\0\0" + zlib.compress(bytes(60 * 2**20), 9)[:-4] + b"junk") * 300


EXIF = b"\xff\xe1\0\x09Exif\0\0a"
REPEATED: dict[str, tuple[Callable[[], bytes], str]] = {
    "profiles of 60 MiB": (lambda: png(expanding(b"iCCP")), "profile"),
    "texts of 60 MiB": (lambda: png(expanding(b"zTXt")), "texts"),
    "chunks": (lambda: png(chunk(b"abCd") * 3_000_000), "chunks"),
    "a chunk of 70 MB": (lambda: png(chunk(b"abCd", bytes(70 * 10**6))), "beside its pixels"),
    "scans": (lambda: jpeg(scans=20_000), "scans"),
    "segments": (lambda: jpeg(segments=EXIF * 700_000), "segments"),
    "segments in an unknown one": (lambda: jpeg(segments=b"\xff\xf0\xff\xff" + EXIF * 700_000), "segments"),
    "padding": (lambda: jpeg(segments=b"\xff" * 20_000_000), "between its segments"),
    "junk": (lambda: jpeg(segments=b"\xff\xd9" + b"x" * 20_000_000), "between its segments"),
    "junk alone": (lambda: b"\xff\xd8\xff\xd9" + b"x" * 20_000_000, "between its segments"),
}
"""{what there is too much of: picture, word of the refusal}."""


@pytest.mark.parametrize("name", list(REPEATED))
def test_a_picture_of_too_many_parts_is_refused(attack, name):
    data, word = REPEATED[name]
    Path("in.png").write_bytes(data())
    Path("w.json").write_text(GRAPH)
    _, error = attack.here("run", "w.json", "--no-cache", codes=frozenset({FAILED}))
    assert word in error


POSTSCRIPT = """%%!PS-Adobe-3.0 EPSF-3.0
%%%%BoundingBox: 0 0 8 8
%%%%EndComments
(%s) (w) file (x) writestring
showpage
%%%%EOF
"""
OTHER_FORMATS: dict[str, Callable[[], bytes]] = {
    "EPS": lambda: (POSTSCRIPT % (Path.cwd() / "written")).encode(),
    "PPM": lambda: b"P3\n4000 4000\n255\n" + b"1 2 3 " * 4000 * 4000,
    "QOI": lambda: (
        b"qoif" + struct.pack(">IIBB", 5000, 4000, 3, 0) + b"\xfe\1\2\3" + b"\x6a" * 19_999_999 + b"\0" * 7 + b"\1"
    ),
    **{kind: lambda kind=kind: saved(kind) for kind in ("TGA", "PCX", "SGI", "ICO", "ICNS", "DDS", "JPEG2000")},
}


def saved(kind: str) -> bytes:
    data = BytesIO()
    Image.new("RGB", (16, 16)).save(data, kind)
    return data.getvalue()


@pytest.mark.parametrize("name", list(OTHER_FORMATS))
def test_a_format_that_no_one_needs_is_not_read(attack, name):
    Path("in.png").write_bytes(OTHER_FORMATS[name]())
    Path("w.json").write_text(GRAPH)
    _, error = attack.here("run", "w.json", "--no-cache", codes=frozenset({FAILED}))
    assert "it is none of PNG, JPEG" in error
    assert not Path("written").exists()


def test_bad_tags_are_not_warned_of_one_by_one(attack):
    bad = b"".join(struct.pack("<HHII", 1000 + tag, 1, 10**9, 8) for tag in range(60_000))
    exif = b"II*\0" + struct.pack("<IH", 8, 60_000) + bad + bytes(4)
    Path("in.png").write_bytes(png(chunk(b"eXIf", exif)))
    Path("w.json").write_text(GRAPH)
    code, error = attack.here("run", "w.json", "--no-cache", may_succeed=True)
    assert code == 0 and len(error.splitlines()) < 10


@pytest.mark.parametrize(("width", "height"), [(9400, 9400), (60_000, 1400)])
def test_a_picture_that_no_model_takes_is_refused_before_it_is_decoded(attack, width, height):
    Path("in.png").write_bytes(SIGNATURE + header(Header(width, height)) + pixels() + chunk(b"IEND"))
    Path("w.json").write_text(GRAPH)
    _, error = attack.here("run", "w.json", "--no-cache", codes=frozenset({FAILED}))
    assert f"it has {width} x {height} pixels; expected at most 8192 on a side" in error


def latent(dtype: str, shape: list[int], size: int) -> str:
    return json.dumps({"latent_tensor": {"dtype": dtype, "shape": shape, "data_offsets": [0, size]}})


EMPTY = '"%d": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}'
LATENTS: dict[str, tuple[Callable[[], str], int, str]] = {
    "491 MB": (lambda: latent("U8", [1, 16, 5541, 5541], 491_243_296), 491_243_296, "larger than 128 MiB"),
    "too many values": (lambda: latent("F16", [1, 16, 1024, 2048], 2**26), 2**26, "holds 33,554,432 values; expected"),
    "bytes": (lambda: latent("U8", [1, 16, 2700, 2700], 116_640_000), 116_640_000, "holds values of U8; expected"),
    "complex numbers": (lambda: latent("C64", [1, 16, 6, 6], 4608), 4608, "holds values of C64|is not a .latent file"),
    "less than it says": (lambda: latent("F32", [1, 16, 2**20, 2**20], 2304), 2304, "is not a .latent file"),
    "1,000,000 tensors": (lambda: "{" + ",".join(EMPTY % each for each in range(10**6)) + "}", 0, "900,000 lists"),
}
"""{what is wrong with it: header, number of bytes after it, pattern of the refusal}. An old safetensors has no C64."""


@pytest.mark.parametrize("name", list(LATENTS))
def test_a_latent_that_is_refused_before_it_is_read(attack, name):
    head, size, words = LATENTS[name]
    text = head().encode()
    with open("in.latent", "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + size)
    saver = node("SaveLatent", samples=["1", 0], filename_prefix="x")
    Path("w.json").write_text(json.dumps({"1": node("LoadLatent", latent="in.latent"), "2": saver}))
    _, error = attack.here("run", "w.json", "--no-cache", codes=frozenset({FAILED, INVALID_WORKFLOW}))
    assert re.search(words, error) and "in.latent" in error


@pytest.mark.parametrize(
    ("source", "saver"),
    [
        (node("LoadImage", image="in.png"), node("SaveImage", images=["1", 0], filename_prefix="x")),
        (node("LoadLatent", latent="in.png"), node("SaveLatent", samples=["1", 0], filename_prefix="x")),
    ],
)
def test_a_file_of_a_terabyte_is_not_read(attack, source, saver):
    with open("in.png", "wb") as file:
        file.write(SIGNATURE)
        file.truncate(2**40)
    Path("w.json").write_text(json.dumps({"1": source, "2": saver}))
    _, error = attack.here("run", "w.json", "--no-cache", codes=frozenset({INVALID_WORKFLOW}))
    assert "it is larger than" in error
