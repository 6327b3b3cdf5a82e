import io
import re
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from support import tiny
from support.hosts import FakeHost
from wuerstchen_core.checkpoints import loading
from wuerstchen_nodes import host as hosts
from wuerstchen_nodes.headless.batch.host import StayingHost
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


def test_on_the_cpu_the_size_of_the_network_decides(host, monkeypatch):
    assert [host.dtype(stage) for stage in "CBA"] == [None] * 3
    for able, large in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(loading, "HAS_BFLOAT16", able)
        assert loading.cpu_dtype(18_000_000) == torch.float32
        assert loading.cpu_dtype(1_000_000_000) == large


def test_a_network_is_on_the_device_while_it_is_resident_only():
    host = HeadlessHost(device="meta")
    kept = host.keep(tiny.stage_a())
    assert host.network_of(kept) is kept
    host = HeadlessHost(device="cpu")
    with pytest.raises(ZeroDivisionError), host.resident(kept) as network:
        assert next(network.parameters()).device.type == "cpu"
        raise ZeroDivisionError


@pytest.mark.parametrize("host", [HeadlessHost(device="cpu"), StayingHost(device="cpu")])
def test_a_network_is_compiled_where_that_was_asked_for(host):
    def compiled_blocks(kept):
        with host.resident(kept) as there:
            assert there is network
            return sum(block._compiled_call_impl is not None for block in there.modules())

    network = tiny.stage_c()
    fast = host.compiled(host.keep(network))
    assert host.network_of(fast) is host.network_of(host.compiled(fast)) is network
    assert compiled_blocks(fast) == 3 * tiny.STAGE_C.depth
    assert compiled_blocks(network) == 0
    assert isinstance(HeadlessHost(compiles=True).keep(network), type(fast))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_cuda_networks_come_and_go():
    host = HeadlessHost()
    assert host.dtype("C") in (torch.bfloat16, torch.float16)
    kept = host.keep(tiny.stage_a())
    with host.resident(kept) as network:
        assert next(network.parameters()).device.type == "cuda"
    assert next(host.network_of(kept).parameters()).device.type == "cpu"


def test_progress_is_a_line_each_quarter_or_a_bar():
    plain, terminal = io.StringIO(), Terminal()
    for stream in (plain, terminal):
        update = HeadlessHost(progress=stream).progress(29, "Stage C")
        for step in range(1, 30):
            update(step, None)
    lines = plain.getvalue().splitlines()
    assert lines == [f"Stage C: step {step} of 29" + ", 0 s left" * (step < 29) for step in (8, 15, 22, 29)]
    first, *_, last = terminal.getvalue().strip().split("\r")
    assert "Stage C:   0%" in first and "| 0/29" in first
    assert "Stage C: 100%" in last and "| 29/29" in last
    assert terminal.getvalue().endswith("\n")
    assert re.search(r"29/29 steps, \S+ left$", last)
    HeadlessHost().progress(3, "quiet")(1, None)


def test_the_time_left_is_that_of_the_steps_so_far(monkeypatch):
    clock = iter([100.0, 130.0, 160.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    stream = io.StringIO()
    update = HeadlessHost(progress=stream).progress(4, "Stage B")
    update(1, None)
    update(2, None)
    assert stream.getvalue().splitlines() == ["Stage B: step 1 of 4, 90 s left", "Stage B: step 2 of 4, 60 s left"]


def test_stock_nodes_say_when_another_host_is_in_use(tmp_path, monkeypatch):
    monkeypatch.setattr(hosts, "_installed", FakeHost(tmp_path))
    with pytest.raises(TypeError, match="FakeHost is in use"):
        current()


def test_a_host_is_in_use_for_its_context_and_its_thread_only(host, tmp_path):
    other = FakeHost(tmp_path)
    with hosts.using(other):
        assert hosts.host() is other
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(hosts.host).result() is host
    assert hosts.host() is host
