"""Files around the weights that lie: headers of safetensors, configs, indexes, folders, links and names."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from support import tiny
from support.attacks import within
from support.hostile_checkpoints import LOADERS, entry, refusal, safetensors
from wuerstchen_core import load_stage_a, load_stage_b, load_stage_c, load_text_encoder

WEIGHTS = "diffusion_pytorch_model.safetensors"
LENGTHS = [0, 1, 7, 2**31, 2**63, -1]
OFFSETS: list[Any] = [[0, 8], [4, 0], [-4, 0], [4, 8], [0, 2**63], [2**64, 2**64 + 4], [0], [], None, "0", [0.5, 4.5]]
SHAPES: list[Any] = [[-1], [2**32, 2**32], [2**63, 2], [1.5], [None], "1", None, [[1]], [2], [True], [10**30]]
DTYPES: list[Any] = ["F33", "", None, 5, [], "f32", "F64", "F16"]
BITS = {"BOOL": 8, "U8": 8, "I8": 8, "I16": 16, "U16": 16, "I32": 32, "I64": 64, "U64": 64, "F4": 4, "F6_E2M3": 6}
BITS |= {"F8_E8M0": 8, "C64": 64}
"""Dtypes that no weight has."""
SAID = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]'
ONCE_MORE = SAID.replace(b"0,4", b"4,8")[1:]
TEXT_HEADERS = [
    *(b"", b"{", b"{}", b"[]", b"null", b"{]", b"{{}}", b'{"a"}', b'{"a":1}', b'{"a":[]}', b'{"a":{}}', b"{\xff\xfe}"),
    *(b'{"a":' * 50_000, b'{"__metadata__":' + b"[" * 50_000, b'{"__metadata__":{"a":1}}', b'{"__metadata__":[]}'),
    *(b'{"__metadata__":{"a":{"b":{}}}}', b'{"a":' + b"9" * 100_000 + b"}", SAID + b',"more":1}}', SAID + b"}}garbage"),
    *(SAID + b"}," + ONCE_MORE + b"}}", SAID.replace(b"a", b"\\ud83d", 1) + b"}}"),
    *(b"{" + b" " * 2**20 + b"}", b"{" + b" " * 17 * 2**20 + b"}"),
]
OTHERS = [
    safetensors({"a": entry(), "b": entry()}, bytes(4)),  # both in the same place
    safetensors({"a": entry(), "b": entry(offsets=[8, 12])}, bytes(12)),  # a gap
    safetensors({"a": entry()}, bytes(400)),
    safetensors({"": entry()}, bytes(4)),
    safetensors({"a" * 100_000: entry()}, bytes(4)),
    safetensors({"a\nb": entry()}, bytes(4)),
    safetensors({"a": entry(shape=[0], offsets=[0, 0])}),
    safetensors({"vquantizer.embedding.weight": entry(shape=[10**12, 0], offsets=[0, 0])}),
    *(
        b"<!DOCTYPE html><html>",
        b"version https://git-lfs.github.com/spec/v1\n",
        bytes(1000),
        b"\xff" * 1000,
        b" " * 1000,
    ),
    *(b"\x89PNG\r\n\x1a\n" + bytes(100), b"GGUF" + bytes(100), "Grüße".encode() * 100),
]
HEADERS = [
    *(safetensors({"a": entry()}, bytes(4), length) for length in LENGTHS),
    *(safetensors({"a": entry(offsets=each)}, bytes(8)) for each in OFFSETS),
    *(safetensors({"a": entry(shape=each)}, bytes(4)) for each in SHAPES),
    *(safetensors({"a": entry(each)}, bytes(4)) for each in DTYPES),
    *(safetensors({"a": entry(each, [8], [0, bits])}, bytes(bits)) for each, bits in BITS.items()),
    *(safetensors(each, bytes(8)) for each in TEXT_HEADERS),
    *OTHERS,
]


@pytest.mark.parametrize("part", LOADERS)
def test_a_file_that_lies_about_itself_is_refused(part, tmp_path, tried):
    path = tmp_path / "x.safetensors"
    for content in HEADERS:
        path.write_bytes(content)
        refusal(LOADERS[part], path)
    tried(len(HEADERS) if part == "C" else 0)


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    """A folder with a tiny checkpoint of every stage."""
    folder = tmp_path_factory.mktemp("models")
    tiny.save_stages(folder)
    return folder


VALUES: list[Any] = [
    *(None, True, "x", [], {}, [[]], -1, 0, 1.5, 10**5 + 1, 10**30, 10**400, 1e308, float("nan"), float("inf")),
    [1] * 10**5,
    *(["CTA" * 10**6], {"a": {"b": []}}, "9" * 10**5, [10**9] * 3, [None], ["Q"], "\n"),
]  # fmt: skip
STAGES = {"stage_c": load_stage_c, "stage_b": load_stage_b, "stage_a": load_stage_a}


@pytest.mark.parametrize("start", [0, *(pytest.param(start, marks=pytest.mark.long) for start in (1, 2, 3))])
@pytest.mark.parametrize("stage", STAGES)
def test_a_config_that_lies_is_refused_before_a_network_is_made(stage, start, models, tmp_path, tried):
    shutil.copytree(models / stage, tmp_path / stage)
    path = tmp_path / stage / "config.json"
    config = json.loads(path.read_text())
    for field in config:
        for value in VALUES[start::4]:
            if value == config[field] or (field, value) in [("dropout", 0), ("dropout", 1.5)]:
                continue
            path.write_text(json.dumps({**config, field: value}))
            harmless = field.startswith("_") or field in ("dropout", "scale_factor")  # such as another version
            refusal(STAGES[stage], tmp_path / stage, may_load=harmless)
            tried(1)


BIG = {
    "stage_c": {"depth": 1000, "c": 10**5, "c_cond": 10**5},
    "stage_b": {"blocks": [1000] * 3, "c_hidden": [10**5] * 3, "kernel_size": 31, "patch_size": 64},
    "stage_a": {"bottleneck_blocks": 1000, "embed_dim": 98304, "levels": 8, "up_down_scale_factor": 64},
}


@pytest.mark.parametrize("stage", BIG)
def test_a_config_of_a_network_that_no_machine_holds_is_refused(stage, models, tmp_path, tried):
    shutil.copytree(models / stage, tmp_path / stage)
    path = tmp_path / stage / "config.json"
    config = json.loads(path.read_text())
    for more in (BIG[stage], *({name: value} for name, value in BIG[stage].items())):
        path.write_text(json.dumps({**config, **more}))
        refusal(STAGES[stage], tmp_path / stage)
        tried(1)


TEXTS: dict[str, bytes] = {
    **{repr(each): each for each in (b"", b"{", b"[]", b"null", b"5", b'"a"', b"\xff\xfe{}", b"{}{}", b"{'a':1}")},
    "deep lists": b"[" * 100_000,
    "deep objects": b'{"a":' * 100_000,
    "a key twice": b'{"c":1,"c":2}',
    "half a character": b'{"c":"\\ud83d"}',
    "a number of 100,000 digits": b'{"c":' + b"9" * 100_000 + b"}",
    "three million values": b'{"c":[' + b"1," * 3_000_000 + b"1]}",
    "zeros": bytes(10_000),
    "code": b"__import__('os').system('touch canary')",
    "a tag of YAML": b"!!python/object/apply:os.system ['touch canary']",
}  # fmt: skip


@pytest.mark.parametrize("name", ["config.json", "preview.json"])
def test_a_file_beside_the_weights_that_is_no_object_is_refused(name, models, tmp_path, tried, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(models / "stage_c", tmp_path / "c")
    for content in TEXTS.values():
        (tmp_path / "c" / name).write_bytes(content)
        refusal(load_stage_c, tmp_path / "c")
        tried(1)
    assert not Path("canary").exists()


COLOURS: list[Any] = [
    None,
    5,
    "x",
    [],
    [[]],
    [[1, 2]],
    [[1, 2, 3]],
    [[1, 2, 3]] * 18,
    [["a"] * 3] * 17,
    [[1e400] * 3] * 17,
]
COLOURS += [
    [[float("nan")] * 3] * 17,
    [[10**400] * 3] * 17,
    [[1, 2, 3], [1]],
    [[[1, 2, 3]]],
    {"a": 1},
    [[None] * 3] * 17,
]


def test_colours_that_lie_are_refused(models, tmp_path, tried):
    shutil.copytree(models / "stage_c", tmp_path / "c")
    for rows in COLOURS:
        (tmp_path / "c" / "preview.json").write_text(json.dumps({"latent_rgb": rows}))
        refusal(load_stage_c, tmp_path / "c")
        tried(1)


MAPS: list[Any] = [
    *(None, [], {}, 5, "x", {"a": None}, {"a": 5}, {"a": ["b"]}, {"a": {}}, {"a": ""}, {"a": "."}, {"a": ".."}),
    *({"a": "../secret"}, {"a": "/etc/passwd"}, {"a": "a/b"}, {"a": "gone.safetensors"}, {"a": "x\0y"}),
    {"a": "a" * 5000},
    *({"a": "ü" * 200}, {"a": "index"}, {"a": "pipe"}, {"a": "zero"}, {"a": "loop"}, {"a": "folder"}, {"a": "\n"}),
    {str(index): f"{index}.safetensors" for index in range(5000)},
]  # fmt: skip


def test_an_index_of_shards_that_lies_is_refused(tmp_path, tried):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "folder").mkdir()
    index = tmp_path / "diffusion_pytorch_model.safetensors.index.json"
    for weight_map in MAPS:
        index.write_text(json.dumps({"weight_map": weight_map}))
        refusal(load_stage_c, tmp_path)
        tried(1)
    for content in TEXTS.values():
        index.write_bytes(content)
        refusal(load_stage_c, tmp_path)
        tried(1)


def shards(folder: Path, names: list[list[str]]) -> Path:
    """Write shards of tensors by their names, and an index of them; the same names are the same file."""
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    files: dict[str, str] = {}
    for number, each in enumerate(names):
        path = folder / f"{number}.safetensors"
        if each == names[0] and number:
            os.link(folder / "0.safetensors", path)
        else:
            save_file({name: torch.zeros(1) for name in each}, path)
        files[f"k{number}"] = path.name
    for index in ("diffusion_pytorch_model", "model"):
        (folder / f"{index}.safetensors.index.json").write_text(json.dumps({"weight_map": files}))
    return folder


@pytest.mark.parametrize("load", [load_stage_c, load_text_encoder])
def test_shards_hold_no_more_than_a_file_and_each_tensor_once(load, tmp_path, tried):
    many = [f"encoder.layers.{index}.weight" for index in range(3400)]
    with within(10):
        assert "so does another shard" in refusal(load, shards(tmp_path / "same", [many[:9]] * 100))
        parts = [[f"{part}.{name}" for name in many] for part in "abc"]
        assert "hold more than 10,000 tensors" in refusal(load, shards(tmp_path / "many", parts))
    tried(2)


@pytest.mark.parametrize("part", LOADERS)
def test_what_is_no_file_is_neither_waited_for_nor_read(part, tmp_path, tried):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "gone").symlink_to("nowhere")
    (tmp_path / "to a pipe").symlink_to("pipe")
    (tmp_path / "empty").mkdir()
    (tmp_path / "nothing").touch()
    odd = [tmp_path / name for name in ("pipe", "loop", "gone", "to a pipe", "empty", "nothing", "not there", "pipe/x")]
    for source in (*odd, "/dev/zero", "/dev/null", "/dev/tty", "/proc/self/mem", "/proc/kmsg", "/dev/stdin"):
        if os.path.exists(source) or isinstance(source, Path):
            refusal(LOADERS[part], source)
            tried(1 if part == "C" else 0)


@pytest.mark.parametrize("name", ["config.json", "preview.json", WEIGHTS, "previewer.safetensors"])
@pytest.mark.parametrize("kind", ["pipe", "zero", "folder", "loop"])
def test_a_file_of_a_folder_that_is_none_is_not_waited_for(name, kind, models, tmp_path, tried):
    folder = tmp_path / "c"
    shutil.copytree(models / "stage_c", folder)
    (folder / name).unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(folder / name)
    elif kind == "folder":
        (folder / name).mkdir()
    else:
        (folder / name).symlink_to("/dev/zero" if kind == "zero" else name)
    refusal(load_stage_c, folder, may_load=name != WEIGHTS)
    tried(1)


NAMES = [
    "",
    ".",
    "..",
    "/",
    "~",
    "~/",
    "~nobody-at-all",
    "C:",
    "C:\\x",
    "\\\\server\\x",
    "a\0b",
    "~a\0",
    "\udc80",
    "\ud83d",
]
NAMES += [
    "a" * 5000,
    "/" * 5000,
    "a/" * 3000,
    "a/" + "b" * 5000,
    "ü" * 300,
    "x\ny",
    "a/b/../c",
    "-",
    "*",
    "a/b?c",
    "  ",
    "%s",
]
ODD_SOURCES: list[Any] = [*NAMES, None, 5, True, [], {}, b"bytes", 1.5, ("a",)]


@pytest.mark.parametrize("part", LOADERS)
def test_a_name_of_nothing_is_refused(part, tried):
    for source in ODD_SOURCES:
        refusal(LOADERS[part], source)
    tried(len(ODD_SOURCES) if part == "C" else 0)


def test_code_in_the_folder_of_a_model_is_never_run(models, tmp_path, tried, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = f"open({str(tmp_path / 'canary')!r}, 'w').close()\n"
    for stage, load in STAGES.items():
        folder = tmp_path / stage
        shutil.copytree(models / stage, folder)
        for name in (
            "__init__.py",
            "modeling_x.py",
            "config.py",
            "torch.py",
            "sitecustomize.py",
            "conftest.py",
            "setup.py",
        ):
            (folder / name).write_text(code)
            shutil.copy(folder / name, tmp_path)
        load(folder)
        config = json.loads((folder / "config.json").read_text())
        for key in ("auto_map", "trust_remote_code", "custom_pipelines", "architectures", "_auto_class", "__class__"):
            more = {key: {"AutoModel": "modeling_x.Model"}}
            (folder / "config.json").write_text(json.dumps({**config, **more}))
            refusal(load, folder, may_load=key.startswith("_"))
            tried(1)
    assert not (tmp_path / "canary").exists()


def test_an_inferred_config_is_bounded_as_a_written_one(tmp_path, tried):
    state = tiny.stage_a().state_dict()
    odd = [{f"down_blocks.{10**9}.x": torch.ones(1)}, {f"up_blocks.{10**400}.x": torch.ones(1)}]
    odd += [{"up_blocks.0.0.weight": torch.empty(0, 4)}, {"up_blocks.0.0.weight": torch.empty(2**40, 0)}]
    odd += [
        {"out_block.0.weight": torch.empty(0)},
        {"in_block.1.weight": torch.empty(3, 10**8, 0)},
        {"x": torch.ones(1)},
    ]
    odd += [{key: torch.tensor(1.0)} for key in ("up_blocks.0.0.weight", "in_block.1.weight", "out_block.0.weight")]
    for more in odd:
        save_file({**state, **more}, tmp_path / "bare.safetensors")
        refusal(load_stage_a, tmp_path / "bare.safetensors")
        tried(1)
