import io

import pytest
import torch

from node_helpers import FakeHost, tiny_stage_a
from wuerstchen_nodes import host as hosts
from wuerstchen_nodes.headless.host import HeadlessHost, current


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_models_are_those_of_the_folder(host, tmp_path):
    (tmp_path / "models" / "mine").mkdir(parents=True)
    (tmp_path / "models" / "mine" / "config.json").touch()
    (tmp_path / "models" / "one.safetensors").touch()
    (tmp_path / "models" / "readme.txt").touch()
    assert host.model_names() == ["mine", "one.safetensors"]
    assert host.find_model("mine") == tmp_path / "models" / "mine"
    assert host.find_model("../models/mine") is None
    assert host.find_model("absent") is None


def test_without_the_variable_models_are_in_the_cache_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("WUERSTCHEN_MODELS")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "wuerstchen").mkdir()
    (tmp_path / "wuerstchen" / "one.pt").touch()
    assert HeadlessHost().model_names() == ["one.pt"]


def test_on_the_cpu_everything_is_float32(host):
    assert [host.dtype(stage) for stage in "CBA"] == [torch.float32] * 3
    assert host.device() == torch.device("cpu")


def test_a_network_is_on_the_device_while_it_is_resident_only():
    host = HeadlessHost(device="meta")
    kept = host.keep(tiny_stage_a())
    assert host.network_of(kept) is kept
    host = HeadlessHost(device="cpu")
    with pytest.raises(ZeroDivisionError), host.resident(kept) as network:
        assert next(network.parameters()).device.type == "cpu"
        raise ZeroDivisionError


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_cuda_networks_come_and_go():
    host = HeadlessHost()
    assert host.dtype("C") in (torch.bfloat16, torch.float16)
    kept = host.keep(tiny_stage_a())
    with host.resident(kept) as network:
        assert next(network.parameters()).device.type == "cuda"
    assert next(kept.parameters()).device.type == "cpu"


def test_progress_is_a_line_each_quarter_or_one_that_moves():
    plain, terminal = io.StringIO(), Terminal()
    for stream in (plain, terminal):
        update = HeadlessHost(progress=stream).progress(29, "Stage C")
        for step in range(1, 30):
            update(step, None)
    assert plain.getvalue().splitlines() == [f"Stage C: step {step} of 29" for step in (8, 15, 22, 29)]
    assert terminal.getvalue().count("\r") == 29
    assert terminal.getvalue().endswith("29/29\n")
    HeadlessHost().progress(3, "quiet")(1, None)


def test_stock_nodes_say_when_another_host_is_installed(tmp_path, monkeypatch):
    monkeypatch.setattr(hosts, "_installed", FakeHost(tmp_path))
    with pytest.raises(TypeError, match="FakeHost is installed"):
        current()
