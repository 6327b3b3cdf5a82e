"""Weights from strangers: no file runs code, hangs or takes the memory; each gives one clear line."""

import random
import sys
import zipfile
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from support import tiny
from support.attacks import MEBIBYTES, run_alone
from support.hostile_checkpoints import (
    CONTAINERS,
    LOADERS,
    SUFFIXES,
    legacy,
    odd_tensors,
    payloads,
    refusal,
    tensor_pickle,
    torch_zip,
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
