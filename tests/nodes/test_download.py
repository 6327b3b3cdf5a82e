"""Download Weights: it says what is missing, and downloads only when it is told to."""

import os
import shutil
import socket
import sys
import time

import pytest

from support import tiny
from support.hosts import FakeHost
from support.hub import serving
from wuerstchen_core.checkpoints.saving import save_stage_c
from wuerstchen_core.errors import WeightsMissingError
from wuerstchen_nodes import download as download_module
from wuerstchen_nodes import models
from wuerstchen_nodes.comfy.downloads import download
from wuerstchen_nodes.download import DownloadWeights

PRESET = "v2-interpolated"
STAGE_C = "warp-ai/wuerstchen-prior-model-interpolated"
WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture(autouse=True)
def nowhere(tmp_path, monkeypatch):
    """Simulate a machine on which nothing was ever downloaded."""
    for name in ("WUERSTCHEN_MODELS", "HF_HOME", "HF_HUB_CACHE"):
        monkeypatch.setenv(name, str(tmp_path / "empty"))


@pytest.fixture
def published(tmp_path):
    """Return a folder in place of the hub, with tiny networks."""
    tiny.save_pipelines(tmp_path / "hub/warp-ai")
    save_stage_c(tiny.stage_c(), tmp_path / "hub" / STAGE_C)
    return tmp_path / "hub"


def run(download: bool = False) -> str:
    return DownloadWeights().run(PRESET, download)["ui"]["text"][0]


def test_it_says_what_is_missing_and_downloads_nothing(fake_host: FakeHost):
    fake_host.downloads = []
    told = run()
    assert told.startswith("v2-interpolated needs 12.5 GB more: Stage C 3.97, Stage B 4.22, Stage A 0.07, text ")
    assert f"GB are free in {fake_host.folder}.\n" in told and 'set download to "get them"' in told
    assert fake_host.notices == [told]
    assert not list(fake_host.folder.rglob("warp-ai"))


def test_what_is_there_is_not_needed_and_half_of_it_is(fake_host: FakeHost, published):
    fake_host.downloads = []
    shutil.copytree(published, fake_host.folder, dirs_exist_ok=True)
    assert run(True) == "v2-interpolated is complete: nothing to download."
    (fake_host.folder / STAGE_C / WEIGHTS).unlink()
    # The same weights are in the pipeline of the prior.
    assert models.missing_parts(PRESET) == []
    shutil.rmtree(fake_host.folder / "warp-ai/wuerstchen-prior/prior")
    assert models.missing_parts(PRESET) == ["C"]
    assert "needs 4.0 GB more: Stage C 3.97." in run()


def test_progress_and_speed_are_on_the_node_while_it_downloads(fake_host: FakeHost, monkeypatch):
    fake_host.downloads = [(0, 0), (0, 12_000_000_000), (3_000_000_000, 12_000_000_000)]
    clock = iter([0.0, 1.0, 60.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(download_module, "_free", lambda folder: 10**11)
    assert run(True) == "v2-interpolated is complete."
    assert fake_host.notices == [
        "Asking Hugging Face for the files ...",
        "0.00 of 12.00 GB, waiting for the first bytes",
        "3.00 of 12.00 GB, 50.0 MB/s, 3 minutes left",
        "v2-interpolated is complete.",
    ]
    assert fake_host.reported == [("Download", 0, 1), ("Download", 0, 12000), ("Download", 3000, 12000)]


def test_a_cancelled_download_says_where_it_stopped(fake_host: FakeHost, monkeypatch):
    fake_host.downloads = [(0, 12_000_000_000), (3_000_000_000, 12_000_000_000)]
    fake_host.cancel_at = 3000
    monkeypatch.setattr(download_module, "_free", lambda folder: 10**11)
    with pytest.raises(KeyboardInterrupt):
        run(True)
    assert fake_host.notices[-1].startswith("Stopped at 3.00 of 12.00 GB.")


def test_a_full_disk_is_said_beforehand(fake_host: FakeHost, monkeypatch):
    fake_host.downloads = [(0, 12_000_000_000)]
    monkeypatch.setattr(download_module, "_free", lambda folder: 5 * 10**9)
    with pytest.raises(WeightsMissingError, match=r"needs 12\.00 GB more, and .* room for 5\.00 GB\. Make room"):
        run(True)


def test_a_workflow_downloads_nothing_outside_comfyui(fake_host: FakeHost):
    with pytest.raises(WeightsMissingError, match="Run `wuerstchen download v2-interpolated`"):
        run(True)


def test_it_looks_again_in_every_run():
    assert DownloadWeights.IS_CHANGED(PRESET, False) != DownloadWeights.IS_CHANGED(PRESET, False)


def test_a_download_from_a_server(published, tmp_path, monkeypatch):
    with serving(published) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        seen = list(download(PRESET, tmp_path / "models"))
        size = sum(path.stat().st_size for path in (tmp_path / "models").rglob("*.safetensors"))
        assert seen[-1][0] == seen[-1][1] >= size
        assert [done for done, _ in seen] == sorted(done for done, _ in seen)
        assert (tmp_path / "models" / STAGE_C / WEIGHTS).read_bytes() == (published / STAGE_C / WEIGHTS).read_bytes()
        asked = len(hub.sent)
        assert set(download(PRESET, tmp_path / "models")) == {(0, 0)} and len(hub.sent) == asked


def test_a_download_is_stopped_at_once_and_goes_on_with_the_other_files(published, tmp_path, monkeypatch):
    first, config = f"{STAGE_C}/{WEIGHTS}", f"{STAGE_C}/config.json"
    with serving(published, pause=2) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        running = download(PRESET, tmp_path / "models")
        next(_ for _ in running if first in hub.sent and (tmp_path / "models" / config).exists())
        running.close()
        assert hub.sent.count(first) == 1
        assert not list((tmp_path / "models").rglob("*.incomplete"))
        assert not (tmp_path / "models" / first).exists()
        hub.pause = 0
        list(download(PRESET, tmp_path / "models"))
        assert hub.sent.count(first) == 2
        assert hub.sent.count(config) == 1
        assert (tmp_path / "models" / first).read_bytes() == (published / first).read_bytes()


def test_it_is_stopped_while_it_asks_a_server_that_does_not_answer(tmp_path, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        running = download(PRESET, tmp_path / "models")
        assert [next(running) for _ in range(3)] == [(0, 0)] * 3
        started = time.monotonic()
        running.close()
        assert time.monotonic() - started < 5


def test_a_repository_that_is_not_there(published, tmp_path, monkeypatch):
    shutil.rmtree(published / STAGE_C)
    with serving(published) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        with pytest.raises(WeightsMissingError, match=f"{STAGE_C} could not be downloaded to .*models"):
            list(download(PRESET, tmp_path / "models"))


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written(published, tmp_path, monkeypatch):
    (tmp_path / "models").mkdir(mode=0o500)
    with serving(published) as hub, pytest.raises(WeightsMissingError, match="could not be downloaded"):
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        list(download(PRESET, tmp_path / "models"))
