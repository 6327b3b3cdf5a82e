import pytest

from batch_helpers import InlineEngine
from wuerstchen_nodes.headless.batch import command


@pytest.fixture(autouse=True)
def log_folder(tmp_path, monkeypatch):
    """Where the cheap nodes of every process note that they ran."""
    monkeypatch.setenv("BATCH_TEST_FOLDER", str(tmp_path))


@pytest.fixture
def inline(monkeypatch):
    """Rows run in this process."""
    monkeypatch.setattr(command, "_engine", lambda kind, setup, *_: InlineEngine(setup))
