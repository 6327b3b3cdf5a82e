"""Reading of files from strangers: regular files, bounded sizes, JSON that is what it seems."""

import os
import random
import re
from io import BytesIO
from pathlib import Path

import numpy
import pytest
from PIL import Image, ImageFile
from PIL.PngImagePlugin import PngInfo

from support.attacks import within
from wuerstchen_core.files import picture_headers, pictures, untrusted
from wuerstchen_core.files.pictures import TooLargeError, read_frames, read_picture
from wuerstchen_core.files.untrusted import (
    check_json,
    check_size,
    open_file,
    parse_json,
    read_bytes,
    read_json,
    sha256_of,
)


@pytest.mark.parametrize("kind", ["pipe", "folder", "device"])
def test_only_regular_files_are_opened_and_none_is_waited_for(tmp_path, kind):
    path = tmp_path / "file"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")
    bounded = (lambda each: read_bytes(each, 10), lambda each: check_size(each, 10))
    for read in (open_file, sha256_of, read_json, *bounded, read_picture):
        with within(5), pytest.raises(OSError, match=r"not a file|Is a directory"):
            read(path)


def test_a_file_is_read_up_to_its_limit(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    assert read_bytes(path, 5) == b"12345"
    check_size(path, 5)
    for read in (read_bytes, check_size):
        with pytest.raises(OSError, match="larger than 4 bytes"):
            read(path, 4)
    assert sha256_of(path) == "5994471abb01112afcc18159f6cc74b4f511b99806da59b3caf5a9c173cacfc5"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"a": 1, "a": 2}', "the key 'a' twice"),
        ("[" * 101 + "]" * 101, "more than 100 levels"),
        ("[" * 100_000 + "]" * 100_000, "more than 100 levels"),
        ('{"a":' * 600 + "1" + "}" * 600, "more than 100 levels"),
        (r'["\ud83d"]', "half a character"),
        (r'{"\udc00": 1}', "half a character"),
        ("[" + "0," * 3_000_001 + "0]", "more than 3,000,000 values"),
        ("1" * 5000, "digits"),
        ("{" + "".join(f'"{key}": 0,' for key in range(200_000)) + '"last": 0, "last": 0}', "the key 'last' twice"),
    ],
)
def test_json_that_is_not_what_it_seems_is_refused(text, problem):
    with within(20), pytest.raises(ValueError, match=problem):
        parse_json(text)


def test_json_within_the_limits_is_read(tmp_path):
    deep = "[" * 100 + "]" * 100
    path = tmp_path / "file.json"
    path.write_text('\ufeff{"a": ' + deep[1:-1] + r', "b": "\ud83d\ude00", "c": NaN}', encoding="utf-8")
    found = read_json(path)
    assert found["b"] == "\U0001f600" and found["c"] != found["c"]
    with pytest.raises(ValueError, match="levels"):
        check_json(_chain(200))


def _chain(length: int) -> list:
    chain: list = []
    for _ in range(length):
        chain = [chain]
    return chain


def test_a_document_that_holds_itself_is_too_deep():
    document: dict = {}
    document["self"] = document
    with pytest.raises(ValueError, match="levels"):
        check_json(document)


def _png(**texts: str) -> bytes:
    info = PngInfo()
    for key, text in texts.items():
        info.add_text(key, text, zip=True)
    data = BytesIO()
    Image.new("RGB", (3, 2)).save(data, "PNG", pnginfo=info)
    return data.getvalue()


def test_compressed_texts_may_be_as_large_as_a_workflow(monkeypatch):
    data = _png(prompt="x" * 2 * 2**20)
    assert len(read_picture(data).info["prompt"]) == 2 * 2**20
    monkeypatch.setattr("wuerstchen_core.files.pictures.MAX_TEXT_BYTES", 2**20)
    with pytest.raises(ValueError, match="too large"):
        read_picture(data)


def test_frames_may_have_as_many_pixels_as_one_picture_and_are_bounded(monkeypatch):
    data = BytesIO()
    frames = [Image.new("L", (10, 10), shade) for shade in (0, 99, 200)]
    frames[0].save(data, "GIF", save_all=True, append_images=frames[1:])
    assert len(read_frames(data.getvalue())) == 3
    with monkeypatch.context() as patch, pytest.raises(TooLargeError, match="too many frames"):
        patch.setattr(pictures, "MAX_FRAMES", 2)
        read_frames(data.getvalue())
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 250)
    with pytest.raises(TooLargeError):
        read_frames(data.getvalue())
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 90)
    with pytest.raises(TooLargeError):
        read_picture(data.getvalue())


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_of_a_camera_is_read(progressive):
    """Its entropy-coded data, a profile in many segments and what lies after its end count as no segments."""
    noise = Image.frombytes("RGB", (512, 512), random.Random(0).randbytes(512 * 512 * 3))
    data = BytesIO()
    noise.save(data, "JPEG", quality=98, progressive=progressive, icc_profile=bytes(10**6), comment=b"\xff\xda" * 999)
    film = b"\xff\xd9" + b"\xff\xda\0\2" * 999
    assert read_picture(data.getvalue() + film).size == (512, 512)


def test_a_picture_with_a_long_side_is_refused_before_it_is_decoded(monkeypatch):
    data = BytesIO()
    Image.new("RGB", (9, 7)).save(data, "PNG")
    assert read_picture(data.getvalue(), 9).size == read_frames(data.getvalue(), 9)[0].size == (9, 7)
    monkeypatch.setattr(ImageFile.ImageFile, "load", None)
    for read in (read_picture, read_frames):
        with pytest.raises(TooLargeError, match="it has 9 x 7 pixels; expected at most 8 on a side"):
            read(data.getvalue(), 8)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_a_picture_is_turned_upright_once(kind):
    data = BytesIO()
    exif = Image.Exif()
    exif[274] = 6
    Image.new("RGB", (9, 7)).save(data, kind, exif=exif)
    assert read_picture(data.getvalue()).size == read_frames(data.getvalue())[0].size == (7, 9)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "MPO", "WEBP", "GIF", "BMP", "TIFF"])
def test_formats_that_are_read(kind):
    """Some cameras write JPEGs that Pillow calls MPO."""
    data = BytesIO()
    more = {"save_all": True, "append_images": [Image.new("RGB", (9, 7), "blue")]} if kind == "MPO" else {}
    Image.new("RGB", (9, 7), "red").save(data, kind, **more)
    picture, frames = read_picture(data.getvalue()), read_frames(data.getvalue())
    assert picture.size == (9, 7) and len(frames) == 1
    assert numpy.abs(numpy.asarray(picture.convert("RGB"), int) - (255, 0, 0)).max() < 5


def test_a_marker_between_two_blocks_is_counted(monkeypatch):
    monkeypatch.setattr(picture_headers, "_BLOCK", 7)
    data = BytesIO()
    Image.new("RGB", (64, 64)).save(data, "JPEG", progressive=True)
    scans = len(re.findall(rb"\xff\xda", data.getvalue()))
    monkeypatch.setattr(picture_headers, "MAX_SCANS", scans)
    assert read_picture(data.getvalue()).size == (64, 64)
    monkeypatch.setattr(picture_headers, "MAX_SCANS", scans - 1)
    with pytest.raises(ValueError, match=f"more than {scans - 1} scans"):
        read_picture(data.getvalue())


def test_compressed_texts_share_what_a_workflow_may_have(monkeypatch):
    data = _png(prompt="x" * 3 * 2**20, workflow="y" * 3 * 2**20)
    assert len(read_picture(data).info["workflow"]) == 3 * 2**20
    monkeypatch.setattr("wuerstchen_core.files.pictures.MAX_TEXT_BYTES", 5 * 2**20)
    with pytest.raises(ValueError, match="too large"):
        read_picture(data)


OWN = {
    "nodes/comfy/downloads.py": "lines of a process of this program",
    "nodes/headless/threads.py": "limits of the system",
    "nodes/headless/cli/warm.py": "messages of the user's own server",
    "nodes/headless/cli/grid.py": "pictures of this run",
    "nodes/headless/cli/verbs.py": "the picture of this run",
    "nodes/headless/batch/engines/attempts.py": "results of this run, in a folder that was emptied before",
    "nodes/headless/batch/engines/cluster.py": "a token of this run",
    "nodes/headless/batch/folder/page.py": "a template of the package",
    "nodes/headless/batch/folder/row_files.py": "pictures of this run",
    "nodes/headless/execution/signatures.py": "the code of the package",
    "nodes/headless/execution/read_ahead.py": "files that `locate` has checked, not read by this program",
    "wuerstchen_core/networks/processor.py": "facts of the system",
    "wuerstchen_core/networks/tiling.py": "facts of the system",
    "wuerstchen_core/training/pool.py": "pictures of this training",
    "wuerstchen_core/training/export.py": "files of this training",
    "wuerstchen_core/training/settings.py": "a copy of settings",
    "wuerstchen_core/training/text.py": "a tokenizer of this training",
}
"""Files of code that read something themselves, and what that is."""
READING = re.compile(
    r"\.read_(?:text|bytes)\(|\.open\(\"r|\bjson\.loads?\(|\bImage\.open\(|\bpickle\.loads?\(|\btorch\.load\("
)


def test_files_of_users_are_read_by_one_reader_alone():
    root = Path(__file__).parents[2]
    readers = {
        path.relative_to(root).as_posix()
        for package in ("nodes", "wuerstchen_core")
        for path in (root / package).rglob("*.py")
        if READING.search(re.sub(r"untrusted\.\w+\(", "", path.read_text(encoding="utf-8")))
    }
    inside = {path for path in readers if path.startswith("wuerstchen_core/files/")}
    pickles = {"wuerstchen_core/checkpoints/pickles.py", "nodes/headless/batch/engines/ray.py"}
    assert readers - inside - pickles <= set(OWN), "read it by wuerstchen_core.files, or say here what it is"
    assert set(OWN) <= readers


def test_sizes_are_named_in_whole_units():
    assert [untrusted.size_text(size) for size in (10, 2**10, 64 * 2**20, 2**31)] == [
        *("10 bytes", "1 KiB", "64 MiB", "2 GiB")
    ]
