import gc
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from support.workflows import Network, Number, Toy, node, toys
from wuerstchen_nodes import host as hosts
from wuerstchen_nodes.headless import execute, load_workflow
from wuerstchen_nodes.headless.errors import RunError
from wuerstchen_nodes.headless.execution.calls import Outputs
from wuerstchen_nodes.headless.execution.executor import Executor
from wuerstchen_nodes.headless.host import HeadlessHost
from wuerstchen_nodes.headless.output_files import OutputFiles
from wuerstchen_nodes.headless.stock.nodes import default_catalog
from wuerstchen_nodes.headless.workflow.validate import validate


def run(prompt, catalog=None, executor=None, **options):
    executor = executor or Executor(catalog or toys())
    return executor.run(validate(prompt, executor.catalog), **options)


SUM = {
    "1": node("Number", value=4),
    "2": node("Number", value=3),
    "3": node("Add", a=["1", 0], b=["2", 0]),
    "4": node("Show", value=["3", 0]),
}


def test_outputs_pull_their_ancestors_once_and_nothing_else(calls):
    prompt = {**SUM, "5": node("Show", value=["1", 0]), "6": node("Number", value=0)}
    assert run(prompt) == {"4": {"numbers": [7]}, "5": {"numbers": [4]}}
    assert sorted(calls) == ["Add", "Number", "Number", "Show", "Show"]


def test_of_equal_nodes_one_runs_and_all_have_its_result(calls):
    prompt = {
        "1": node("Number", value=4),
        "2": node("Number", value=4),
        "3": node("Add", a=["1", 0], b=["2", 0]),
        "4": node("Add", a=["2", 0], b=["1", 0]),
        "5": node("Show", value=["3", 0]),
        "6": node("Show", value=["4", 0]),
    }
    events: list[tuple[str, str]] = []
    shown = run(prompt, on_node=lambda state, node_id, ui: events.append((state, node_id)))
    assert shown == {"5": {"numbers": [8]}, "6": {"numbers": [8]}}
    assert calls == ["Number", "Add", "Show"]
    assert ("cached", "6") in events


def test_a_chain_may_be_longer_than_python_recurses():
    prompt = {"0": node("Number", value=0), "one": node("Number", value=1)}
    prompt |= {str(i): node("Add", a=[str(i - 1), 0], b=["one", 0]) for i in range(1, 3001)}
    assert run({**prompt, "end": node("Show", value=["3000", 0])}) == {"end": {"numbers": [3000]}}


def test_a_second_run_does_again_only_what_changed(calls):
    executor = Executor(toys())
    run(SUM, executor=executor)
    calls.clear()
    assert run(SUM, executor=executor) == {"4": {"numbers": [7]}}
    assert calls == []
    assert run({**SUM, "2": node("Number", value=5)}, executor=executor) == {"4": {"numbers": [9]}}
    assert calls == ["Number", "Add", "Show"]


def test_the_cache_outlives_a_run_in_which_it_was_not_read(calls):
    executor = Executor(toys())
    for _ in range(2):
        run(SUM, executor=executor)
    calls.clear()
    run({**SUM, "2": node("Number", value=5)}, executor=executor)
    assert calls == ["Number", "Add", "Show"]


def test_equal_nodes_share_a_signature_wherever_they_are_in_the_file(calls):
    executor = Executor(toys())
    run(SUM, executor=executor)
    calls.clear()
    renamed = {
        "n1": node("Number", value=4),
        "n2": node("Number", value=3),
        "n3": node("Add", a=["n1", 0], b=["n2", 0]),
        "n4": node("Show", value=["n3", 0]),
    }
    run(renamed, executor=executor)
    assert calls == []


def test_events_tell_of_each_node():
    executor = Executor(toys())
    events: list[tuple[str, str]] = []
    for _ in range(2):
        run(SUM, executor=executor, on_node=lambda state, node_id, ui: events.append((state, node_id)))
    assert events[-1] == ("cached", "4")
    assert events[-3:-1] == [("running", "4"), ("done", "4")]


class Load:
    FUNCTION, RETURN_TYPES = "load", ("NETWORK",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"name": ("STRING", {})}}

    def load(self, name):
        return (Network(),)


class Use:
    FUNCTION, RETURN_TYPES = "use", ("INT",)
    most = 0

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"network": ("NETWORK", {})}, "optional": {"after": ("INT", {"forceInput": True})}}

    def use(self, network, after=0):
        Use.most = max(Use.most, len(Network.alive))
        return (after + 1,)


def test_networks_are_never_in_memory_together_and_small_values_outlive_the_run(calls):
    """As text encoder, Stage C, Stage B, Stage A: each takes a network, named first, and what came before."""
    catalog = toys(Load=Load, Use=Use)
    prompt: dict[str, Any] = {f"load{i}": node("Load", name=f"{i}") for i in range(4)}
    prompt["use0"] = node("Use", network=["load0", 0])
    prompt |= {f"use{i}": node("Use", network=[f"load{i}", 0], after=[f"use{i - 1}", 0]) for i in range(1, 4)}
    prompt["out"] = node("Show", value=["use3", 0])
    Use.most = 0
    executor = Executor(catalog)
    assert run(prompt, executor=executor) == {"out": {"numbers": [4]}}
    assert Use.most == 1
    assert len(Network.alive) == 0
    prompt["load3"] = node("Load", name="another")
    states = []
    run(prompt, executor=executor, on_node=lambda state, node_id, ui: states.append((state, node_id)))
    assert [node_id for state, node_id in states if state == "running"] == ["load3", "use3", "out"]


def test_only_the_lazy_input_that_is_asked_for_runs(calls):
    def prompt(take_second):
        return {
            "a": node("Number", value=1),
            "b": node("Add", a=["c", 0], b=["c", 0]),
            "c": node("Number", value=2),
            "choose": node("Choose", first=["a", 0], second=["b", 0], take_second=take_second),
            "out": node("Show", value=["choose", 0]),
        }

    assert run(prompt(False)) == {"out": {"numbers": [1]}}
    assert calls == ["Number", "Choose", "Show"]
    calls.clear()
    assert run(prompt(True)) == {"out": {"numbers": [4]}}
    assert calls == ["Number", "Add", "Choose", "Show"]


class NeverLazy(Toy):
    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"network": ("NETWORK", {}), "never": ("INT", {"forceInput": True, "lazy": True})}}

    def check_lazy_status(self, network, never=None):
        return []

    def work(self, network, never=None):
        return (0,)


class CountAlive(Number):
    def work(self, value):
        gc.collect()
        return (len(Network.alive),)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"value": ("INT", {"forceInput": True})}}


def test_a_lazy_branch_that_never_runs_does_not_hold_a_network():
    catalog = toys(Load=Load, Use=Use, NeverLazy=NeverLazy, CountAlive=CountAlive)
    prompt = {
        "load": node("Load", name="x"),
        "unused": node("Use", network=["load", 0]),
        "choose": node("NeverLazy", network=["load", 0], never=["unused", 0]),
        "count": node("CountAlive", value=["choose", 0]),
        "out": node("Show", value=["count", 0]),
    }
    assert run(prompt, catalog) == {"out": {"numbers": [0]}}


class Many(Number):
    OUTPUT_IS_LIST = (True,)

    def work(self, value):
        return (list(range(value)),)


class Gather(Toy):
    INPUT_IS_LIST = True

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"value": ("INT", {"forceInput": True}), "scale": ("INT", {})}}

    def work(self, value, scale):
        return (sum(value) * scale[0],)


def test_lists_are_mapped_over_and_gathered():
    catalog = toys(Many=Many, Gather=Gather)
    prompt = {
        "few": node("Many", value=2),
        "many": node("Many", value=3),
        "none": node("Many", value=0),
        "sum": node("Add", a=["few", 0], b=["many", 0]),
        "each": node("Show", value=["sum", 0]),
        "all": node("Gather", value=["sum", 0], scale=10),
        "total": node("Show", value=["all", 0]),
        "empty": node("Show", value=["none", 0]),
    }
    assert run(prompt, catalog) == {"each": {"numbers": [0, 2, 3]}, "total": {"numbers": [50]}, "empty": {}}


class Listed(Toy):
    """Shows a value of any kind."""

    RETURN_TYPES, OUTPUT_NODE = (), True

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"value": ("LIST", {})}}

    def work(self, value):
        return {"ui": {"values": [value]}}


def test_a_list_that_looks_like_a_link_is_a_value():
    prompt = {"1": node("Listed", value={"__value__": ["1", 0]})}
    assert run(prompt, toys(Listed=Listed)) == {"1": {"values": [["1", 0]]}}


class Asks:
    FUNCTION, RETURN_TYPES, OUTPUT_NODE = "work", (), True

    @classmethod
    def INPUT_TYPES(cls):
        hidden = {"prompt": "PROMPT", "extra_pnginfo": "EXTRA_PNGINFO", "unique_id": "UNIQUE_ID"}
        return {"required": {}, "hidden": hidden}

    def work(self, prompt, extra_pnginfo, unique_id):
        return {"ui": {"asked": [prompt[unique_id]["class_type"], extra_pnginfo, unique_id]}}


def test_hidden_inputs_and_one_result_for_each_id():
    catalog = toys(Asks=Asks)
    shown = run({"7": node("Asks"), "8": node("Asks")}, catalog, extra_pnginfo={"workflow": 1})
    assert shown == {
        "7": {"asked": ["Asks", {"workflow": 1}, "7"]},
        "8": {"asked": ["Asks", {"workflow": 1}, "8"]},
    }


class Stamped(Number):
    stamp: Any = "a"

    @classmethod
    def IS_CHANGED(cls, value):
        if cls.stamp is None:
            raise OSError("gone")
        return cls.stamp


def test_is_changed_decides_whether_a_node_runs_again(calls, caplog):
    executor = Executor(toys(Stamped=Stamped))
    prompt = {"1": node("Stamped", value=1), "2": node("Show", value=["1", 0])}
    counts = []
    for Stamped.stamp in ("a", "a", "b", float("nan"), float("nan"), None):
        calls.clear()
        run(prompt, executor=executor)
        counts.append(len(calls))
    assert counts == [2, 0, 2, 2, 2, 2]
    assert "IS_CHANGED of node 1 (Stamped) failed (gone)" in caplog.text


class Tensors(Number):
    def work(self, value):
        assert torch.is_inference_mode_enabled()
        return (value,)


def test_nodes_run_in_inference_mode():
    assert run({"1": node("Tensors", value=2), "2": node("Show", value=["1", 0])}, toys(Tensors=Tensors))


class Expands(Number):
    def work(self, value):
        return {"result": (1,), "expand": {}}


class Short(Number):
    def work(self, value):
        return ()


@pytest.mark.parametrize(("kind", "says"), [(Expands, "a graph of its own"), (Short, "expected a tuple of 1")])
def test_results_of_the_wrong_shape_are_failures(kind, says):
    prompt = {"1": node("Kind", value=2), "2": node("Show", value=["1", 0])}
    with pytest.raises(RunError, match=says):
        run(prompt, toys(Kind=kind))


def test_a_failure_names_the_node_and_keeps_its_cause(calls):
    executor = Executor(toys())
    prompt = {**SUM, "9": node("Fails", "Tea")}
    with pytest.raises(RunError, match=r'Node 9 "Tea" \(Fails\) failed: the kettle is empty') as caught:
        run(prompt, executor=executor)
    assert isinstance(caught.value.__cause__, ValueError)
    assert (caught.value.node_id, caught.value.class_type) == ("9", "Fails")
    calls.clear()
    run(SUM, executor=executor)
    assert calls == []


class Interrupted(Number):
    OUTPUT_NODE = True

    def work(self, value):
        raise KeyboardInterrupt


def test_an_interruption_passes_through():
    with pytest.raises(KeyboardInterrupt):
        run({"1": node("Interrupted", value=1)}, toys(Interrupted=Interrupted))


def test_a_network_that_only_went_into_another_one_is_not_kept():
    """As into a mix of two."""

    class Mix:
        FUNCTION, RETURN_TYPES = "mix", ("NETWORK",)

        @classmethod
        def INPUT_TYPES(cls):
            return {"required": {"network": ("NETWORK", {})}}

        def mix(self, network):
            return (Network(),)

    executor = Executor(toys(Load=Load, Mix=Mix, Use=Use), keep_networks=True)
    prompt = {
        "1": node("Load", name="x"),
        "2": node("Mix", network=["1", 0]),
        "3": node("Use", network=["2", 0], after=["4", 0]),
        "4": node("Number", value=1),
        "5": node("Show", value=["3", 0]),
    }
    alive = []
    for value in (1, 2, 3):
        prompt["4"] = node("Number", value=value)
        run(prompt, executor=executor)
        gc.collect()
        alive.append(len(Network.alive))
    assert alive == [1, 1, 1]


def test_output_nodes_that_are_repeated_run_although_nothing_changed(calls):
    executor = Executor(toys(), repeat_outputs=True)
    for _ in range(2):
        assert run(SUM, executor=executor) == {"4": {"numbers": [7]}}
    assert calls == ["Number", "Number", "Add", "Show", "Show"]


def test_what_was_given_elsewhere_does_not_run(calls):
    executor = Executor(toys())
    (value,) = executor.values(SUM, ["3"]).values()
    assert value.slots == [[7]]
    assert calls == ["Number", "Number", "Add"]
    calls.clear()
    assert run(SUM, given={"3": Outputs([[9]])}) == {"4": {"numbers": [9]}}
    assert calls == ["Show"]


def test_another_output_folder_gets_files_of_its_own(tmp_path):
    picture = np.zeros((16, 16, 3), dtype=np.uint8)
    Image.fromarray(picture).save("p.png")
    prompt = {"1": node("LoadImage", image="p.png"), "2": node("SaveImage", images=["1", 0], filename_prefix="x")}
    executor = Executor(default_catalog())
    for name in ("a", "b", "b"):
        host = HeadlessHost(OutputFiles(tmp_path / name), input_folders=[Path()], device="cpu")
        (image,) = execute(load_workflow(prompt), host=host, executor=executor).images
        assert image == tmp_path / name / "x_00001_.png" and image.is_file()


def test_two_executors_with_hosts_of_their_own_run_at_once(tmp_path):
    folders = [tmp_path / "one", tmp_path / "two"]
    together = threading.Barrier(2, timeout=30)

    class Where(Toy):
        """Shows the output folder of the host in use, once both runs are under way."""

        RETURN_TYPES, OUTPUT_NODE = (), True

        def work(self) -> Any:
            together.wait()
            return {"ui": {"folders": [hosts.host().output_folder()]}}

    def run(folder: Path) -> Any:
        host, executor = HeadlessHost(OutputFiles(folder), device="cpu"), Executor(toys(Where=Where))
        return execute(load_workflow({"1": node("Where")}), host=host, executor=executor).shown["1"]["folders"]

    before = hosts.current_host()
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(run, folders)) == [[folder] for folder in folders]
    assert hosts.current_host() is before


def test_a_class_is_asked_for_its_inputs_once_a_run():
    asked = []

    class Asked(Number):
        @classmethod
        def INPUT_TYPES(cls) -> dict[str, Any]:
            asked.append(cls.__name__)
            return super().INPUT_TYPES()

    executor = Executor(toys(Asked=Asked))
    prompt = {"1": node("Asked", value=1), "2": node("Asked", value=2), "3": node("Add", a=["1", 0], b=["2", 0])}
    workflow = load_workflow({**prompt, "4": node("Show", value=["3", 0])})
    for runs in (1, 2):
        execute(workflow, {"1.value": runs}, seed=1, executor=executor)
        assert len(asked) == runs
