"""Weights from strangers: no file runs code, hangs or takes the memory; each gives one clear line."""

import random
import re
import struct
import sys
import zipfile
import zlib
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from support import tiny
from support.attacks import MEBIBYTES, run_alone, within
from support.hostile_checkpoints import (
    CONTAINERS,
    LOADERS,
    SUFFIXES,
    legacy,
    odd_tensors,
    payloads,
    refusal,
    tensor_pickle,
    text,
    torch_zip,
    zip_of,
)
from wuerstchen_core import load_stage_a
from wuerstchen_core.checkpoints.embeddings import load_embedding

STATE = tiny.stage_a().state_dict()
FORMS = ("safetensors", "zip", "older form")


def written(path: Path, form: str) -> Path:
    """Write a tiny Stage A."""
    if form == "safetensors":
        save_file(STATE, path)
    else:
        torch.save(dict(STATE), path, _use_new_zipfile_serialization=form == "zip")
    return path


@pytest.mark.parametrize("container", CONTAINERS)
def test_no_pickle_runs_code(container, tmp_path, tried):
    canary = tmp_path / "canary"
    for index, (name, pickled) in enumerate(payloads(canary).items()):
        path = tmp_path / f"{index}{SUFFIXES[index % len(SUFFIXES)]}"
        path.write_bytes(CONTAINERS[container](pickled))
        refusal(list(LOADERS.values())[index % len(LOADERS)], path)
        assert not canary.exists(), name
        tried(1)


@pytest.fixture(scope="module")
def odd(tmp_path_factory) -> list[Path]:
    """Files of torch.save, in both of its forms."""
    folder = tmp_path_factory.mktemp("odd")
    for name, content in odd_tensors().items():
        for is_zip in (True, False):
            with suppress(RuntimeError, UnicodeEncodeError):  # torch itself does not write it
                torch.save(content, folder / f"{name} {is_zip}.pt", _use_new_zipfile_serialization=is_zip)
    return [path for path in folder.iterdir() if path.stat().st_size]


@pytest.mark.parametrize("load", LOADERS.values(), ids=LOADERS)
def test_tensors_that_no_network_can_hold_are_refused(load, odd, tried):
    for path in odd:
        refusal(load, path)
    tried(len(odd) if load is LOADERS["C"] else 0)


def test_a_file_of_too_many_tensors_is_refused(tmp_path, tried):
    path = tmp_path / "many"
    save_file({str(index): torch.ones(1) for index in range(10_001)}, path)
    for load in LOADERS.values():
        assert "10,001 tensors" in refusal(load, path)
    tried(1)


HUGE = b"\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x3f"
CLAIMS = {
    "2**62 numbers": {"numbers": HUGE},
    "less than no number": {"numbers": b"\x8a\x01\xff"},
    "a text of numbers": {"numbers": b"X\x01\x00\x00\x004"},
    "2**62 rows": {"shape": HUGE + b"K\x02\x86"},
    "2**124 values": {"shape": HUGE + HUGE + b"\x86"},
    "less than no row": {"shape": b"\x8a\x01\xffK\x02\x86"},
    "more rows than numbers": {"shape": b"K\x50K\x50\x86"},
    "strides of 0": {"shape": b"M\xff\xffM\xff\xff\x86", "stride": b"K\x00K\x00\x86"},
    "strides of 2**62": {"stride": HUGE + b"K\x01\x86"},
    "backwards": {"stride": b"\x8a\x01\xffK\x01\x86"},
    "one stride": {"stride": b"K\x01\x85"},
    "a text for a shape": {"shape": b"X\x01\x00\x00\x002"},
    "900 dimensions": {"shape": b"(" + b"K\x01" * 900 + b"t", "stride": b"(" + b"K\x01" * 900 + b"t"},
}


@pytest.mark.parametrize("claim", CLAIMS.values(), ids=CLAIMS)
def test_a_tensor_is_as_large_as_its_numbers(claim, tmp_path, tried):
    path, pickled = tmp_path / "x.pt", tensor_pickle(**claim)
    for content in (torch_zip(pickled, more={"data/0": bytes(16)}), torch_zip(pickled), legacy(pickled)):
        path.write_bytes(content)
        refusal(load_embedding, path, may_load="numbers" in claim)  # the numbers that are there
        tried(1)


def compressed(path: Path, name: str, mebibytes: int) -> Path:
    """Write a zip file whose entry of zeros is far larger than the file."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive, archive.open(name, "w") as entry:
        for _ in range(mebibytes):
            entry.write(bytes(2**20))
    return path


@pytest.mark.parametrize("name", ["a/data.pkl", "a/data/0", "a/version", "../../data.pkl"])
def test_a_compressed_file_is_not_unpacked(name, tmp_path, tried):
    assert "is compressed" in refusal(load_stage_a, compressed(tmp_path / "small.pt", name, 4))
    tried(1)


@pytest.mark.long
def test_a_file_that_is_unpacked_to_a_gibibyte_takes_no_memory(tmp_path, tried):
    path = compressed(tmp_path / "bomb.pt", "a/data.pkl", 1200)
    load = "import sys; from wuerstchen_core import load_stage_a; load_stage_a(sys.argv[1])"
    code, error, _, peak = run_alone([sys.executable, "-c", load, str(path)])
    assert code == 1 and "CheckpointError" in error and "is compressed" in error
    assert peak < MEBIBYTES
    tried(1)


def test_a_pickle_of_millions_of_instructions_is_refused(tmp_path, tried):
    for content in (torch_zip(b"\x80\x02" + b"]0" * 200_000 + b"}."), legacy(b"\x80\x02" + b"]0" * 200_000 + b"}.")):
        path = tmp_path / "long.pt"
        path.write_bytes(content)
        assert "instructions" in refusal(load_stage_a, path)
        tried(1)


BILLIONS = b"\x8a\x05" + (3 * 10**9).to_bytes(5, "little") + b"\x85R"
DOUBLED = b"K\x00\x85q\x00" + b"h\x00h\x00\x86q\x00" * 14
"""A tuple of 32,768 values, which is put aside."""
DICTIONARY = b"ccollections\nOrderedDict\n"
TENSOR = b"ctorch._utils\n_rebuild_tensor_v2\n"
COSTLY = {
    "a bytearray of 3 GB": (b"cbuiltins\nbytearray\n" + BILLIONS, "builtins.bytearray"),
    "the same of Python 2": (b"c__builtin__\nbytearray\n" + BILLIONS, "__builtin__.bytearray"),
    "a text in Punycode": (
        b"c_codecs\nencode\n" + text("".join(map(chr, range(0x4E00, 0x9E00))) * 15) + text("punycode") + b"\x86R",
        "_codecs.encode",
    ),
    "a text that is encoded often": (
        b"(" + text("x" * 10**6) + b"q\x00c_codecs\nencode\nq\x01" + b"h\x01h\x00\x85R" * 300 + b"l",
        "_codecs.encode",
    ),
    "a count of a billion": (b"ccollections\nCounter\ncbuiltins\nbytearray\n" + BILLIONS + b"\x85R", "Counter"),
    "a set": (b"cbuiltins\nset\n)R", "builtins.set"),
    "a storage that is made": (b"ctorch.storage\nUntypedStorage\n" + BILLIONS, "a call of torch.storage.Un"),
    "a storage of a dtype": (b"ctorch\nFloatStorage\n" + BILLIONS, "a call of torch.FloatStorage"),
    "a tensor of 3e9 numbers": (b"ctorch\nFloatTensor\n" + BILLIONS, "torch.FloatTensor"),
    "a new object": (b"ctorch\nFloatStorage\n)\x81", "a call of torch.FloatStorage"),
    "a call of a number": (b"K\x05)R", "a call of "),
    "tuples as keys": (b"}" + DOUBLED + b"Ns" + b"h\x00Ns" * 50_000, "neither a text nor a small whole number"),
    "keys of one hash": (
        b"}" + b"".join(b"\x8a\x0c" + (i * (2**61 - 1)).to_bytes(12, "little") + b"Ns" for i in range(1, 50_000)),
        "neither a text nor a small whole number",
    ),
    "copies of a tuple": (
        b"(" + DOUBLED + b"ctorch\nSize\nq\x01" + b"h\x01h\x00\x85R" * 50_000 + b"l",
        "calls torch.Size with something else",
    ),
    "copies of a list": (
        b"(](" + b"K\x01" * 1000 + b"eq\x00ctorch\nSize\nq\x01" + b"h\x01h\x00\x85R" * 50_000 + b"l",
        "calls torch.Size with something else",
    ),
    "copies of a dictionary": (
        b"(" + DICTIONARY + b"q\x00}q\x01" + b"h\x00h\x01\x85R" * 50_000 + b"l",
        "calls collections.OrderedDict with something else",
    ),
    "shapes without end": (
        b"(" + TENSOR + b"q\x02" + DOUBLED + b"h\x02h\x00\x85R" * 50_000 + b"l",
        "more than 3,000,000 values",
    ),
    "a tensor with attributes": (b"" + TENSOR + b"(NNNNNNNtR", "calls torch._utils._rebuild_tensor_v2 with something"),
    "attributes without end": (
        b"(" + DICTIONARY + b"q\x00}q\x01" + b"h\x00)Rh\x01b" * 50 + b"l",
        "more than 20 objects in it have attributes",
    ),
}  # fmt: skip
"""Values that torch makes of a small file, which take minutes or all memory, and what is said of them."""


@pytest.mark.parametrize("value", COSTLY)
def test_what_a_pickle_names_calls_and_looks_up_is_what_tensors_need(value, tmp_path, tried):
    made, said = COSTLY[value]
    pickled = b"\x80\x02}" + text("a") + made + b"s."
    for content in (torch_zip(pickled), legacy(pickled)):
        path = tmp_path / "x.pt"
        path.write_bytes(content)
        with within(10):
            assert said in refusal(load_stage_a, path)
        tried(1)


LAUGH = b"\x80\x02}" + text("a") + b"\x85" + b"q\x00h\x00\x86" * 60 + b"K\x01s."
"""A pickle that torch reads for ever."""


def renamed_by_an_extra(name: str, read_as: str) -> bytes:
    """Return a zip file with an entry that newer versions of Python read under another name than torch."""
    more = struct.pack("<BL", 1, zlib.crc32(name.encode())) + read_as.encode()
    entry = zipfile.ZipInfo(name)
    entry.extra = struct.pack("<HH", 0x7075, len(more)) + more
    return zip_of({entry: LAUGH, "a/version": b"3\n"})


def two_lists() -> bytes:
    """Return a zip file whose end tells of one list of entries, and that has another right before the end."""
    whole = zip_of({"a/data.pkl": LAUGH, "a/version": b"3\n"})
    other = zip_of({"a/data.txt": LAUGH, "a/version": b"3\n"})
    place = int.from_bytes(other[-6:-2], "little")
    return whole[:-22] + other[place:-22] + whole[-22:]


NAMES = {
    "capitals": zip_of({"a/DATA.PKL": LAUGH, "a/version": b"3\n"}),
    "a few capitals": zip_of({"a/data.pKl": LAUGH, "a/version": b"3\n"}),
    "one name twice": zip_of({"a/data.pkl": b"\x80\x02}.", "A/data.pkl": LAUGH, "a/version": b"3\n"}),
    "a name with an end": zip_of({"a/data.pkX": LAUGH}).replace(b"a/data.pkX", b"a/data.p\0X"),
    "a name in an extra": renamed_by_an_extra("a/data.pkl", "a/data.txt"),
    "two lists": two_lists(),
    "text after the end": zip_of({"a/data.pkl": LAUGH}) + b"x",
}


@pytest.mark.parametrize("content", NAMES.values(), ids=NAMES)
def test_a_zip_file_is_read_in_one_way(content, tmp_path, tried):
    (tmp_path / "x.pt").write_bytes(content)
    with within(10):
        assert re.search(
            r"two ways|twice|elsewhere|does not end|a tuple in it", refusal(load_stage_a, tmp_path / "x.pt")
        )
    tried(1)


def long_list(count: int, name: bytes = b"a") -> bytes:
    """Return a zip file that is a list of one entry again and again, as large files end."""
    start = struct.pack("<IHHHHHIIIHH", 0x04034B50, 20, 0, 0, 0, 0, 0, 0, 0, len(name), 0) + name
    entry = struct.pack("<IHHHHHHIIIHHHHHII", 0x02014B50, 20, 20, *[0] * 7, len(name), *[0] * 6) + name
    place = len(start) + count * len(entry)
    end = struct.pack("<IQHHIIQQQQ", 0x06064B50, 44, 45, 45, 0, 0, count, count, count * len(entry), len(start))
    end += struct.pack("<IIQI", 0x07064B50, 0, place, 1)
    return (
        start
        + entry * count
        + end
        + struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, 2**16 - 1, 2**16 - 1, *[2**32 - 1] * 2, 0)
    )


@pytest.mark.parametrize(("count", "name"), [(200_000, b"a"), (90_000, b"a" * 200)])
def test_a_zip_file_of_too_many_entries_is_refused_before_they_are_listed(count, name, tmp_path, tried, monkeypatch):
    monkeypatch.setattr(zipfile, "ZipFile", None)
    (tmp_path / "x.pt").write_bytes(long_list(count, name))
    assert "entries" in refusal(load_stage_a, tmp_path / "x.pt")
    tried(1)


@pytest.mark.parametrize("form", FORMS)
def test_a_file_that_is_cut_short_is_refused(form, tmp_path, tried):
    whole = written(tmp_path / "whole", form).read_bytes()
    load_stage_a(tmp_path / "whole")
    ends = {*range(20), *range(20, len(whole), len(whole) // 25), len(whole) - 1}
    for end in ends:
        path = tmp_path / "cut.safetensors"
        path.write_bytes(whole[:end])
        refusal(load_stage_a, path)
        tried(1)


def check_flips(form: str, folder: Path, seed: int, count: int) -> None:
    """Change a few bytes, half of the time near the start or the end, where the structure is."""
    whole = written(folder / "whole", form).read_bytes()
    path = folder / "flipped.safetensors"
    for number in range(seed, seed + count):
        chance = random.Random(number)
        data = bytearray(whole)
        for _ in range(chance.randint(1, 8)):
            ends = (0, min(4000, len(data))) if chance.random() < 0.5 else (max(0, len(data) - 4000), len(data))
            data[chance.randrange(*chance.choice([ends, (0, len(data))]))] = chance.randrange(256)
        path.write_bytes(data)
        try:
            refusal(load_stage_a, path, may_load=True)
        except BaseException:
            print(f"the seed is {number}")
            raise


@pytest.mark.parametrize("form", FORMS)
def test_a_file_with_changed_bytes_is_refused_or_loads(form, tmp_path, tried):
    check_flips(form, tmp_path, 0, 60)
    tried(60)


@pytest.mark.long
@pytest.mark.parametrize("form", FORMS)
def test_a_file_with_other_changed_bytes_is_refused_or_loads(form, tmp_path, tried):
    check_flips(form, tmp_path, 1000, 1000)
    tried(1000)
