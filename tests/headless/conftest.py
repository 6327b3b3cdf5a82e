import pytest

import headless_helpers
from wuerstchen_nodes import host as hosts
from wuerstchen_nodes.headless.files import OutputFiles
from wuerstchen_nodes.headless.host import HeadlessHost


@pytest.fixture
def calls() -> list[str]:
    """The toy nodes that ran in this test."""
    headless_helpers.CALLS.clear()
    return headless_helpers.CALLS


@pytest.fixture(autouse=True)
def host(tmp_path, monkeypatch) -> HeadlessHost:
    """The installed host of one test: its files are in tmp_path, which is also the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WUERSTCHEN_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("WUERSTCHEN_CACHE", str(tmp_path / "cache"))
    here = HeadlessHost(OutputFiles(tmp_path / "output"), input_folders=[tmp_path / "input"], device="cpu")
    monkeypatch.setattr(hosts, "_installed", here)
    return here
