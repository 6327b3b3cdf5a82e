"""Test that every bad checkpoint gives one clear error: what was given, what was expected and what to do."""

import json
import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from support import tiny
from wuerstchen_core import (
    CheckpointError,
    InputError,
    StageCConfig,
    WeightsMissingError,
    load_stage_a,
    load_stage_b,
    load_stage_c,
)
from wuerstchen_core.checkpoints.config import config_from
from wuerstchen_core.checkpoints.saving import save_stage_a, save_stage_b, save_stage_c

WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture
def folder(tmp_path):
    save_stage_c(tiny.stage_c(), tmp_path / "prior")
    return tmp_path / "prior"


def _refusal(source, load=load_stage_c) -> str:
    with pytest.raises(CheckpointError) as caught:
        load(source)
    message = str(caught.value)
    assert str(source) in message, "the message names the file"
    return message


def _state(**changes):
    state = dict(tiny.stage_c().state_dict())
    for key, value in changes.items():
        state[key] = value
    return state


def test_missing_file(tmp_path):
    with pytest.raises(WeightsMissingError, match=r"does not exist.*expected a file, a folder"):
        load_stage_c(tmp_path / "nothing.safetensors")


def test_folder_without_the_component(tmp_path):
    save_stage_b(tiny.stage_b(), tmp_path / "decoder")
    with pytest.raises(WeightsMissingError, match=r"no weights of the prior.*found decoder/"):
        load_stage_c(tmp_path)


@pytest.mark.parametrize("how", ["file", "folder"])
@pytest.mark.parametrize(
    "save, build, load, found, wanted",
    [
        (save_stage_b, tiny.stage_b, load_stage_c, "Stage B", "Stage C"),
        (save_stage_c, tiny.stage_c, load_stage_a, "Stage C", "Stage A"),
        (save_stage_a, tiny.stage_a, load_stage_b, "Stage A", "Stage B"),
    ],
)
def test_wrong_stage_is_named(tmp_path, save, build, load, found, wanted, how):
    save(build(), tmp_path / "model")
    if how == "file":
        (tmp_path / "model" / WEIGHTS).rename(tmp_path / "some.safetensors")
        message = _refusal(tmp_path / "some.safetensors", load)
        assert f"looks like {found}" in message
    else:
        message = _refusal(tmp_path / "model", load)
        assert "is of the class" in message
    assert f"{wanted} (" in message


def test_text_encoder_for_a_stage(tmp_path):
    tiny.save_text(tmp_path)
    assert "a text encoder" in _refusal(tmp_path / "text_encoder" / "model.safetensors")


def test_another_model(tmp_path):
    save_file({"unet.conv.weight": torch.ones(2)}, tmp_path / "sdxl.safetensors")
    assert "no stage of Würstchen (its first keys are ['unet.conv.weight'])" in _refusal(tmp_path / "sdxl.safetensors")


def test_missing_key(folder):
    state = _state()
    del state["blocks.1.mapper.bias"]
    save_file(state, folder / WEIGHTS)
    message = _refusal(folder)
    assert "'blocks.1.mapper.bias' is one of 1 missing; expected it with shape [128]" in message


def test_missing_key_where_the_config_is_inferred(tmp_path):
    state = _state()
    del state["blocks.1.mapper.weight"]
    save_file(state, tmp_path / "bare.safetensors")
    assert "'blocks.1.mapper.weight' is missing" in _refusal(tmp_path / "bare.safetensors")


def test_unexpected_key(folder):
    save_file(_state(**{"lora.up": torch.ones(3)}), folder / WEIGHTS)
    assert "'lora.up' with shape [3] is one of 1 unexpected" in _refusal(folder)


def test_wrong_shape(folder):
    save_file(_state(**{"out.1.bias": torch.ones(31)}), folder / WEIGHTS)
    message = _refusal(folder)
    assert "'out.1.bias' has shape [31]; expected [32]" in message
    assert "config.json" in message


def test_quantized(folder):
    save_file(_state(**{"out.1.bias": torch.ones(32, dtype=torch.int16)}), folder / WEIGHTS)
    assert "Quantized checkpoints are not supported" in _refusal(folder)


def test_packed_attention_that_cannot_be_split(tmp_path):
    state = tiny.in_authors_keys(tiny.stage_c().state_dict())
    state["blocks.2.attention.attn.in_proj_bias"] = torch.ones(64)
    save_file(state, tmp_path / "odd.safetensors")
    assert "has shape [64]; expected a first dimension that splits into 3" in _refusal(tmp_path / "odd.safetensors")


def test_both_key_styles_at_once(tmp_path):
    state = tiny.stage_c().state_dict()
    copies = {key: value.clone() for key, value in tiny.in_authors_keys(state).items()}
    save_file({**state, **copies}, tmp_path / "both.safetensors")
    assert "two tensors for" in _refusal(tmp_path / "both.safetensors")


def test_unknown_number_of_heads(tmp_path):
    network = tiny.stage_c(StageCConfig(c_in=4, c=40, c_cond=8, c_r=4, depth=1, nhead=5))
    save_file(network.state_dict(), tmp_path / "narrow.safetensors")
    message = _refusal(tmp_path / "narrow.safetensors")
    assert "no multiple of 64" in message
    assert "config.json" in message


@pytest.mark.parametrize("kind", ["safetensors", "pt", "old pt"])
@pytest.mark.parametrize("share", [0.0005, 0.3, 0.99])
def test_truncated(tmp_path, kind, share):
    path = tmp_path / f"cut.{kind.split()[-1]}"
    if kind == "safetensors":
        save_file(tiny.stage_c().state_dict(), path)
    else:
        torch.save(tiny.stage_c().state_dict(), path, _use_new_zipfile_serialization=kind == "pt")
    whole = path.read_bytes()
    path.write_bytes(whole[: max(9, int(len(whole) * share))])
    message = _refusal(path)
    assert "damaged or" in message
    assert "Download it again" in message


@pytest.mark.parametrize(
    "content, expected",
    [
        (b"", "is empty"),
        (b"  <!DOCTYPE html><html>Sign in</html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer"),
        (b"GGUF\x03\x00\x00\x00", "neither a safetensors nor a PyTorch file"),
    ],
)
def test_files_that_are_no_weights(tmp_path, content, expected):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    assert expected in _refusal(path)


class _Payload:
    """Object whose pickle makes a folder when it is loaded."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return (os.mkdir, (str(self.marker),))


@pytest.mark.parametrize("form", ["zip", "old torch", "plain pickle", "newer pickle"])
def test_pickle_with_code_is_refused_and_not_run(tmp_path, form):
    path, marker = tmp_path / "evil.pt", tmp_path / "owned"
    content = {"state_dict": {"projection.weight": torch.ones(2), "x": _Payload(marker)}}
    if form.endswith("pickle"):
        path.write_bytes(pickle.dumps({"x": _Payload(marker)}, protocol=2 if form == "plain pickle" else 4))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "zip")
    message = _refusal(path)
    assert not marker.exists()
    if form == "newer pickle":  # torch cannot read this protocol, so the content stays unknown
        assert "was refused: it is damaged or holds more than tensors" in message
    else:
        assert "was refused: it contains code" in message
        assert "mkdir" in message
    pickle.loads(pickle.dumps(_Payload(marker)))
    assert marker.exists(), "the payload works where a loader does run it"


def test_pickle_of_a_whole_network_is_refused(tmp_path):
    torch.save(tiny.stage_c(), tmp_path / "network.pt")
    message = _refusal(tmp_path / "network.pt")
    assert "was refused: it contains code or Python objects (wuerstchen_core.networks.stage_c.StageC)" in message


@pytest.mark.parametrize(
    "content, expected",
    [
        ([torch.ones(2)], "holds a list"),
        ({"epoch": 3}, "'epoch' is a int; expected tensors by name"),
        ({3: torch.ones(2)}, "3 is a Tensor; expected tensors by name"),
    ],
)
def test_pickle_of_something_else(tmp_path, content, expected):
    torch.save(content, tmp_path / "odd.pt")
    message = _refusal(tmp_path / "odd.pt")
    assert expected in message
    assert "state_dict()" in message


@pytest.mark.parametrize(
    "content, expected",
    [
        ("{not json", "is not valid JSON"),
        ("[1, 2]", "holds a list; expected a JSON object"),
        (
            '{"_class_name": "UNet2DConditionModel"}',
            "is of the class 'UNet2DConditionModel'; expected 'WuerstchenPrior'",
        ),
        ('{"c": "wide"}', "c is 'wide'; expected something like 1280"),
        ('{"c": -3}', "c is -3"),
        ('{"depth": 1000000}', "depth is 1000000"),
        ('{"nhead": 7}', "c 1280 cannot be split into nhead 7"),
        ('{"nhead": true}', "nhead is True"),
        ('{"self_attn": false}', "has the field 'self_attn'; expected only c_in"),
        ('{"c": 128}', "expected [512] for Stage C as "),
        ('{"dropout": NaN}', "dropout is nan"),
    ],
)
def test_bad_config(folder, content, expected):
    path = folder / "config.json"
    if content.startswith('{"c": 128'):
        content = json.dumps({**json.loads(path.read_text()), **json.loads(content)})
    path.write_text(content)
    with pytest.raises(CheckpointError) as caught:
        load_stage_c(folder)
    assert expected in str(caught.value)
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize(
    "change, expected",
    [
        ({"blocks": [1, 2]}, "the fields do not have one entry for each level"),
        ({"blocks": 4}, "blocks is 4; expected something like [4, 4, 14, 4]"),
        ({"level_config": ["CT", "CTA", "CTX"]}, "'CTX'"),
        ({"nhead": [-1, -1, 2]}, "cannot be split into nhead -1"),
        ({"kernel_size": 4}, "kernel_size is 4"),
        ({"inject_effnet": [0, 1, 1]}, "inject_effnet is 0"),
        ({"c_r": 2}, "c_r is 2"),
        (
            {"c_hidden": [], "nhead": [], "blocks": [], "level_config": [], "inject_effnet": []},
            "do not have one entry for each level",
        ),
    ],
)
def test_bad_config_of_stage_b(change, expected):
    with pytest.raises(CheckpointError) as caught:
        config_from({**_lists(tiny.STAGE_B), **change}, type(tiny.STAGE_B), "config.json")
    assert expected in str(caught.value)


def test_bad_config_of_stage_a():
    with pytest.raises(CheckpointError, match="embed_dim 385 is no multiple of 2"):
        config_from({"embed_dim": 385}, type(tiny.STAGE_A), "config.json")


def _lists(config) -> dict:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in vars(config).items()}


@pytest.mark.parametrize(
    "index, expected",
    [
        ({}, "has no weight_map"),
        ({"weight_map": {"a": "../../etc/passwd"}}, "expected a file beside it"),
        ({"weight_map": {"a": ""}}, "expected a file beside it"),
        ({"weight_map": {"a": "gone-00001-of-00002.safetensors"}}, "is not there"),
    ],
)
def test_bad_index_of_shards(folder, index, expected):
    (folder / WEIGHTS).unlink()
    (folder / f"{WEIGHTS}.index.json").write_text(json.dumps(index))
    assert expected in _refusal(folder)


def test_bad_device_and_dtype(folder):
    with pytest.raises(InputError, match="device is 'abacus'"):
        load_stage_c(folder, device="abacus")
    with pytest.raises(InputError, match=r"dtype is torch.int16; expected one of torch.float32"):
        load_stage_c(folder, dtype=torch.int16)
