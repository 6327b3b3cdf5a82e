"""The same prompts through a real server and through this project's executor.

Each case is a series of prompts that follow each other. Compared are what output nodes show, which nodes ran, which
were remembered, and, where a prompt is refused or fails, the kind of every error and the node it is of.
"""

import importlib.util
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from support.comfyui_server import Prompt, RefusedError, Server
from support.workflows import node
from wuerstchen_nodes.headless.errors import InvalidWorkflowError, RunError
from wuerstchen_nodes.headless.execution.executor import Executor
from wuerstchen_nodes.headless.execution.signatures import cache_keys
from wuerstchen_nodes.headless.workflow.catalog import Catalog
from wuerstchen_nodes.headless.workflow.convert import convert
from wuerstchen_nodes.headless.workflow.documents import Workflow
from wuerstchen_nodes.headless.workflow.validate import validate

Faults = dict[str, tuple[list[str], list[str]]]


def _catalog() -> Catalog:
    path = Path(__file__).parent / "probe" / "nodes_of_parity.py"
    spec = importlib.util.spec_from_file_location("nodes_of_parity", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return Catalog(module.NODE_CLASS_MAPPINGS)


CATALOG = _catalog()


@dataclass
class Seen:
    """Result of a prompt.

    Attributes:
        shown: {output node id: items that it shows}.
        ran: Ids of the nodes that ran.
        remembered: Ids of the nodes whose results were cached.
        failed: (node id, exception) of the node that failed.
        refused: Type of the error for which the prompt was refused.
        faults: {node id: (types of its errors, outputs that depend on it)}.
    """

    shown: dict[str, Any] = field(default_factory=dict)
    ran: set[str] = field(default_factory=set)
    remembered: set[str] = field(default_factory=set)
    failed: tuple[str, str] | None = None
    refused: str | None = None
    faults: Faults = field(default_factory=dict)


def faults_of(node_errors: dict[str, Any]) -> Faults:
    return {
        node_id: (sorted(error["type"] for error in entry["errors"]), sorted(entry["dependent_outputs"]))
        for node_id, entry in node_errors.items()
    }


def ours(executor: Executor, prompt: Prompt) -> Seen:
    seen = Seen()

    def on_node(state: str, node_id: str, ui: dict[str, Any]) -> None:
        if state == "running":
            seen.ran.add(node_id)

    try:
        checked = validate(convert(Workflow("a prompt", Path(), prompt=prompt), executor.catalog), executor.catalog)
        keys = cache_keys(checked, set(checked), executor.catalog, None).of
        seen.remembered = {
            node_id for node_id, key in keys.items() if key in executor._results or key in executor._networks
        }
        seen.shown = executor.run(checked, on_node=on_node)
    except InvalidWorkflowError as error:
        seen.refused, seen.faults = error.error["type"], faults_of(error.node_errors)
    except RunError as error:
        seen.failed = error.node_id, type(error.__cause__).__name__
    return seen


def theirs(server: Server, prompt: Prompt) -> Seen:
    try:
        run = server.watch(prompt)
    except RefusedError as refusal:
        assert "prompt_id" not in refusal.answer, "a part of it is good, and runs"
        return Seen(refused=refusal.answer["error"]["type"], faults=faults_of(refusal.answer["node_errors"]))
    ran = {event["data"]["node"] for event in run.events if event["type"] == "executing"} - {None}
    if run.error is not None:
        return Seen({}, ran, run.cached, (run.error["node_id"], run.error["exception_type"].rpartition(".")[2]))
    return Seen(run.outputs, ran, run.cached)


def forget(server: Server, name: str) -> None:
    """Let the server forget what ran before: it remembers the latest prompt's results alone."""
    server.run({"1": node("ProbeShow", value=f"before {name}")})


SUM = {
    "1": node("ProbeNumber", value=4),
    "2": node("ProbeNumber", value=3),
    "3": node("ProbeAdd", a=["1", 0], b=["2", 0]),
    "4": node("ProbeShow", value=["3", 0]),
}
FIELDS = {"count": 2, "share": 0.25, "text": "a\nb", "on": False, "mode": "slow"}


def fields(**changed: Any) -> Prompt:
    return {"1": node("ProbeFields", **{**FIELDS, **changed}), "2": node("ProbeShow", value=["1", 0])}


def without(name: str) -> Prompt:
    return {
        "1": node("ProbeFields", **{key: value for key, value in FIELDS.items() if key != name}),
        "2": node("ProbeShow", value=["1", 0]),
    }


def choosing(take_second: bool, **changed: Any) -> Prompt:
    return {
        "1": node("ProbeNumber", value=1),
        "2": node("ProbeNumber", value=2),
        "3": node("ProbeAdd", a=["2", 0], b=["2", 0]),
        "4": node("ProbeChoose", take_second=take_second, first=["1", 0], second=["3", 0]),
        "5": node("ProbeShow", value=["4", 0]),
        **changed,
    }


def stamped(stamp: str) -> Prompt:
    return {
        "1": node("ProbeNumber", value=5),
        "2": node("ProbeStamped", stamp=stamp, after=["1", 0]),
        "3": node("ProbeShow", value=["2", 0]),
        "4": node("ProbeShow", value=["1", 0]),
    }


def checked(even: Any, other: Any = 0) -> Prompt:
    return {"1": node("ProbeChecked", even=even, other=other), "2": node("ProbeShow", value=["1", 0])}


def any_type(source: str, slot: int) -> Prompt:
    return {
        "1": node("ProbePair", text="abc"),
        "2": node("ProbeNumber", value=3),
        "3": node("ProbeAnyType", value=[source, slot]),
        "4": node("ProbeShow", value=["3", 0]),
    }


MANY = {
    "few": node("ProbeMany", value=2),
    "many": node("ProbeMany", value=3),
    "sum": node("ProbeAdd", a=["few", 0], b=["many", 0]),
    "each": node("ProbeShow", value=["sum", 0]),
    "whole": node("ProbeShowAll", value=["sum", 0]),
    "all": node("ProbeGather", values=["sum", 0], scale=10),
    "total": node("ProbeShow", value=["all", 0]),
}
BOTH = {
    "1": node("ProbeNumber", value=1),
    "2": node("ProbeBoth", value=["1", 0]),
    "3": node("ProbeBoth", value=["2", 0]),
    "4": node("ProbeShow", value=["3", 0]),
}

GOOD: dict[str, list[Prompt]] = {
    "a sum": [SUM],
    "the same again": [SUM, SUM],
    "one number changed": [SUM, {**SUM, "2": node("ProbeNumber", value=5)}],
    "another output more": [SUM, {**SUM, "5": node("ProbeShow", value=["1", 0])}],
    "an output less": [{**SUM, "5": node("ProbeShow", value=["1", 0])}, SUM],
    "a node that nothing needs": [{**SUM, "9": node("ProbeNumber", value=1)}],
    "a bad node that nothing needs": [{**SUM, "9": node("ProbeNumber", value=99)}],
    "an optional input": [{**SUM, "3": node("ProbeAdd", a=["1", 0], b=["2", 0], c=["1", 0])}, SUM],
    "an input that the class does not declare": [{**SUM, "1": node("ProbeNumber", value=4, colour="red")}],
    "a constant where a link is usual": [{**SUM, "3": node("ProbeAdd", a=["1", 0], b=6)}],
    "fields": [fields()],
    "numbers as texts": [fields(count="7", share="0.75")],
    "a fraction for a whole number": [fields(count=2.9)],
    "a number for a text": [fields(text=12)],
    "a text for a boolean": [fields(on="false")],
    "at the ends of the range": [fields(count=0, share=1)],
    "a list as a value": [{"1": node("ProbeShow", value={"__value__": [1, 2]})}],
    "the second slot": [{"1": node("ProbePair", text="abcd"), "2": node("ProbeShow", value=["1", 1])}],
    "a lazy input": [choosing(False)],
    "the other lazy input, later": [choosing(False), choosing(True)],
    "a lazy input that another node needs": [choosing(False, **{"6": node("ProbeShow", value=["3", 0])})],
    "lists": [MANY, {**MANY, "few": node("ProbeMany", value=1)}],
    "a stamp that stays": [stamped("a"), stamped("a")],
    "a stamp that changes": [stamped("a"), stamped("bb")],
    "a stamp of NaN": [stamped("nan"), stamped("nan")],
    "a stamp that fails": [stamped("fail"), stamped("fail")],
    "a value that the class checks": [checked(2)],
    "beyond the range, where the class checks": [checked(8)],
    "types that the class checks": [any_type("2", 0), any_type("1", 1)],
    "hidden inputs": [{"1": node("ProbeHidden"), "2": node("ProbeHidden")}],
    "outputs that others take": [BOTH, {**BOTH, "4": node("ProbeShow", value=["2", 0])}],
    "ids that are no numbers": [{"a:b": node("ProbeNumber", value=1), "ünï": node("ProbeShow", value=["a:b", 0])}],
}

BAD: dict[str, list[Prompt]] = {
    "nothing to show": [{"1": node("ProbeNumber", value=1)}],
    "an input is missing": [without("text")],
    "a link is missing": [{**SUM, "3": node("ProbeAdd", a=["1", 0])}],
    "two inputs are missing": [{**SUM, "3": node("ProbeAdd")}],
    "too small": [fields(count=-1)],
    "too large": [fields(share=1.5)],
    "not a number": [fields(count="many", share=None)],
    "not in the list": [fields(mode="warp")],
    "several at once": [fields(count=-1, share="x", mode="warp")],
    "the wrong type": [{**SUM, "1": node("ProbePair", text="abc")}],
    "a link of three": [{**SUM, "3": node("ProbeAdd", a=["1", 0, 0], b=["2", 0])}],
    "a link of one": [{**SUM, "3": node("ProbeAdd", a=["1"], b=["2", 0])}],
    "far from the output": [{**SUM, "1": node("ProbeNumber", value=11), "2": node("ProbeNumber", value=-11)}],
    "one fault for two outputs": [{**SUM, "1": node("ProbeNumber", value=11), "5": node("ProbeShow", value=["3", 0])}],
    "an output that outputs need": [{**BOTH, "1": node("ProbeNumber", value=11)}],
    "the class refuses a value": [checked(3)],
    "the class refuses a type": [any_type("1", 0)],
    "a good prompt after a bad one": [{**SUM, "1": node("ProbeNumber", value=11)}, SUM],
    "a failure": [{**SUM, "4": node("ProbeFails", value=["3", 0]), "5": node("ProbeShow", value=["4", 0])}],
    "a failure, and then less": [
        {"1": SUM["1"], "4": node("ProbeFails", value=["1", 0]), "5": node("ProbeShow", value=["4", 0])},
        {"1": SUM["1"], "5": node("ProbeShow", value=["1", 0])},
    ],
}


@pytest.mark.parametrize("name", [*GOOD, *BAD])
def test_the_server_and_the_executor_agree(server: Server, name):
    forget(server, name)
    executor = Executor(CATALOG, keep_networks=True)
    clean = []
    for prompt in {**GOOD, **BAD}[name]:
        here = ours(executor, prompt)
        assert here == theirs(server, prompt)
        clean.append(here.refused is None and here.failed is None)
    assert all(clean) == (name in GOOD)


def test_of_equal_nodes_one_runs(server: Server):
    """The node that is named may differ."""
    prompt = {**SUM, "2": SUM["1"], "5": SUM["4"], "6": SUM["3"], "7": node("ProbeShow", value=["6", 0])}
    forget(server, "equal nodes")
    here, there = ours(Executor(CATALOG), prompt), theirs(server, prompt)
    assert here.shown == there.shown
    for seen in (here, there):
        assert sorted(prompt[each]["class_type"] for each in seen.ran) == ["ProbeAdd", "ProbeNumber", "ProbeShow"]


BETTER: dict[str, tuple[Prompt, str, str, Faults, Faults]] = {
    "a slot that does not exist": (
        {**SUM, "3": node("ProbeAdd", a=["1", 7], b=["2", 0])},
        "prompt_outputs_failed_validation",
        "prompt_outputs_failed_validation",
        {"3": (["exception_during_inner_validation"], ["4"])},
        {"3": (["bad_linked_input"], ["4"])},
    ),
    "a node that does not exist": (
        {**SUM, "3": node("ProbeAdd", a=["77", 0], b=["2", 0])},
        "prompt_outputs_failed_validation",
        "prompt_outputs_failed_validation",
        {"3": (["exception_during_inner_validation"], ["4"])},
        {"3": (["bad_linked_input"], ["4"])},
    ),
    "a class that does not exist": (
        {**SUM, "1": node("ProbeNothing")},
        "invalid_prompt",
        "prompt_outputs_failed_validation",
        {},
        {"1": (["missing_node_type"], [])},
    ),
}


@pytest.mark.parametrize("name", BETTER)
def test_where_the_server_says_less(server: Server, name):
    """Both refuse; the server lets an exception through, or does not say of which nodes it speaks."""
    prompt, their_error, our_error, their_faults, our_faults = BETTER[name]
    there, here = theirs(server, prompt), ours(Executor(CATALOG), prompt)
    assert (there.refused, there.faults) == (their_error, their_faults)
    assert (here.refused, here.faults) == (our_error, our_faults)


def test_a_circle_is_refused_by_both(server: Server):
    prompt = {
        "1": node("ProbeAdd", a=["2", 0], b=1),
        "2": node("ProbeAdd", a=["1", 0], b=1),
        "3": node("ProbeShow", value=["2", 0]),
    }
    assert theirs(server, prompt).refused == "prompt_outputs_failed_validation"
    assert ours(Executor(CATALOG), prompt).refused == "dependency_cycle"


def test_a_then_b_then_a_again_runs_twice_there_and_once_here(server: Server):
    other = {"1": node("ProbeNumber", value=-3), "2": node("ProbeShow", value=["1", 0])}
    executor = Executor(CATALOG)
    for prompt in (SUM, other):
        ours(executor, prompt)
        theirs(server, prompt)
    assert theirs(server, SUM).ran == set(SUM)
    assert ours(executor, SUM).ran == set()
