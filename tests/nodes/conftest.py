import pytest

from support.hosts import FakeHost
from wuerstchen_nodes import host as host_module


@pytest.fixture
def fake_host(tmp_path, monkeypatch) -> FakeHost:
    """The installed host for one test."""
    fake = FakeHost(tmp_path)
    monkeypatch.setattr(host_module, "_installed", fake)
    return fake
