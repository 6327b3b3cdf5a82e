"""CONTRIBUTING.md names real code: every hop of its walks exists, and is reached without going back up."""

import ast
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
PACKAGES = {"nodes": "wuerstchen_nodes", "wuerstchen_core": "wuerstchen_core"}


@dataclass(frozen=True)
class Hop:
    """One line of a walk.

    Attributes:
        path: File, relative to the repository.
        name: Function, class or method in it.
        given: Whether its caller was given it, and so need not import it.
        caller: The line that it is indented under.
    """

    path: str
    name: str
    given: bool
    caller: "Hop | None"


def _walks() -> list[Hop]:
    hops: list[Hop] = []
    above: list[Hop] = []
    for indent, given, path, name in re.findall(r"^( *)- (\*given\* )?`([\w/]+\.py)` `([\w.]+)`: ", TEXT, re.M):
        depth = len(indent) // 2
        hop = Hop(path, name, bool(given), above[depth - 1] if depth else None)
        above[depth:] = [hop]
        hops.append(hop)
    return hops


HOPS = _walks()


def _tree(path: str) -> ast.Module:
    return ast.parse((ROOT / path).read_text(encoding="utf-8"))


def _module(path: str) -> str:
    package, *rest = Path(path).with_suffix("").parts
    return ".".join([PACKAGES[package], *rest])


def _imports(path: str) -> set[str]:
    """Return the absolute name of every module and name that a file imports."""
    package = _module(path).split(".")[:-1]
    found = set()
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            found |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


def test_there_are_four_walks():
    assert [hop.name for hop in HOPS if hop.caller is None] == ["main", "load_stage_c", "inpaint", "run"]
    assert len(HOPS) > 40


@pytest.mark.parametrize("hop", HOPS, ids=lambda hop: f"{hop.path}:{hop.name}")
def test_a_hop_exists(hop):
    scope: list[ast.stmt] = _tree(hop.path).body
    for part in hop.name.split("."):
        found = next((node for node in scope if getattr(node, "name", None) == part), None)
        assert found is not None, f"{hop.path} has no {hop.name}"
        scope = getattr(found, "body", [])


@pytest.mark.parametrize("hop", [hop for hop in HOPS if hop.caller], ids=lambda hop: f"{hop.path}:{hop.name}")
def test_a_hop_is_imported_by_its_caller_and_imports_it_never(hop):
    if hop.path == hop.caller.path:
        return
    assert _module(hop.caller.path) not in _imports(hop.path), f"{hop.path} goes back up to {hop.caller.path}"
    if not hop.given:
        known = _imports(hop.caller.path)
        by_package = hop.caller.path.startswith("nodes/") and "wuerstchen_core" in known  # lazy names of the package
        assert _module(hop.path) in known or (by_package and hop.path.startswith("wuerstchen_core/"))


def test_every_path_in_the_text_exists():
    for path in re.findall(r"`((?:nodes|wuerstchen_core|tests|locales|\.ci)/[\w/.]*)`", TEXT):
        assert (ROOT / path.replace("ID.md", "WuerstchenLoadStageC.md")).exists(), path


def test_the_tests_of_faults_are_in_the_table_of_what_they_promise():
    table = (ROOT / "tests/README.md").read_text(encoding="utf-8")
    missing = [path.name for path in (ROOT / "tests/faults").glob("test_*.py") if f"`{path.name}`" not in table]
    assert not missing, f"say in tests/README.md what {', '.join(missing)} promises"
