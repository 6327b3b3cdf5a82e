"""Test the model names that loaders offer, and the sources and files behind them."""

import os

import pytest
import torch

from support import tiny
from support.hosts import FakeHost
from wuerstchen_core import load_stage_c, save_stage_c
from wuerstchen_core.checkpoints import loading
from wuerstchen_core.checkpoints.layouts import PREVIEWER_FILES
from wuerstchen_core.checkpoints.presets import preset_names
from wuerstchen_core.errors import InputError, WeightsMissingError
from wuerstchen_nodes import models


def test_files_and_folders_that_are_models():
    files = [
        "notes.txt",
        "stage_c.safetensors",
        "text2img_wurstchen_b_v1_previewer_100k.pt",
        "dome272/wuerstchen/text2img_wurstchen_b_v1_previewer_100k.pt",
        "old\\Stage_B.PT",
        "mine/config.json",
        "mine/diffusion_pytorch_model.safetensors",
        "pipeline/model_index.json",
        "pipeline/decoder/config.json",
        "pipeline/decoder/diffusion_pytorch_model.safetensors",
        "bigG/model.safetensors.index.json",
        "bigG/model-00001-of-00002.safetensors",
        "bigG/model-00002-of-00002.safetensors",
        "words/tokenizer_config.json",
    ]
    assert models.names_in(files) == ["bigG", "mine", "old/Stage_B.PT", "pipeline", "stage_c.safetensors"]


def test_a_config_beside_all_models_makes_no_folder():
    assert models.names_in(["config.json", "a.safetensors"]) == ["a.safetensors"]


def test_the_first_folder_that_has_it(tmp_path):
    for folder in ("one", "two"):
        (tmp_path / folder / "sub").mkdir(parents=True)
    (tmp_path / "two" / "sub" / "a.pt").touch()
    folders = [tmp_path / "one", tmp_path / "two"]
    assert models.find_in(folders, "sub/a.pt") == tmp_path / "two" / "sub" / "a.pt"
    assert models.find_in(folders, "sub") == tmp_path / "one" / "sub"
    assert models.find_in(folders, "b.pt") is None


@pytest.mark.parametrize("name", ["", "../secret.pt", "sub/../../secret.pt", "..\\secret.pt", "C:\\secret.pt"])
def test_nothing_outside_the_folders_is_found(tmp_path, name):
    folder = tmp_path / "models"
    (folder / "sub").mkdir(parents=True)
    (tmp_path / "secret.pt").touch()
    assert models.find_in([folder], name) is None
    assert models.find_in([folder], str(tmp_path / "secret.pt")) is None


def test_choices_are_presets_then_models_of_the_host(fake_host: FakeHost):
    (fake_host.folder / "own.safetensors").touch()
    assert models.choices("B") == [*preset_names("B"), "own.safetensors"]


def test_a_name_becomes_a_source(fake_host: FakeHost):
    (fake_host.folder / "own.safetensors").touch()
    assert models.source_of("cocktail", "C") == "cocktail"
    assert models.source_of("v2-base", "A") == "v2-base"
    assert models.source_of("own.safetensors", "C") == fake_host.folder / "own.safetensors"
    with pytest.raises(WeightsMissingError, match=r"'gone\.pt'.*neither in the model folders nor one of cocktail, "):
        models.source_of("gone.pt", "C")


def test_a_published_preset_in_the_model_folders_is_taken_from_there(fake_host: FakeHost):
    vqgan = fake_host.folder / "warp-ai" / "wuerstchen" / "vqgan"
    vqgan.mkdir(parents=True)
    assert models.source_of("v2-base", "A") == vqgan
    assert models.source_of("v2-base", "text_encoder_b") == vqgan.parent
    assert models.source_of("v2-base", "C") == "v2-base"


def test_the_fingerprint_changes_with_the_file(fake_host: FakeHost):
    file = fake_host.folder / "mine" / "weights.safetensors"
    file.parent.mkdir()
    file.write_bytes(b"12")
    os.utime(file, (1, 1))
    before = models.fingerprint("mine", "C")
    assert models.fingerprint("mine", "C") == before
    os.utime(file, (2, 2))
    touched = models.fingerprint("mine", "C")
    file.write_bytes(b"123")
    os.utime(file, (2, 2))
    assert len({before, touched, models.fingerprint("mine", "C")}) == 3


def test_the_fingerprint_changes_with_a_previewer_elsewhere(fake_host: FakeHost):
    save_stage_c(tiny.stage_c(), fake_host.folder / "warp-ai" / "wuerstchen-prior-model-base")
    before = models.fingerprint("v2-base", "C")
    (fake_host.folder / PREVIEWER_FILES[1]).touch()
    assert models.fingerprint("v2-base", "C") != before


def test_presets_and_missing_files_have_a_fingerprint_too(fake_host: FakeHost):
    assert models.fingerprint("cocktail", "C") == "cocktail"
    assert models.fingerprint("gone.pt", "C") == "gone.pt"


def test_dtypes(fake_host: FakeHost):
    assert models.dtype_of("default", "C") == fake_host.dtype("C")
    assert models.dtype_of("float16", "C") == torch.float16
    with pytest.raises(InputError, match="dtype is 'int4'; expected one of default, float32, bfloat16, float16"):
        models.dtype_of("int4", "A")


def test_source_files_are_the_files_that_loading_reads(fake_host: FakeHost):
    folder = fake_host.folder / "mine"
    folder.mkdir()
    for name in ("config.json", "diffusion_pytorch_model.safetensors", "README.md"):
        (folder / name).touch()
    assert {path.name for path in models.source_files("mine", "C")} == {
        "config.json",
        "diffusion_pytorch_model.safetensors",
    }
    cocktail = [*models.source_files("cocktail", "B"), *models.source_files("cocktail", "text_encoder_c")]
    assert {path.suffix for path in cocktail} >= {".json", ".safetensors"}
    assert all(path.is_file() for path in cocktail)
    with pytest.raises(WeightsMissingError, match=r"'gone\.pt'"):
        models.source_files("gone.pt", "C")


def test_what_a_loader_reads_is_what_an_earlier_start_has_kept(fake_host: FakeHost, tmp_path, monkeypatch):
    monkeypatch.setenv("WUERSTCHEN_CACHE", str(tmp_path))
    monkeypatch.setattr(loading, "LARGE", 1000)
    plain = models.read_files("cocktail", "C", "int8")
    assert plain == models.read_files("cocktail", "C", "default") and plain[0].name.endswith(".safetensors")
    load_stage_c("cocktail", dtype=torch.int8)
    assert models.read_files("cocktail", "C", "int8") == list((tmp_path / "int8").iterdir())
