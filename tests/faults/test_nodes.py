"""Node classes with wrong values at every input: one clear line that names the input, or a sound result."""

from typing import Any

import pytest

from support.attacks import within
from support.hosts import FakeHost
from support.node_bench import NODES, call, entries, right, tensors_in, wrong
from wuerstchen_core.errors import WuerstchenError
from wuerstchen_nodes import host as hosts

LONGEST = 1500
"""Most characters of a message."""
INPUTS = [(node_id, name) for node_id in NODES for name in entries(node_id)]


@pytest.fixture(params=["fake", "headless"], autouse=True)
def host(request, tmp_path, monkeypatch) -> Any:
    """Install a host that wraps networks, as ComfyUI's does, and one that passes them on as they are."""
    monkeypatch.chdir(tmp_path)
    for name in ("WUERSTCHEN_MODELS", "WUERSTCHEN_CACHE", "HF_HOME", "HF_HUB_CACHE"):
        monkeypatch.setenv(name, str(tmp_path / name))
    if request.param == "headless":
        from wuerstchen_nodes.headless.host import HeadlessHost

        made: Any = HeadlessHost(device="cpu")
    else:
        made = FakeHost(tmp_path)
    monkeypatch.setattr(hosts, "_installed", made)
    return made


def fault_of(node_id: str, name: str, value: Any) -> str | None:
    """Return what is wrong with the way in which a node takes a value; None where it is as it should be."""
    try:
        with within(10):
            result = call(node_id, {**right(node_id), name: value})
    except WuerstchenError as error:
        text = str(error)
        if "\n" in text or len(text) > LONGEST:
            return f"not one line, or {len(text)} characters: {text[:300]}"
        names = name in text or (isinstance(value, str) and value in text)  # a file is named by itself
        return None if names else f"does not name the input: {text[:300]}"
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:300]}"
    if all(tensor.isfinite().all() for tensor in tensors_in(result)):
        return None
    return "the result holds values that are not numbers"


@pytest.mark.parametrize(("node_id", "name"), INPUTS, ids=[f"{node}-{name}" for node, name in INPUTS])
def test_a_wrong_value_is_refused_by_the_name_of_its_input(node_id, name, tried):
    values = wrong(node_id, name)
    tried(len(values))
    faults = {said: fault for said, value in values.items() if (fault := fault_of(node_id, name, value))}
    assert not faults, "\n".join(f"{said}: {fault}" for said, fault in faults.items())
