"""Test the loader nodes on real files in a model folder."""

import os
from pathlib import Path

import pytest
import torch

from support import tiny
from support.hosts import FakeHost, Kept
from wuerstchen_core import StageA, StageB, StageC
from wuerstchen_core.checkpoints.saving import save_stage_a, save_stage_b, save_stage_c
from wuerstchen_core.errors import CheckpointError, InputError, WeightsMissingError
from wuerstchen_core.training.text import MAX_TOKENS, make_text_model, make_tokenizer
from wuerstchen_nodes.lazy import kept_of
from wuerstchen_nodes.loaders import LoadStageA, LoadStageB, LoadStageC, LoadTextEncoder
from wuerstchen_nodes.text import TextEncode


@pytest.fixture
def folder(fake_host: FakeHost) -> Path:
    """Return a model folder with one checkpoint of each stage."""
    save_stage_a(tiny.stage_a(), fake_host.folder / "a")
    save_stage_b(tiny.stage_b(), fake_host.folder / "sub" / "b")
    save_stage_c(tiny.stage_c(), fake_host.folder / "c")
    return fake_host.folder


@pytest.fixture
def nowhere(tmp_path, monkeypatch) -> None:
    """Simulate a machine on which nothing was ever downloaded."""
    for name in ("WUERSTCHEN_MODELS", "HF_HOME", "HF_HUB_CACHE"):
        monkeypatch.setenv(name, str(tmp_path / "empty"))


@pytest.mark.parametrize(
    ("loader", "name", "kind"), [(LoadStageC, "c", StageC), (LoadStageB, "sub/b", StageB), (LoadStageA, "a", StageA)]
)
def test_a_folder_becomes_a_network_of_the_dtype_asked_for(folder, loader, name, kind):
    choices, _ = loader.INPUT_TYPES()["required"]["model"]
    assert name in choices and "cocktail" in choices
    (loaded,) = loader().load(name, "float16")
    kept = kept_of(loaded)
    assert isinstance(kept, Kept) and isinstance(kept.network, kind)
    assert {weight.dtype for weight in kept.network.parameters()} == {torch.float16}


def test_stages_c_and_b_may_be_kept_in_eight_bits(folder):
    for loader, name in ((LoadStageC, "c"), (LoadStageB, "sub/b")):
        assert "float8_e4m3fn" in loader.INPUT_TYPES()["required"]["dtype"][0]
        (loaded,) = loader().load(name, "float8_e4m3fn")
        assert {weight.dtype.itemsize for weight in kept_of(loaded).network.parameters()} >= {1}
    assert "float8_e4m3fn" not in LoadStageA.INPUT_TYPES()["required"]["dtype"][0]
    with pytest.raises(InputError, match="expected one of default"):
        LoadStageA().load("a", "float8_e4m3fn")


def test_the_default_dtype_is_the_hosts(folder, fake_host: FakeHost):
    (loaded,) = LoadStageC().load("c", "default")
    assert next(kept_of(loaded).network.parameters()).dtype == fake_host.dtype("C") == torch.bfloat16


def test_another_stages_checkpoint_is_refused(folder):
    with pytest.raises(CheckpointError, match="Stage C"):
        LoadStageC().load("sub/b", "default")


def test_a_missing_model_is_one_clear_error(folder, nowhere):
    with pytest.raises(WeightsMissingError, match=r"'gone\.pt'"):
        LoadStageB().load("gone.pt", "default")
    with pytest.raises(WeightsMissingError, match=r"model.safetensors of warp-ai/.* is missing, 3.97 GB\. Get "):
        LoadStageC().load("v2-base", "default")
    with pytest.raises(InputError, match=r"dtype is 'int8'"):
        LoadStageA().load("a", "int8")


def test_a_changed_file_is_loaded_again(folder):
    before = LoadStageC.IS_CHANGED(model="c", dtype="default")
    assert LoadStageC.IS_CHANGED(model="c", dtype="default") == before
    os.utime(folder / "c" / "config.json", (1, 1))
    assert LoadStageC.IS_CHANGED(model="c", dtype="default") != before
    assert LoadTextEncoder.IS_CHANGED(model="cocktail", for_stage="B") == "cocktail"


def test_a_loader_names_the_files_that_it_reads(folder):
    read = LoadStageC.source_files(model="c", dtype="default")
    assert {path.parent for path in read} == {folder / "c"}
    (weights, *_) = LoadTextEncoder.source_files(model="cocktail", for_stage="B")
    assert weights.parent.name == "text_encoder"


def test_a_prompt_through_a_text_encoder(fake_host: FakeHost, caplog):
    pipeline = fake_host.folder / "pipeline"
    tokenizer = make_tokenizer(["a red circle"] * 3, pipeline / "tokenizer", vocabulary=64)
    make_text_model(tokenizer, width=64, layers=1).save_pretrained(pipeline / "text_encoder")
    (kept,) = LoadTextEncoder().load("pipeline", "C")
    (((embedding, options),),) = TextEncode().encode(kept, "a red circle")
    assert embedding.shape == (1, MAX_TOKENS, 64) and options["pooled_output"].shape == (1, 64)
    (((other, _),),) = TextEncode().encode(kept, "")
    assert not torch.equal(embedding, other)
    assert not caplog.records
    TextEncode().encode(kept, "circle " * 100)
    assert "is ignored" in caplog.text


def test_a_text_encoder_is_for_one_of_two_stages(fake_host: FakeHost):
    with pytest.raises(InputError, match="for_stage is 'A'; expected one of C, B"):
        LoadTextEncoder().load("cocktail", "A")
