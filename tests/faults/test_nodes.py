"""Node classes with wrong values at every input: one clear line that names the input, or a sound result."""

import math
from pathlib import Path
from typing import Any

import pytest

import wuerstchen_core
from support.attacks import within
from support.bad_values import ANYTHING, NAMES, Values
from support.hosts import FakeHost
from support.node_bench import COMFYUI_ONLY, NETWORKS, NODES, call, entries, right, tensors_in, wrong
from wuerstchen_core.errors import InputError, WuerstchenError
from wuerstchen_nodes import host as hosts
from wuerstchen_nodes.headless.host import HeadlessHost

LONGEST = 1500
"""Most characters of a message."""
INPUTS = [(node_id, name) for node_id in NODES for name in entries(node_id)]
SOCKETS = [(node_id, name) for node_id, name in INPUTS if str(entries(node_id)[name][0]) in NETWORKS]
RANGES = [(node_id, name) for node_id, name in INPUTS if "max" in entries(node_id)[name][1]]
HERE = [node_id for node_id in NODES if node_id not in COMFYUI_ONLY or node_id == "WuerstchenEmptyLatent"]
"""Nodes that compute without ComfyUI."""


@pytest.fixture(autouse=True)
def fake_host(tmp_path, monkeypatch) -> FakeHost:
    """Install a host that wraps networks, as ComfyUI's does."""
    monkeypatch.chdir(tmp_path)
    for name in ("WUERSTCHEN_MODELS", "WUERSTCHEN_CACHE", "HF_HOME", "HF_HUB_CACHE"):
        monkeypatch.setenv(name, str(tmp_path / name))
    made = FakeHost(tmp_path, downloads=[(0, 0)])
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
        names = names or "inputs that are too large" in text  # numbers that a stage has computed infinity from
        return None if names else f"does not name the input: {text[:300]}"
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:300]}"
    if all(tensor.isfinite().all() for tensor in tensors_in(result)):
        return None
    return "the result holds values that are not numbers"


def check(node_id: str, name: str, values: Values) -> int:
    """Try wrong values at an input, and return their number."""
    faults = {said: fault for said, value in values.items() if (fault := fault_of(node_id, name, value))}
    assert not faults, "\n".join(f"{said}: {fault}" for said, fault in faults.items())
    return len(values)


@pytest.mark.parametrize("node_id", HERE)
def test_right_values_give_a_result(node_id):
    results = call(node_id, right(node_id))
    assert results and all(tensor.isfinite().all() for tensor in tensors_in(results))


@pytest.mark.parametrize(("node_id", "name"), INPUTS, ids=[f"{node}-{name}" for node, name in INPUTS])
def test_a_wrong_value_is_refused_by_the_name_of_its_input(node_id, name, tried):
    tried(check(node_id, name, wrong(node_id, name)))


@pytest.mark.parametrize(("node_id", "name"), SOCKETS, ids=[f"{node}-{name}" for node, name in SOCKETS])
def test_a_host_that_passes_networks_on_as_they_are_takes_no_other_one(node_id, name, monkeypatch, tried):
    monkeypatch.setattr(hosts, "_installed", HeadlessHost(device="cpu"))
    networks = {said: value for said, value in wrong(node_id, name).items() if said not in ANYTHING}
    tried(check(node_id, name, networks))


@pytest.mark.parametrize(("node_id", "name"), SOCKETS, ids=[f"{node}-{name}" for node, name in SOCKETS])
def test_a_socket_says_what_it_expects(node_id, name):
    for value in (each for each in ANYTHING.values() if each is not None):
        with pytest.raises(InputError, match=rf"^{name} is .*; expected .*\. Connect the node Load .*\.$"):
            call(node_id, {**right(node_id), name: value})


class Accepted(BaseException):
    """Stands in for the computation."""


def nearly(value: float, kind: str, up: bool) -> list[Any]:
    """Return numbers just beyond a limit and far beyond it."""
    sign = 1 if up else -1
    if kind == "INT":
        return [value + sign, value + sign * 2**64, sign * 10**400]
    return [math.nextafter(value, sign * math.inf), sign * 1e300, sign * math.inf, sign * 10**400]


@pytest.mark.parametrize(("node_id", "name"), RANGES, ids=[f"{node}-{name}" for node, name in RANGES])
def test_a_number_is_taken_from_its_least_to_its_most_and_not_beyond(node_id, name, monkeypatch, tried):
    def accept(*_: Any, **__: Any) -> Any:
        raise Accepted

    for function in ("sample_stage_c", "sample_stage_b"):
        monkeypatch.setattr(wuerstchen_core, function, accept)
    kind, options = entries(node_id)[name]
    low, high = options.get("min_linked", options["min"]), options["max"]
    beyond = [*nearly(low, kind, up=False), *nearly(high, kind, up=True), math.nan, -math.nan, True, "1", None]
    for value in beyond:
        with within(2), pytest.raises(InputError, match=f"^{name} is .*; expected a (whole )?number from"):
            call(node_id, {**right(node_id), name: value})
    tried(len(beyond))
    for value in (low, high, *([-0.0] if kind == "FLOAT" and low <= 0 else [])):
        if node_id in HERE:
            try:
                call(node_id, {**right(node_id), name: value})
            except Accepted:
                pass
            except InputError:
                assert (name, value) == ("steps", 1)  # too few for Stage C, which has a message of its own


def test_nothing_is_saved_outside_of_the_output_folder(tmp_path, tried):
    output, outside = tmp_path / "inside" / "output", tmp_path / "outside"
    outside.mkdir()
    output.mkdir(parents=True)
    (output / "link").symlink_to(outside, target_is_directory=True)
    (output / "file").touch()
    prefixes = [
        *(each for each in NAMES.values() if isinstance(each, str)),
        *("link/x", "link/../x", "./link/x", "file/x", "a/link/../../../x", "%date%", "%date:yyyy%/x", "{index}"),
        *("x.", "x ", "a./x", "CON", "nul.txt", "com1/x", "LPT¹", "aux .x", "x:stream", "C:x", "\u202egnp.exe"),
        *("ä" * 150, "a/" * 17 + "b", "~root/x", "-rf", "$(touch x)", "`touch x`", "a\tb", "a\x7fb"),
    ]
    for prefix in prefixes:
        host = FakeHost(tmp_path / "inside")
        with hosts.using(host), within(5):
            assert fault_of("WuerstchenSaveStageC", "filename_prefix", prefix) is None, prefix
    tried(len(prefixes))
    assert list(outside.iterdir()) == []
    written = {path for path in tmp_path.rglob("*") if path.is_file()}
    assert written and all(output in path.parents for path in written), written
    names = [part for path in written for part in Path(path).relative_to(output).parts]
    assert not any(part.endswith((".", " ")) or ":" in part for part in names), names
