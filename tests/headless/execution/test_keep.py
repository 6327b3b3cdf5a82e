"""Keep on Disk in a headless run, and the keys that it shares with ComfyUI."""

import copy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.workflows import CALLS, Toy, node, toys, write_tiny_v2
from wuerstchen_nodes import host as hosts
from wuerstchen_nodes.headless import HeadlessHost
from wuerstchen_nodes.headless.execution.disk_cache import DiskCache
from wuerstchen_nodes.headless.execution.executor import Executor
from wuerstchen_nodes.headless.execution.signatures import NoKeyError, cache_keys
from wuerstchen_nodes.headless.stock.nodes import default_catalog
from wuerstchen_nodes.headless.workflow.validate import validate
from wuerstchen_nodes.keep import KeepOnDisk


class Draw(Toy):
    RETURN_TYPES = ("LATENT",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"seed": ("INT", {"default": 0})}, "optional": {"after": ("LATENT", {})}}

    def work(self, seed: int, after: Any = None) -> tuple[dict[str, int]]:
        CALLS.append("Draw")
        return ({"samples": seed if after is None else 10 * after["samples"] + seed},)


class Pair(Toy):
    RETURN_TYPES = ("LATENT", "MASK")

    def work(self) -> tuple[dict[str, int], int]:
        CALLS.append("Pair")
        return {"samples": 1}, 2


class Unsteady(Draw):
    @classmethod
    def IS_CHANGED(cls, **_: Any) -> float:
        return float("nan")


class Show(Toy):
    RETURN_TYPES, OUTPUT_NODE = (), True

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"value": ("LATENT,MASK", {})}}

    def work(self, value: Any) -> dict[str, Any]:
        return {"ui": {"got": [value]}}


CATALOG = toys(Draw=Draw, Pair=Pair, Unsteady=Unsteady, Show=Show, WuerstchenKeep=KeepOnDisk)


def keeping(first: str = "Draw", mode: str = "use", seed: int = 3) -> dict[str, Any]:
    return {
        "1": node(first, seed=seed) if first != "Pair" else node("Pair"),
        "2": node("WuerstchenKeep", value=["1", 0], mode=mode),
        "3": node("Show", value=["2", 0]),
    }


@pytest.fixture
def run(tmp_path, calls):
    """Run a prompt in a new executor with the same cache; returns what is shown and the classes that ran."""

    def runs(prompt: dict[str, Any], **options: Any) -> tuple[Any, list[str]]:
        calls.clear()
        executor = Executor(CATALOG, DiskCache(tmp_path / "cache"), **options)
        shown = executor.run(validate(prompt, CATALOG))
        return next(iter(shown.values()))["got"][0], list(calls)

    return runs


def entries(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "cache").glob("*.safetensors"))


def test_a_value_passes_through_and_comes_from_disk_the_next_time(run):
    linked = keeping()
    linked["0"] = node("Draw", seed=7)
    linked["1"]["inputs"]["after"] = ["0", 0]
    assert run(linked) == ({"samples": 73}, ["Draw", "Draw"])
    assert run(linked) == ({"samples": 73}, [])


def test_a_source_without_links_is_kept_too(run, tmp_path):
    assert run(keeping()) == ({"samples": 3}, ["Draw"])
    assert len(entries(tmp_path)) == 1
    assert run(keeping()) == ({"samples": 3}, [])


def test_with_and_without_the_node_the_keys_are_the_same(run, tmp_path):
    plain = keeping()
    del plain["2"]
    plain["3"]["inputs"]["value"] = ["1", 0]
    twice = keeping()
    twice["4"] = node("WuerstchenKeep", value=["2", 0], mode="off")
    twice["3"]["inputs"]["value"] = ["4", 0]
    keys = [cache_keys(prompt, set(prompt), CATALOG, None).of for prompt in (plain, keeping(), twice)]
    assert keys[0]["3"] == keys[1]["3"] == keys[2]["3"]
    assert keys[0]["1"] == keys[1]["2"] == keys[2]["4"]


def test_outputs_of_one_node_have_keys_of_their_own(run):
    second = keeping("Pair")
    second["2"]["inputs"]["value"] = ["1", 1]
    assert run(keeping("Pair")) == ({"samples": 1}, ["Pair"])
    assert run(second) == (2, ["Pair"])
    assert run(keeping("Pair")) == ({"samples": 1}, [])
    assert run(second) == (2, [])


def test_renew_runs_the_node_before_it_and_replaces_the_entry(run, tmp_path):
    run(keeping())
    (entry,) = entries(tmp_path)
    before = entry.read_bytes()
    assert run(keeping(mode="renew")) == ({"samples": 3}, ["Draw"])
    assert entries(tmp_path) == [entry] and entry.read_bytes() != before  # it was made later
    assert run(keeping(mode="renew"))[1] == ["Draw"]
    assert run(keeping())[1] == []


def test_a_forecast_knows_that_renew_runs(tmp_path, run):
    run(keeping())
    executor = Executor(CATALOG, DiskCache(tmp_path / "cache"))
    assert executor.forecast(validate(keeping(), CATALOG)) == {"2": "cached", "3": "run"}
    assert executor.forecast(validate(keeping(mode="renew"), CATALOG)) == {"1": "lazy", "2": "run", "3": "run"}


def test_a_node_that_always_changes_is_not_kept_and_the_log_says_so(run, tmp_path, caplog):
    for _ in range(2):
        assert run(keeping("Unsteady")) == ({"samples": 3}, ["Draw"])
    assert "Node 2 (WuerstchenKeep) keeps nothing: node 1 (Unsteady) runs anew each time." in caplog.text
    assert entries(tmp_path) == []


def test_a_node_that_is_not_known_has_no_key():
    prompt = {"1": node("Stranger"), **{key: keeping()[key] for key in "23"}}
    keys = cache_keys(prompt, set(prompt), CATALOG, None)
    assert keys.of == {} and "not one of this pack" in keys.refused["2"]
    loose = {"2": node("WuerstchenKeep", mode="use")}
    assert "nothing is connected" in cache_keys(loose, {"2"}, CATALOG, None).refused["2"]


@pytest.mark.parametrize("error", [NoKeyError("it is a stranger"), OSError("unreadable")])
def test_what_a_host_cannot_tell_of_a_node_is_a_reason(error):
    def further(each: Any) -> list[Any]:
        raise error

    keys = cache_keys(keeping(), set("123"), CATALOG, None, further=further)
    assert keys.of == {} and str(error) in keys.refused["2"]


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_tiny_v2(folder)
    return folder


MODEL, TEXTS = "v2-interpolated", ["", "a red star", "a blue ring"]


@st.composite
def graphs(draw: Any) -> dict[str, Any]:
    """A small text-to-latent graph under any ids, with a Keep on Disk or without, and with values of a small choice."""
    names = draw(st.permutations(["1", "2", "7", "8:3", "a"]))
    text, encoder, loader, encode, sample = names
    prompt = {
        text: node("PrimitiveStringMultiline", value=draw(st.sampled_from(TEXTS))),
        encoder: node("WuerstchenLoadTextEncoder", model=MODEL, for_stage="C"),
        loader: node("WuerstchenLoadStageC", model=MODEL, dtype=draw(st.sampled_from(["default", "float32"]))),
        encode: node("WuerstchenTextEncode", text_encoder=[encoder, 0], text=[text, 0]),
        sample: node(
            "WuerstchenStageCSampler",
            title=draw(st.sampled_from([None, "Sampler"])),
            stage_c=[loader, 0],
            positive=[encode, 0],
            negative=[encode, 0],
            seed=draw(st.integers(0, 1)),
            steps=2,
            schedule=draw(st.sampled_from(["v2", "linear"])),
            cfg=draw(st.sampled_from([1.0, 4.0, 4])),
            width=128,
            height=128,
            batch_size=1,
        ),
    }
    if draw(st.booleans()):
        prompt["keep text"] = node("WuerstchenKeep", value=[encode, 0], mode=draw(st.sampled_from(["use", "off"])))
        prompt[sample]["inputs"]["positive"] = ["keep text", 0]
    prompt["keep"] = node("WuerstchenKeep", value=[sample, 0], mode="use")
    order = draw(st.permutations(list(prompt)))
    return {name: prompt[name] for name in order}


def test_graphs_with_equal_keys_give_equal_bytes_and_other_bytes_have_other_keys(models):
    catalog = default_catalog()
    executor = Executor(catalog, keep_networks=True)
    seen: dict[str, bytes] = {}

    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(graphs())
    def check(prompt: dict[str, Any]) -> None:
        prompt = copy.deepcopy(prompt)
        with hosts.using(HeadlessHost(model_folders=[models])):
            key = cache_keys(prompt, set(prompt), catalog, None).of["keep"]
            executor._results._memory.clear()
            ((latent,),) = executor.values(prompt, ["keep"])["keep"].slots
        drawn = latent["samples"].numpy().tobytes()
        assert seen.setdefault(key, drawn) == drawn

    check()
    assert 4 < len(set(seen.values())) <= len(seen)


def test_keys_cover_the_precision_of_a_loader(models):
    prompt = {"1": node("WuerstchenLoadStageC", model=MODEL, dtype="default")}
    with hosts.using(HeadlessHost(model_folders=[models])):
        keys = {}
        for dtype in ("default", "float32", "bfloat16", "float8_e4m3fn"):
            prompt["1"]["inputs"]["dtype"] = dtype
            keys[dtype] = cache_keys(prompt, {"1"}, default_catalog(), None).of["1"]
    assert len(set(keys.values())) == 4
