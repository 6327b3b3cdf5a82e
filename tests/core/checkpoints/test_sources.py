"""Test how presets, paths and hub repositories are found and downloaded, and that nothing is downloaded unasked."""

import shutil
from fnmatch import fnmatch
from pathlib import Path

import huggingface_hub
import pytest
import torch
from safetensors.torch import save_file

from support import tiny
from wuerstchen_core import (
    InputError,
    WeightsMissingError,
    WuerstchenError,
    load_stage_a,
    load_stage_b,
    load_stage_c,
    load_text_encoder,
)
from wuerstchen_core.checkpoints.components import COMPONENTS
from wuerstchen_core.checkpoints.presets import PRESETS, family, preset, preset_names
from wuerstchen_core.checkpoints.saving import save_stage_c
from wuerstchen_core.checkpoints.sources import download_preset, locate, models_folder, presence


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path):
    """Provide an empty model folder and an empty hub cache, and make downloads fail."""
    monkeypatch.setenv("WUERSTCHEN_MODELS", str(tmp_path / "models"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    real = huggingface_hub.snapshot_download

    def local_only(*arguments, **options):
        assert options.get("local_files_only"), "nothing may be downloaded"
        return real(*arguments, **options)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", local_only)


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """Return a folder in place of the hub: owner/name folders with tiny networks."""
    hub = tmp_path_factory.mktemp("hub")
    tiny.save_pipelines(hub / "warp-ai")
    for name in ("base", "finetuned", "interpolated"):
        save_stage_c(tiny.stage_c(), hub / "warp-ai" / f"wuerstchen-prior-model-{name}")
    return hub


@pytest.fixture
def hub(monkeypatch, published):
    """Make downloads copy from `published`; return the list of downloaded files."""
    fetched: list[str] = []

    def fetch(repo, *, local_dir=None, allow_patterns=(), local_files_only=False, dry_run=False):
        assert not dry_run
        if local_files_only:
            raise huggingface_hub.errors.LocalEntryNotFoundError("not cached")
        if not (published / repo).is_dir():
            raise OSError("404: no such repository")
        for file in (published / repo).rglob("*"):
            name = file.relative_to(published / repo).as_posix()
            if file.is_file() and any(fnmatch(name, pattern) for pattern in allow_patterns):
                (local_dir / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file, local_dir / name)
                fetched.append(f"{repo}/{name}")
        return str(local_dir)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    return fetched


def test_every_preset_has_every_part():
    assert list(PRESETS) == [
        "cocktail",
        "cocktail-base",
        "cocktail-aesthetic",
        "v2-base",
        "v2-aesthetic",
        "v2-interpolated",
    ]
    for part in ("C", "B", "A", "text_encoder", "image_encoder"):
        assert preset_names(part) == list(PRESETS)
    assert all(list(places) == list(COMPONENTS) for places in PRESETS.values())
    assert preset_names("D") == []
    assert [family(name).natural_size for name in PRESETS] == [256] * 3 + [1024] * 3
    with pytest.raises(InputError, match=r"model is 'v3'; expected one of cocktail, "):
        preset("v3")


def test_models_folder(monkeypatch, tmp_path):
    assert models_folder() == tmp_path / "models"
    monkeypatch.delenv("WUERSTCHEN_MODELS")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert models_folder() == tmp_path / "xdg" / "wuerstchen"


@pytest.mark.parametrize("load", [load_stage_a, load_stage_b, load_stage_c, load_text_encoder])
def test_missing_preset_says_where_it_looked_and_what_to_do(load, tmp_path):
    with pytest.raises(WeightsMissingError) as caught:
        load("v2-interpolated")
    message = str(caught.value)
    assert "is not on this machine" in message
    assert str(tmp_path / "models" / "warp-ai") in message
    assert "`wuerstchen download v2-interpolated`" in message
    assert "download=True" in message


def test_missing_repository_says_what_to_do():
    with pytest.raises(WeightsMissingError, match=r"someone/prior is not on this machine.*download=True"):
        load_stage_c("someone/prior")


@pytest.mark.parametrize("source", ["cocktial", "models/../../etc", "a b/c"])
def test_neither_path_nor_preset_nor_repository(source):
    with pytest.raises(WeightsMissingError, match=r"does not exist; expected a file, a folder, .*cocktail"):
        load_stage_c(source)


def test_model_folder_is_looked_in(published, tmp_path):
    shutil.copytree(published / "warp-ai", tmp_path / "models" / "warp-ai")
    assert load_stage_c("v2-base").config == tiny.STAGE_C
    assert load_stage_b("v2-base").config == tiny.STAGE_B
    assert load_stage_a("warp-ai/wuerstchen").config == tiny.STAGE_A
    assert load_stage_a("warp-ai/wuerstchen/vqgan").config == tiny.STAGE_A
    prior, decoder = (load_text_encoder("v2-base", for_stage=stage) for stage in ("C", "B"))
    assert not torch.equal(prior.encode(["x"]), decoder.encode(["x"])), "they are two encoders"


def test_the_prior_of_the_whole_pipeline_is_the_interpolated_one(published, tmp_path, hub):
    shutil.copytree(published / "warp-ai" / "wuerstchen-prior", tmp_path / "models" / "warp-ai" / "wuerstchen-prior")
    found = load_stage_c("v2-interpolated", download=True)
    assert found.config == tiny.STAGE_C and hub == []
    assert {each.part: each.path for each in presence("v2-interpolated")}["C"] == (
        tmp_path / "models" / "warp-ai" / "wuerstchen-prior" / "prior"
    )
    with pytest.raises(WeightsMissingError, match="wuerstchen-prior-model-base is not on this machine"):
        load_stage_c("v2-base")


def test_shared_hub_cache_is_looked_in(published, tmp_path):
    repository = tmp_path / "cache" / "models--warp-ai--wuerstchen-prior"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0" * 40)
    shutil.copytree(published / "warp-ai" / "wuerstchen-prior", repository / "snapshots" / ("0" * 40))
    assert load_stage_c("warp-ai/wuerstchen-prior").config == tiny.STAGE_C


def test_download_fetches_one_part_into_the_model_folder(hub, tmp_path):
    loaded = load_stage_b("v2-base", download=True)
    assert loaded.config == tiny.STAGE_B
    assert set(hub) == {
        "warp-ai/wuerstchen/decoder/config.json",
        "warp-ai/wuerstchen/decoder/diffusion_pytorch_model.safetensors",
    }
    assert (tmp_path / "models" / "warp-ai" / "wuerstchen" / "decoder" / "config.json").is_file()
    hub.clear()
    load_stage_b("v2-base", download=True)
    load_stage_b("v2-base")
    assert hub == [], "present files are not downloaded again"


def test_download_of_a_file_by_name(hub, published):
    folder = published / "authors" / "repo"
    folder.mkdir(parents=True)
    torch.save({"state_dict": tiny.in_authors_keys(tiny.stage_b().state_dict())}, folder / "stage_b.pt")
    (folder / "other.pt").write_bytes(b"not asked for")
    assert load_stage_b("authors/repo/stage_b.pt", download=True).config == tiny.STAGE_B
    assert hub == ["authors/repo/stage_b.pt"]


def test_download_of_bin_files_where_there_is_nothing_else(hub, published):
    folder = published / "someone" / "old"
    folder.mkdir(parents=True)
    torch.save(tiny.stage_c().state_dict(), folder / "diffusion_pytorch_model.bin")
    assert load_stage_c("someone/old", download=True).config == tiny.STAGE_C


def test_download_preset_and_presence(hub):
    before = {each.part: each for each in presence("v2-aesthetic")}
    assert set(before) == {"C", "B", "A", "text_encoder_c", "text_encoder_b", "image_encoder"}
    assert all(each.path is None and each.size == 0 for each in before.values())
    fetched = list(download_preset("v2-aesthetic"))
    assert [each.part for each in fetched] == list(before)
    assert fetched == presence("v2-aesthetic")
    for each in fetched:
        assert each.path is not None and each.path.exists()
        assert each.size > 1000
    assert str(before["B"].place) == "warp-ai/wuerstchen/decoder"


def test_failed_download_names_the_reason(hub):
    with pytest.raises(WeightsMissingError, match=r"no/such could not be downloaded to .*404: no such repository"):
        load_stage_c("no/such", download=True)


def test_download_to_a_folder_that_cannot_be_written(hub, tmp_path):
    (tmp_path / "models").write_text("a file where the folder should be")
    with pytest.raises(WuerstchenError, match="could not be downloaded"):
        load_stage_c("v2-base", download=True)


def test_repository_without_the_component(hub):
    with pytest.raises(WeightsMissingError, match="warp-ai/wuerstchen has no prior"):
        load_stage_c("warp-ai/wuerstchen", download=True)


def test_a_path_wins_over_a_repository_of_that_name(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    Path("someone").mkdir()
    save_file(tiny.stage_c().state_dict(), "someone/prior")
    assert locate("someone/prior", "C").paths == (Path("someone/prior"),)
    assert load_stage_c("someone/prior").config == tiny.STAGE_C
