"""A cache on disk that is damaged, poisoned, full or shared: the pictures stay the same."""

import errno
import hashlib
import itertools
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save

from support import hostile_checkpoints
from support.attacks import Attack
from support.workflows import node
from wuerstchen_nodes.headless import cli
from wuerstchen_nodes.headless.execution.calls import Outputs
from wuerstchen_nodes.headless.execution.disk_cache import DiskCache, _checksum

GRAPH = {
    "1": node("LoadImage", image="in.png"),
    "2": node("ImageCompositeMasked", destination=["1", 0], source=["1", 0], x=1, y=1, resize_source=False),
    "3": node("ImageCompositeMasked", destination=["2", 0], source=["1", 0], x=2, y=2, resize_source=False),
    "4": node("SaveImage", images=["3", 0], filename_prefix="x"),
}


class Cached:
    """A workflow with two results in a cache.

    Attributes:
        entries: Files of the results.
    """

    def __init__(self, attack: Attack) -> None:
        self._attack = attack
        random = np.random.default_rng(0)
        Image.fromarray(random.integers(0, 256, (4, 4, 3), np.uint8)).save("in.png")
        Path("w.json").write_text(json.dumps(GRAPH))
        self._expected = self.draw()
        self.entries = sorted(Path("cache").glob("*.safetensors"))
        assert len(self.entries) == 2
        attack.inputs = 0

    def draw(self) -> bytes:
        """The pixels of the picture, whatever is in the cache."""
        code, error = self._attack.here("run", "w.json", "--out", "out.png", "--cache", "cache", may_succeed=True)
        assert code == 0, error
        (path,) = Path().glob("out*.png")
        with Image.open(path) as image:
            pixels = image.tobytes()
        path.unlink()
        return pixels

    def check(self) -> None:
        """Check that the picture is the same, and that the list of the cache can be read."""
        assert self.draw() == self._expected
        code, error = self._attack.here("cache", "--cache", "cache", may_succeed=True)
        self._attack.inputs -= 1
        assert code == 0, error


@pytest.fixture
def cached(attack) -> Iterator[Cached]:
    yield Cached(attack)


def test_an_entry_that_is_cut_anywhere(cached):
    whole = cached.entries[1].read_bytes()
    for end in range(0, len(whole), 5):
        for entry in cached.entries:
            entry.write_bytes(whole[:end])
        cached.check()


def test_an_entry_with_any_byte_changed(cached):
    contents = [entry.read_bytes() for entry in cached.entries]
    for place in range(0, min(map(len, contents)), 7):
        for entry, content in zip(cached.entries, contents, strict=True):
            entry.write_bytes(content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :])
        cached.check()


def poisoned(values: Any, **metadata: str) -> bytes:
    """An entry whose checksum is right and whose values are not."""
    text = values if isinstance(values, str) else json.dumps(values)
    arrays = {"0": torch.zeros(1)}
    checksum = _checksum({name: each.numpy() for name, each in arrays.items()}, text)
    return save(arrays, {"values": text, "sha256": checksum, "made": "1", "about": "{}", **metadata})


def of_dtype(dtype: str) -> bytes:
    """An entry of 48 bytes in a dtype, whose checksum is right."""
    values, data = '{"list": [{"list": [{"tensor": "0"}]}]}', bytes(48)
    count = 48 * 8 // BITS[dtype]
    said = {"values": values, "sha256": hashlib.sha256(values.encode() + data).hexdigest(), "made": "1", "about": "{}"}
    return hostile_checkpoints.safetensors(
        {"__metadata__": said, "0": hostile_checkpoints.entry(dtype, [count], [0, len(data)])}, data
    )


BITS = {"F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "F4": 4, "F6_E2M3": 6}


@pytest.mark.parametrize("dtype", BITS)
def test_an_entry_of_a_dtype_that_numpy_lacks(cached, dtype):
    for path in cached.entries:
        path.write_bytes(of_dtype(dtype))
    cached.check()
    assert all(path.read_bytes() != of_dtype(dtype) for path in cached.entries[1:]), "it was made anew"


@pytest.mark.parametrize(
    "content",
    [
        poisoned('{"list": [{"list": [' + "[]," * 100_000 + "[]]}]}"),
        poisoned('{"list": []}', about=json.dumps({"text": "x" * 2**24})),
    ],
    ids=["values", "header"],
)
def test_an_entry_of_too_many_values_is_not_read(tmp_path, content, caplog, monkeypatch):
    monkeypatch.setattr(json, "loads", None)
    cache = DiskCache(tmp_path, max_bytes=2**30)
    (tmp_path / "key.safetensors").write_bytes(content)
    assert cache.entry("key") is None or len(content) < 2**24
    assert cache.get("key") is None
    assert re.search("more than 100,000 values|its header is said to have", caplog.text)
    assert not (tmp_path / "key.safetensors").exists()


def test_a_result_of_too_many_values_is_not_stored(tmp_path):
    cache = DiskCache(tmp_path, max_bytes=2**30)
    assert not cache.put("key", Outputs([[[0] * 100_000]]))
    assert not cache.put("key", Outputs([[0]]), {"text": "x" * 2**24})
    assert cache.put("key", Outputs([[[0] * 90_000]])) and cache.get("key") is not None


@pytest.mark.parametrize(
    "content",
    [
        *(poisoned(each) for each in (None, 1, [], {}, "x", [1], [[]], [[1]], {"list": []}, {"list": [1]})),
        *(poisoned({"list": [{"list": each}]}) for each in ([], [1, 2], [None], [{"tensor": "9"}], [{"tensor": []}])),
        *(
            poisoned({"list": [{"list": [each]}]})
            for each in ({"code": "x"}, {"dict": [1]}, {"dict": 1}, {"tuple": 1}, {})
        ),
        *(poisoned({"list": [{"list": []}] * each}) for each in (0, 2, 9)),
        *(poisoned(each) for each in ("", "nan", "[" * 9999, '{"list": [], "list": []}', "[" * 500 + "]" * 500)),
        *(poisoned({"list": []}, made=each) for each in ("nan", "inf", "-1", "1e999", "x", "")),
        *(poisoned({"list": []}, about=each) for each in ("nan", "[]", "1", "[" * 9999, '{"node": {"a": [1]}}', "{")),
        *(save({}, {}), save({"0": torch.zeros(1)}, {"sha256": "x"}), b"", b"\0" * 99, b"\xff" * 99, b"{}"),
        *(b"\xff" * 8 + b"{}", (10).to_bytes(8, "little") + b"{}", (2).to_bytes(8, "little") + b"{}"),
    ],
    ids=itertools.count(),  # an old safetensors writes one header in another order each time
)
def test_an_entry_that_somebody_has_poisoned(cached, content):
    for entry in cached.entries:
        entry.write_bytes(content)
    cached.check()


@pytest.mark.parametrize("name", ["key", "plain", "event", "self", "bytes", "made", "", "\0", "node", "type"])
def test_an_entry_that_tells_what_no_entry_tells(attack, capsys, name):
    Path("cache").mkdir()
    Path("cache/a.safetensors").write_bytes(poisoned({"list": []}, about=json.dumps({"node": "n", name: "x"})))
    code, error = attack.here("cache", "--cache", "cache", may_succeed=True)
    assert code == 0, error
    assert cli.main(["cache", "--cache", "cache", "--json"]) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[0])
    assert set(result) <= {"event", "key", "bytes", "made", "node", "type", "text", "workflow"}
    assert (result["event"], result["key"]) == ("result", "a")


def test_entries_that_were_swapped_show_no_code_and_no_crash(attack, cached):
    one, other = (entry.read_bytes() for entry in cached.entries)
    cached.entries[0].write_bytes(other)
    cached.entries[1].write_bytes(one)
    assert cached.draw()  # the picture of another step: a cache cannot know who wrote an entry


KINDS: dict[str, Callable[[Path], Any]] = {
    "pipe": os.mkfifo,
    "folder": os.mkdir,
    "full folder": lambda path: (path / "x").mkdir(parents=True),
    "device": lambda path: path.symlink_to("/dev/zero"),
    "loop": lambda path: path.symlink_to(path.name),
    "nothing": lambda path: path.symlink_to("absent"),
    "sparse": lambda path: os.truncate(os.open(path, os.O_CREAT | os.O_RDWR), 50 * 2**30),
    "itself as text": lambda path: path.write_text("x" * 300_000),
}


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("what", ["entry", "note", "limit", "digests", "cache"])
def test_something_else_where_a_file_belongs(cached, what, kind):
    Path("in.png").write_bytes(Path("in.png").read_bytes() + bytes(300_000))  # large enough for a note of its digest
    cached._expected = cached.draw()
    paths = {
        "entry": cached.entries,
        "note": list(Path("cache/digests").glob("*.json")) or [Path("cache/digests/x.json")],
        "limit": [Path("cache/limit.json")],
        "digests": [Path("cache/digests")],
        "cache": [Path("cache")],
    }[what]
    for path in paths:
        subprocess.run(["rm", "-rf", path], check=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        KINDS[kind](path)
    assert cached.draw() == cached._expected
    if what == "entry":
        code, error = cached._attack.here("cache", "--cache", "cache", "--clear", may_succeed=True)
        assert code == 0, error
        assert all(path.is_dir() for path in Path("cache").glob("*.safetensors"))


@pytest.mark.parametrize(
    "limit",
    ['{"bytes": -1}', '{"bytes": 0}', '{"bytes": 1e400}', '{"bytes": "x"}', '{"bytes": null}', "[]", "{",
     '{"bytes": [1]}',
     '{"bytes": NaN}', '{"bytes": true}', '{"bytes": 1, "bytes": 2}', "[" * 999, "\0", '{"bytes": ' + "9" * 900 + "}"],
)  # fmt: skip
def test_a_limit_that_is_none(cached, limit):
    Path("cache/limit.json").write_text(limit)
    cached.check()


@pytest.mark.parametrize("problem", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EIO, errno.EDQUOT, errno.EMFILE])
@pytest.mark.parametrize("call", ["link", "rename", "utime", "unlink"])
def test_a_disk_that_is_full_or_only_to_be_read(cached, monkeypatch, call, problem):
    original = getattr(os, call)

    def fails(path: Any, *arguments: Any, **options: Any) -> Any:
        if "cache" in str(path):
            raise OSError(problem, os.strerror(problem), str(path))
        return original(path, *arguments, **options)

    for damaged in (False, True):
        for entry in cached.entries:
            if damaged or not entry.exists():
                entry.write_bytes(b"x")
        with monkeypatch.context() as patch:
            patch.setattr(os, call, fails)
            cached.check()


@pytest.mark.parametrize("now", [0.0, 1.0, 2.0**31, 2.0**33, 1e12])
def test_a_clock_that_jumps(cached, monkeypatch, now):
    monkeypatch.setattr("time.time", lambda: now)
    for entry in cached.entries:
        os.utime(entry, (2**33, 2**33) if now < 2**31 else (0, 0))
    cached.check()
    Path("cache/limit.json").write_text('{"bytes": 900}')
    cached.check()


@pytest.mark.long
def test_two_processes_and_a_third_that_damages(cached, tried):
    Path("cache/limit.json").write_text('{"bytes": 900}')  # room for one result: each drops what the other needs
    command = [sys.executable, "-m", "wuerstchen_nodes", "run", "w.json", "--cache", "cache", "--quiet", "--no-server"]
    for turn in range(6):
        both = [
            subprocess.Popen(
                [*command, "--out", f"{turn}-{each}.png"], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
            )
            for each in range(2)
        ]
        while any(each.poll() is None for each in both):
            for entry in Path("cache").glob("*.safetensors"):
                entry.write_bytes(b"x" * turn)
        for each in both:
            _, error = each.communicate()
            assert each.returncode == 0 and b"Traceback" not in error, error
    assert len({path.read_bytes() for path in Path().glob("*-*.png")}) == 1
    tried(12)
