"""Cache hits of an executor, in memory and on disk."""

from pathlib import Path
from typing import Any

import pytest
import torch

from support.workflows import CALLS, Network, Toy, node, toys
from wuerstchen_nodes.headless.execution.calls import Outputs
from wuerstchen_nodes.headless.execution.disk_cache import DiskCache
from wuerstchen_nodes.headless.execution.executor import Executor
from wuerstchen_nodes.headless.execution.results import Results
from wuerstchen_nodes.headless.workflow.validate import validate


class Load(Toy):
    """Loads a network from a file that has its name."""

    RETURN_TYPES = ("NETWORK",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"name": ("STRING", {})}}

    @classmethod
    def source_files(cls, name: str) -> list[Path]:
        return [Path(name)]

    def work(self, name: str) -> tuple[Network]:
        CALLS.append("Load")
        return (Network(),)


class Draw(Toy):
    RETURN_TYPES = ("LATENT",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"network": ("NETWORK", {}), "seed": ("INT", {"default": 0})}}

    def work(self, network: Network, seed: int) -> tuple[dict[str, torch.Tensor]]:
        CALLS.append("Draw")
        return ({"samples": torch.full((1, 4, 2, 2), float(seed))},)


class Keep(Toy):
    """An output node."""

    RETURN_TYPES, OUTPUT_NODE = (), True

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"latent": ("LATENT", {})}}

    def work(self, latent: dict[str, torch.Tensor]) -> dict[str, Any]:
        CALLS.append("Keep")
        return {"ui": {"means": [latent["samples"].mean().item()]}}


CATALOG = toys(Load=Load, Draw=Draw, Keep=Keep)


def drawing(seed: int) -> dict[str, Any]:
    return {
        "1": node("Load", name="weights"),
        "2": node("Draw", network=["1", 0], seed=seed),
        "3": node("Keep", latent=["2", 0]),
    }


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "weights"  # the current folder
    path.write_text("first")
    return path


def run(executor: Executor, prompt: dict[str, Any]) -> list[str]:
    """The classes that ran."""
    CALLS.clear()
    executor.run(validate(prompt, executor.catalog))
    return list(CALLS)


@pytest.mark.usefixtures("weights")
def test_a_then_b_then_a_again_runs_nothing_twice():
    executor = Executor(CATALOG)
    assert run(executor, drawing(1)) == ["Load", "Draw", "Keep"]
    assert run(executor, drawing(2)) == ["Load", "Draw", "Keep"]
    assert run(executor, drawing(1)) == []
    assert run(executor, drawing(2)) == []


@pytest.mark.usefixtures("weights")
def test_networks_stay_for_the_next_run_where_that_is_asked_for():
    executor = Executor(CATALOG, keep_networks=True)
    assert run(executor, drawing(1)) == ["Load", "Draw", "Keep"]
    assert run(executor, drawing(2)) == ["Draw", "Keep"]
    assert len(Network.alive) == 1
    assert run(executor, {"1": node("Number", value=1), "2": node("Show", value=["1", 0])}) == ["Number", "Show"]
    assert run(executor, drawing(3)) == ["Load", "Draw", "Keep"]


def test_another_process_loads_and_draws_nothing_again_but_saves(weights, tmp_path):
    assert run(Executor(CATALOG, DiskCache(tmp_path / "c")), drawing(1)) == ["Load", "Draw", "Keep"]
    executor = Executor(CATALOG, DiskCache(tmp_path / "c"))
    prompt = validate(drawing(1), CATALOG)
    assert executor.forecast(prompt) == {"2": "cached", "3": "run"}
    CALLS.clear()
    assert executor.run(prompt) == {"3": {"means": [1.0]}}
    assert CALLS == ["Keep"]


def test_the_content_of_the_weights_counts_and_not_their_time(weights, tmp_path):
    def again():
        return run(Executor(CATALOG, DiskCache(tmp_path / "c")), drawing(1))

    again()
    weights.touch()
    assert again() == ["Keep"]
    weights.write_text("other")
    assert again() == ["Load", "Draw", "Keep"]
    weights.write_text("first")
    assert again() == ["Keep"]


def test_weights_that_are_not_there_are_asked_for_every_time(tmp_path):
    for _ in range(2):
        assert run(Executor(CATALOG, DiskCache(tmp_path / "c")), drawing(1)) == ["Load", "Draw", "Keep"]


class Unsteady(Draw):
    @classmethod
    def IS_CHANGED(cls, **_: Any) -> float:
        return float("nan")


def test_what_is_changed_always_is_never_kept_nor_is_what_follows(weights, tmp_path):
    catalog = toys(Load=Load, Draw=Unsteady, Keep=Keep)
    cache = DiskCache(tmp_path / "c")
    executor = Executor(catalog, cache)
    for _ in range(2):
        assert run(executor, drawing(1)) == ["Load", "Draw", "Keep"]
    assert not list(cache.folder.glob("*.safetensors"))


def test_a_damaged_result_is_drawn_again(weights, tmp_path, caplog):
    cache = DiskCache(tmp_path / "c")
    run(Executor(CATALOG, cache), drawing(1))
    (entry,) = cache.folder.glob("*.safetensors")
    entry.write_bytes(entry.read_bytes()[:-1])
    assert run(Executor(CATALOG, cache), drawing(1)) == ["Load", "Draw", "Keep"]
    assert "damaged" in caplog.text
    assert run(Executor(CATALOG, cache), drawing(1)) == ["Keep"]


@pytest.mark.usefixtures("weights")
def test_a_forecast_takes_earlier_ones_as_done(calls):
    executor = Executor(CATALOG)
    already: set[str] = set()
    prompt = {**drawing(1), "4": node("Draw", network=["1", 0], seed=2), "5": node("Keep", latent=["4", 0])}
    first = executor.forecast(validate(drawing(1), CATALOG), already)
    assert first == {"1": "run", "2": "run", "3": "run"}
    assert executor.forecast(validate(prompt, CATALOG), already) == {"1": "run", "3": "cached", "4": "run", "5": "run"}
    assert calls == []


def test_a_forecast_tells_what_only_a_lazy_input_needs(calls):
    prompt = {
        "a": node("Number", value=1),
        "b": node("Number", value=2),
        "choose": node("Choose", first=["a", 0], second=["b", 0], take_second=True),
        "out": node("Show", value=["choose", 0]),
        "more": node("Show", value=["a", 0]),
        "idle": node("Number", value=3),
    }
    catalog = toys()
    states = Executor(catalog).forecast(validate(prompt, catalog))
    assert states == {"a": "run", "b": "lazy", "choose": "run", "out": "run", "more": "run"}
    assert calls == []


def test_memory_is_bounded_and_the_disk_is_behind_it(tmp_path):
    kept = Results(DiskCache(tmp_path / "c"), max_bytes=1000)
    for key in "abc":
        kept.put(key, Outputs([[torch.zeros(100)]]), on_disk=key == "a")
    assert kept.get("a") is not None
    assert kept.get("b") is None
