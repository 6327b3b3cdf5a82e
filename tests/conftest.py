"""Choose the tests that run, in how many processes, and how the fuzz tests explore."""

import os
import secrets
import signal
from collections import Counter
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import pytest
from hypothesis import settings

KINDS = {"long": "long", "comfyui": "of a real ComfyUI", "ray": "on Ray"}
"""{marker of the tests that only --all runs: words for them at the end of a run}."""
LEFT_OUT = pytest.StashKey[Counter[str]]()

MOST_PROCESSES = 4
"""Most processes of `pytest -n auto`: each imports torch and makes networks of its own."""

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch loads: the processes share the cores

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell ignores it for what it runs in the background, and so would the processes that tests interrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("fixed", deadline=None, derandomize=True)
settings.register_profile("ci", deadline=None, derandomize=False, database=None, print_blob=True)


@pytest.fixture(scope="session", autouse=True)
def _no_server_of_the_user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Commands find no warm server but those that tests start."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("runtime")))
        yield


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--all", action="store_true", help="run the long tests, those of a real ComfyUI and those on Ray, too"
    )


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Keep the tests of a file in one process: they share a server, a page or a network."""
    if config.getoption("numprocesses", None) and config.option.dist == "no":
        config.option.dist = "loadfile"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    return min(MOST_PROCESSES, os.cpu_count() or 1)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Let the fuzz tests try the same cases each time, or new ones in CI and those of a given seed."""
    config.stash[LEFT_OUT] = Counter()
    if config.option.hypothesis_seed is None and "CI" in os.environ:
        config.option.hypothesis_seed = str(secrets.randbelow(2**32))
    settings.load_profile("fixed" if config.option.hypothesis_seed is None else "ci")


def pytest_report_header(config: pytest.Config) -> str | None:
    seed = config.option.hypothesis_seed
    return None if seed is None else f"fuzz tests: to try the same cases again, add --hypothesis-seed={seed}"


def _lacking(kind: str) -> str | None:
    """Return how to get what the tests of a kind need, or None if it is here."""
    if kind == "comfyui" and "COMFYUI_DIR" not in os.environ:
        return "`.ci/comfyui FOLDER` sets one up and prints the variables that name it"
    if kind == "ray" and find_spec("ray") is None:
        return "pip install -e '.[ray]'"
    return None


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what only --all or a -m runs, and what cannot run here."""
    chosen = config.option.all or config.option.markexpr
    out = {kind for kind in KINDS if not chosen or _lacking(kind)}
    kept, dropped = [], []
    for item in items:
        kind = next((each for each in KINDS if each in out and item.get_closest_marker(each)), None)
        if kind is None:
            kept.append(item)
        else:
            dropped.append(item)
            config.stash[LEFT_OUT][kind] += 1
    config.hook.pytest_deselected(items=dropped)
    items[:] = kept


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Send what this process left out to the one that prints the summary."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["left out"] = dict(session.config.stash[LEFT_OUT])


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take over what a process left out; each collects every test."""
    counts = node.config.stash[LEFT_OUT]
    counts |= Counter(getattr(node, "workeroutput", {}).get("left out", {}))


def _say_what_was_tried(terminalreporter: pytest.TerminalReporter) -> None:
    """Sum what the tests of `faults` have counted with `tried`."""
    reports = [each for kind in terminalreporter.stats.values() for each in kind if isinstance(each, pytest.TestReport)]
    ended = [each for each in reports if each.when == "teardown"]
    tried: dict[str, Any] = {each.nodeid: dict(each.user_properties).get("inputs", 0) for each in ended}
    if not any(tried.values()):
        return
    failed = {each.nodeid for each in reports if each.failed and "/faults/" in each.nodeid}
    ends = f"{len(failed)} tests failed" if failed else "0 tracebacks, 0 hangs, 0 escapes, 0 lost or doubled pictures"
    terminalreporter.write_line(f"Bad inputs and faults: {sum(tried.values()):,} tried, {ends}.")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> Iterator[None]:
    """Say how many bad inputs were tried, what was left out, and how to run it."""
    yield
    _say_what_was_tried(terminalreporter)
    counts = config.stash[LEFT_OUT]
    words = {kind: f"{counts[kind]} {KINDS[kind]}" for kind in KINDS if counts[kind]}
    if not words:
        return
    if config.option.all or config.option.markexpr:
        for kind, each in words.items():
            terminalreporter.write_line(f"Left out: {each}. To run them: {_lacking(kind)}.")
    else:
        terminalreporter.write_line(f"Left out: {', '.join(words.values())}. Run them with: pytest --all")
