"""Pictures, captions, settings and the folder of a training that are damaged or hostile: one line, and little time."""

import csv
import os
import socket
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from support.attacks import within
from wuerstchen_core import InputError
from wuerstchen_core.files import untrusted
from wuerstchen_core.training import encoded
from wuerstchen_core.training.captions import Captioned, captioned_pictures, read_prompts
from wuerstchen_core.training.encoded import Cache, buckets
from wuerstchen_core.training.finetune import Finetuning, Run
from wuerstchen_core.training.journal import Journal
from wuerstchen_core.training.validation import Validation
from wuerstchen_nodes.headless.report import BAD_USAGE

SECONDS = 10


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    """An empty folder to train in, and pictures/0.png."""
    monkeypatch.chdir(tmp_path)
    Path("pictures").mkdir()
    Image.new("RGB", (40, 30)).save("pictures/0.png")
    return tmp_path


def start() -> Run:
    return Run(Finetuning("lora", "cocktail", Path("pictures"), Path("out")))


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


THINGS = {
    "a pipe": _pipe,
    "a socket": _socket,
    "a folder": Path.mkdir,
    "a dangling link": lambda path: path.symlink_to("nowhere"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a link to a device": lambda path: path.symlink_to("/dev/zero"),
}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes here")
@pytest.mark.parametrize("table", [False, True], ids=["beside a text", "in a table"])
@pytest.mark.parametrize("thing", THINGS)
def test_what_is_no_file_is_no_picture(thing, table, tried):
    Path("pictures/0.png").unlink()
    THINGS[thing](Path("pictures/0.png"))
    if table:
        Path("pictures/metadata.csv").write_text("file_name,caption\n0.png,a cat\n")
    else:
        Path("pictures/0.txt").write_text("a cat")
    with (
        within(SECONDS),
        pytest.raises(InputError, match="is not there, or no file" if table else "holds no captioned"),
    ):
        start()
    tried(1)
    assert not Path("out").exists()


def test_a_picture_that_is_taken_away_is_one_line(monkeypatch, tried):
    monkeypatch.setattr(
        "wuerstchen_core.training.finetune.captioned_pictures", lambda source: [Captioned(Path("gone.png"), "a cat")]
    )
    with pytest.raises(InputError, match=r"gone.png cannot be read: No such file or directory. Check the file"):
        start()
    tried(1)


NAME = b"file_name,caption\n"
TABLES = {
    "a long caption": ("csv", NAME + b"0.png," + b"x" * 200_000, "line 2 cannot be read as CSV: field larger"),
    "a long header": ("csv", b"x" * 200_000 + b",caption\n0.png,a\n", "line 1 cannot be read as CSV: field larger"),
    "an open quote": ("csv", NAME + b'0.png,"' + b"x\n" * 100_000, "cannot be read as CSV: field larger"),
    "a caption above a prompt's length": ("csv", NAME + b"0.png," + b"x" * 20_001, "caption of 20,001 characters"),
    "a long name": ("csv", NAME + b"x" * 5000 + b".png,a", r"line 2 names 'x{299}\.\.\., and .* is not there"),
    "a name of long parts": ("csv", NAME + b"/x" * 20_000 + b",a", r"line 2 names .*\.\.\., and .* is not there"),
    "300,000 columns": (
        "csv",
        NAME[:-1] + b"," * 300_000 + b"\n" + b"0.png,a\n" * 3000,
        "has 300,002 columns; expected at most 1,000",
    ),
    "columns of long names": ("csv", b",".join([b"x" * 900] * 1000) + b"\na,b\n", r"has no file_name.*\.\.\.\.$"),
    "a line of 30 MB": ("csv", NAME + b"0.png," + b"a," * 15_000_000, "line 2 has 30,000,006 characters; expected"),
    "a JSON caption": ("jsonl", b'{"file_name": "0.png", "text": "%s"}' % (b"x" * 20_001), "caption of 20,001"),
    "a JSON name": ("jsonl", b'{"file_name": "%s", "text": "a"}' % (b"x" * 500_000), "line 1 names .* is not there"),
    "JSON keys": ("jsonl", b'{"%s": 1}' % (b"x" * 500_000), r"has no file_name.*\.\.\.\.$"),
    "a JSON line of 30 MB": ("jsonl", b'{"a": [%s1]}' % (b"1," * 15_000_000), "line 1 has 30,000,010 characters"),
}


@pytest.mark.parametrize("case", TABLES)
def test_a_table_is_refused_in_one_line(case, tried):
    kind, content, message = TABLES[case]
    Path(f"pictures/metadata.{kind}").write_bytes(content)
    with within(SECONDS), pytest.raises(InputError, match=message) as refused:
        captioned_pictures("pictures")
    tried(1)
    assert len(str(refused.value)) < 2000


@pytest.mark.parametrize("size", [80_004, 60_000_000, 60 * 2**30])
def test_a_long_caption_beside_a_picture_is_not_read(size, tried):
    Path("pictures/0.txt").touch()
    os.truncate("pictures/0.txt", size)
    with (
        within(SECONDS),
        pytest.raises(InputError, match=r"0.txt cannot be read: it is larger than 80003 bytes. Shorten"),
    ):
        captioned_pictures("pictures")
    tried(1)


def test_the_longest_captions_are_read(tried):
    for text in ("\ufeff" + "\U0001f431" * 20_000, "x" * 20_000):
        Path("pictures/0.txt").write_text(text, encoding="utf-8")
        assert len(captioned_pictures("pictures")[0].caption) == 20_000
        tried(1)
    Path("pictures/0.txt").write_text("x" * 20_001)
    with pytest.raises(InputError, match=r"0.txt has a caption of 20,001 characters; expected at most 20,000"):
        captioned_pictures("pictures")
    tried(1)


@pytest.mark.parametrize("name", ["x" * 5000, "~no-such-user/pictures", "x/" * 3000, "x.csv" * 1000])
def test_a_source_that_no_disk_holds_does_not_exist(name, tried):
    with pytest.raises(InputError, match="does not exist; expected a folder of pictures"):
        captioned_pictures(name)
    with pytest.raises(InputError, match="cannot be read: "):
        read_prompts(name)
    tried(2)


def test_a_picture_that_a_table_names_often_is_read_once(monkeypatch, tried):
    reads = []

    def opened(path):
        reads.append(path)
        return untrusted.open_file(path)

    monkeypatch.setattr(encoded, "open_file", opened)
    os.link("pictures/0.png", "pictures/same.png")
    names = ["0.png", "./0.png", "../pictures/0.png", "same.png"] * 50
    Path("pictures/metadata.csv").write_text("file_name,caption\n" + "".join(f"{name},a\n" for name in names))
    start()
    assert len(reads) == 1
    given = captioned_pictures("pictures")
    examples = Cache(Path("cache"), "", "").encode_pictures(given, buckets(128), lambda _: torch.zeros(1, 16, 3, 3))
    assert len(reads) == 2 and len(examples) == 200
    tried(len(names))


@pytest.mark.parametrize("size", [2**30 + 1, 60 * 10**9])
def test_a_huge_picture_is_refused_before_it_is_read(size, tried):
    os.truncate("pictures/0.png", size)
    Path("pictures/0.txt").write_text("a cat")
    with within(SECONDS), pytest.raises(InputError, match=r"0.png has .* bytes; expected a picture of at most 1 GiB"):
        start()
    tried(1)


SETTINGS = {
    "resolution": ("4097", "100000", "10000000"),
    "rank": ("4097", "1000000000"),
    "batch": ("4097", "1000000000"),
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name in SETTINGS for value in SETTINGS[name]])
def test_a_huge_setting_is_refused(name, value, attack):
    Path("pictures/0.txt").write_text("a cat")
    places = ("--pictures", "pictures", "--out", "out")
    _, error = attack.here("train", "lora", *places, f"--{name}", value, codes=frozenset({BAD_USAGE}))
    assert f"{name} is {value}; expected at most 4096" in error
    assert not Path("out").exists()


PICTURES = {
    "three sizes": {"size": torch.tensor([128, 128, 128])},
    "one size": {"size": torch.tensor(128)},
    "no size": {"size": torch.zeros(0)},
    "a size of no bucket": {"size": torch.tensor([128, 4096])},
    "sizes that are no numbers": {"size": torch.tensor([float("nan"), 128.0])},
    "other channels": {"value": torch.zeros(4, 3, 3)},
    "another height": {"value": torch.zeros(16, 4, 3)},
    "a batch": {"value": torch.zeros(1, 16, 3, 3)},
    "a number": {"value": torch.tensor(1.0)},
    "whole numbers": {"value": torch.zeros(16, 3, 3, dtype=torch.int32)},
    "truth": {"value": torch.zeros(16, 3, 3, dtype=torch.bool)},
}


@pytest.mark.parametrize("case", PICTURES)
def test_an_encoded_picture_of_another_shape_is_damaged(case, tried):
    given = [Captioned(Path("pictures/0.png"), "a cat")]
    cache, sizes = Cache(Path("cache"), "", ""), buckets(128)

    def encode():
        return cache.encode_pictures(given, sizes, lambda _: torch.zeros(1, 16, 3, 3))

    target = encode()[0].picture
    save_file({**load_file(target), **PICTURES[case]}, target)
    with pytest.raises(InputError, match=r"is damaged \(.*\)\. Delete it, and it is made anew"):
        encode()
    tried(1)
    target.unlink()
    assert encode()[0].size == (128, 128)


TEXTS = {
    "other tokens": torch.zeros(3, 128),
    "another width": torch.zeros(32, 64),
    "no tokens": torch.zeros(0, 128),
    "a batch": torch.zeros(1, 32, 128),
    "a number": torch.tensor(1.0),
    "truth": torch.zeros(32, 128, dtype=torch.bool),
}


@pytest.mark.parametrize("case", TEXTS)
@pytest.mark.parametrize("text", ["", "a cat"])
def test_an_encoded_text_of_another_shape_is_found_before_the_training(case, text, monkeypatch, tried):
    for name in ("a cat", "a dog"):
        Image.new("RGB", (128, 128), "red").save(f"pictures/{name}.png")
        Path(f"pictures/{name}.txt").write_text(name)
    training = Run(Finetuning("lora", "cocktail", Path("pictures"), Path("out"), resolution=128))
    cache = training._cache
    for each in ("", "a cat", "a dog"):
        encoded.write(cache.text(each), {"value": TEXTS[case] if each == text else torch.zeros(32, 128)})
    monkeypatch.setattr("wuerstchen_core.training.finetune.encode_stage_c", lambda *_: torch.zeros(1, 16, 3, 3))
    with pytest.raises(InputError, match=rf"{cache.text(text).name} (is damaged|has the shape).* it is made anew"):
        training.run()
    tried(1)


LOSSES = {
    "a long number": "9" * 200_000 + ",0.5,1e-4",
    "a long loss": "3," + "9" * 200_000 + ",1e-4",
    "an open quote": '"' + "x" * 200_000,
    "a huge loss": "3,1e308,1e-4",
    "infinity": "3,inf,1e-4",
    "no number": "3,nan,1e-4",
    "a step below 0": "-" + "9" * 400 + ",0.5,1e-4",
    "a step twice": "2,0.5,1e-4",
}


@pytest.mark.parametrize("case", LOSSES)
def test_rows_of_losses_that_no_training_writes_are_left_out(case, folder, monkeypatch, tried):
    monkeypatch.setattr("wuerstchen_core.training.journal.find_spec", lambda name: name == "matplotlib")
    Path("loss.csv").write_text(f"step,loss,learning_rate\n1,0.5,0.1\n2,0.25,0.1\n{LOSSES[case]}\n")
    with within(SECONDS):
        Journal(folder, 4).add(4, 0.125, 0.1)
    tried(1)
    assert list(csv.reader(Path("loss.csv").read_text().splitlines()))[1:] == [
        *(["1", "0.5", "0.1"], ["2", "0.25", "0.1"], ["4", "0.125", "0.1"])
    ]


def _png(width: int, height: int) -> bytes:
    """Return a black PNG, of which at most 20,000 lines are there."""
    pixels = zlib.compress(bytes((3 * width + 1) * min(height, 20_000)), 1)
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)), (b"IDAT", pixels), (b"IEND", b"")]
    made = b"\x89PNG\r\n\x1a\n"
    for kind, data in chunks:
        made += struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    return made


ROWS = {
    "a bomb": lambda: _png(256, 1_000_000),
    "a tall one": lambda: _png(256, 20_000),
    "another height": lambda: _png(256, 281),
    "one that is cut": lambda: _png(256, 280)[:60],
    "nothing": lambda: b"",
    "no picture": lambda: b"\0" * 1000,
}


@pytest.mark.parametrize("case", ROWS)
def test_validation_rows_that_cannot_be_read_are_left_out(case, folder, monkeypatch, tried):
    drawn = [Image.new("RGB", (256, 256), "red")]
    monkeypatch.setattr(Validation, "_images", lambda self: drawn)
    stage_c: Any = None  # nothing is drawn by a network
    validation = Validation(folder, stage_c, "cocktail", ["a cat"], [], torch.zeros(1), (256, 256))
    validation.draw(1)
    for step in (2, 3):
        Path(f"validation/step_{step:06}.png").write_bytes(ROWS[case]())
    with within(SECONDS):
        validation.draw(4)
    tried(1)
    with Image.open("validation/sheet.png") as sheet:
        assert sheet.size == (256, 72 + 2 * 280)
