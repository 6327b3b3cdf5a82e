"""Fixtures of the tests of headless runs, for the conftest.py of each folder that has such tests."""

import pytest

from support import workflows
from support.batches import InlineEngine
from wuerstchen_nodes import host as hosts
from wuerstchen_nodes.headless.batch import command
from wuerstchen_nodes.headless.host import HeadlessHost
from wuerstchen_nodes.headless.output_files import OutputFiles


@pytest.fixture
def calls() -> list[str]:
    """Classes of the toy nodes that ran in this test."""
    workflows.CALLS.clear()
    return workflows.CALLS


@pytest.fixture(autouse=True)
def host(tmp_path, monkeypatch) -> HeadlessHost:
    """Install a host for one test: its files are in tmp_path, which is also the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WUERSTCHEN_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("WUERSTCHEN_CACHE", str(tmp_path / "cache"))
    here = HeadlessHost(OutputFiles(tmp_path / "output"), input_folders=[tmp_path / "input"], device="cpu")
    monkeypatch.setattr(hosts, "_installed", here)
    return here


@pytest.fixture(autouse=True)
def log_folder(tmp_path, monkeypatch):
    """Name the folder in which the toy nodes of every process record that they ran."""
    monkeypatch.setenv("BATCH_TEST_FOLDER", str(tmp_path))


@pytest.fixture
def inline(monkeypatch):
    """Run the rows of batches in this process."""
    monkeypatch.setattr(command, "_engine", lambda kind, setup, *_: InlineEngine(setup))
