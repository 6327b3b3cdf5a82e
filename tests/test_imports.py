"""Test the direction of imports between folders, read from the sources, and how little importing the packages loads."""

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import wuerstchen_core

ROOT = Path(__file__).parents[1]
FOLDERS = {"wuerstchen_core": ROOT / "wuerstchen_core", "wuerstchen_nodes": ROOT / "nodes"}

COMFYUI = {"comfy", "comfy_extras", "comfy_execution", "comfy_api", "folder_paths", "execution", "nodes", "server"}
OUTSIDE = COMFYUI | {"wuerstchen_nodes", "diffusers"}

CORE = {
    "errors": set(),
    "files": set(),
    "geometry": {"errors"},
    "schedule": {"errors"},
    "images": {"geometry", "errors"},
    "sampling": {"schedule", "errors"},
    "previews": {"networks"},
    "networks": {"geometry", "errors"},
    "checkpoints": {"networks", "geometry", "text", "files", "errors"},
    "text": {"networks", "files", "errors"},
    "weights": {"checkpoints", "networks", "text", "errors"},
    "stages": {"images", "sampling", "networks", "geometry", "schedule", "errors"},
    "pipeline": {
        *("stages", "images", "checkpoints", "networks"),
        *("sampling", "geometry", "schedule", "files", "errors"),
    },
    "training": {
        *("stages", "checkpoints", "networks", "weights"),
        *("text", "previews", "geometry", "schedule", "files", "errors"),
    },
}
"""Room of the core -> rooms that it may import. A room is a folder or a module beside the folders."""

HEADLESS = {
    "errors": set(),
    "threads": set(),
    "extras": {"errors"},
    "report": {"errors"},
    "output_files": {"errors"},
    "host": {"output_files", "errors"},
    "workflow": {"errors"},
    "execution": {"workflow", "errors"},
    "stock": {"execution", "workflow", "host", "output_files", "errors"},
    "run": {"stock", "execution", "workflow", "host", "output_files", "errors"},
    "server": {"run", "stock", "execution", "workflow", "host", "output_files", "extras", "errors"},
    "batch": {"run", "stock", "execution", "workflow", "host", "output_files", "report", "threads", "extras", "errors"},
    "cli": {
        *("batch", "server", "run", "stock", "execution", "workflow"),
        *("host", "output_files", "report", "threads", "extras", "errors"),
    },
}
"""Room of `nodes/headless` -> rooms that it may import."""

NODES = {
    "host": set(),
    "shown": set(),
    "memory": set(),
    "output": {"shown"},
    "widgets": {"host"},
    "models": {"host"},
    "sockets": {"host", "shown"},
    "pictures": {"host", "sockets", "shown"},
    "thumbnails": {"models"},
    "embeddings": {"host", "models"},
    "lazy": {"host"},
    "arguments": {"host", "lazy", "shown", "widgets"},
    "stages": {
        *("arguments", "shown", "host", "lazy", "memory", "output"),
        *("widgets", "models", "sockets", "pictures", "embeddings"),
    },
    "registry": {"stages"},
    "comfy": {
        "arguments",
        "shown",
        "host",
        "lazy",
        "memory",
        "widgets",
        "models",
        "sockets",
        "embeddings",
        "thumbnails",
        "registry",
        "headless",
    },
    "headless": {"registry", "host", "widgets", "models", "sockets", "pictures", "embeddings"},
    "__main__": {"headless"},
}
"""Room of `nodes` -> rooms that it may import; "stages" stands for every file of node classes."""


def _module_of(path: Path, package: str) -> str:
    parts = path.relative_to(FOLDERS[package]).with_suffix("").parts
    return ".".join([package, *(part for part in parts if part != "__init__")])


SOURCES = {_module_of(path, package): path for package, folder in FOLDERS.items() for path in folder.rglob("*.py")}


def _imports(module: str) -> set[str]:
    """Return the absolute name of every module that a module imports, anywhere in it but for type checkers alone."""
    path = SOURCES[module]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for_types = {
        each
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and getattr(node.test, "id", None) == "TYPE_CHECKING"
        for child in node.body
        for each in ast.walk(child)
    }
    found = set()
    for node in ast.walk(tree):
        if node in for_types:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package.rsplit(".", node.level - 1)[0] if node.level else ""
            base = ".".join(part for part in (base, node.module or "") if part)
            for alias in node.names:
                whole = f"{base}.{alias.name}"
                found.add(whole if whole in SOURCES else base)
    return found


IMPORTS = {module: _imports(module) for module in SOURCES}


def _room(module: str, package: str, allowed: dict[str, set[str]]) -> str | None:
    """Return the room of a module below `package`, or None for a module elsewhere or the package itself."""
    if not module.startswith(f"{package}."):
        return None
    room = module.removeprefix(f"{package}.").split(".")[0]
    return "stages" if "stages" in allowed and package == "wuerstchen_nodes" and room not in allowed else room


@pytest.mark.parametrize(
    ("package", "allowed"),
    [("wuerstchen_core", CORE), ("wuerstchen_nodes.headless", HEADLESS), ("wuerstchen_nodes", NODES)],
)
def test_imports_keep_to_their_direction(package, allowed):
    list(TopologicalSorter(allowed).static_order())  # the table itself has no cycle
    for module, imports in IMPORTS.items():
        room = _room(module, package, allowed)
        if room is None:
            continue
        assert room in allowed, f"{module} is in no room of the table; say what it may import"
        used = {_room(each, package, allowed) for each in imports} - {None, room}
        assert used <= allowed[room], f"{module} imports {used - allowed[room]}"


def test_no_import_cycle():
    graph = {module: {each for each in imports if each in SOURCES} for module, imports in IMPORTS.items()}
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_rooms_are_small():
    for package, most in (("wuerstchen_core", 16), ("nodes/headless", 14)):
        entries = [path.name for path in (ROOT / package).iterdir() if path.is_dir() or path.suffix == ".py"]
        entries = [name for name in entries if name != "__pycache__"]
        assert len(entries) <= most, f"{package} has {len(entries)} entries: {sorted(entries)}"
    for path in SOURCES.values():
        lines = len(path.read_text(encoding="utf-8").splitlines())
        marker = path.name in ("__init__.py", "__main__.py")
        assert lines <= 350 and (marker or lines >= 15), f"{path} has {lines} lines"


def test_the_core_knows_no_node_and_no_comfyui():
    for module, imports in IMPORTS.items():
        if module.startswith("wuerstchen_core"):
            roots = {name.split(".")[0] for name in imports}
            assert not roots & OUTSIDE, f"{module} imports {roots & OUTSIDE}"


def test_only_its_own_folder_imports_comfyui():
    for module, imports in IMPORTS.items():
        if module.startswith("wuerstchen_nodes") and not module.startswith("wuerstchen_nodes.comfy"):
            roots = {name.split(".")[0] for name in imports}
            assert not roots & COMFYUI, f"{module} imports {roots & COMFYUI}"


def _modules_after(statement: str) -> set[str]:
    """Return the modules that a fresh interpreter has loaded after a statement."""
    code = f"{statement}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "statement",
    [
        "import wuerstchen_core, wuerstchen_nodes",
        "from wuerstchen_core import *",
        "from wuerstchen_core import pipeline, text; from wuerstchen_core.checkpoints import loading, saving, sources",
    ],
)
def test_importing_is_light(statement):
    loaded = _modules_after(statement)
    assert "torch" in loaded or "from" not in statement
    assert not loaded & {"transformers", "huggingface_hub", "diffusers"}


def test_the_package_itself_imports_nothing_heavy():
    assert not _modules_after("import wuerstchen_core") & {"torch", "numpy", "PIL"}


@pytest.mark.parametrize(
    "module", ["registry", "headless.cli.jobs", "headless.stock.nodes", "headless.execution.disk_cache"]
)
def test_nodes_can_be_listed_and_results_looked_up_without_torch(module):
    assert "torch" not in _modules_after(f"import wuerstchen_nodes.{module}")


def test_every_public_name_is_there():
    for name in wuerstchen_core.__all__:
        assert getattr(wuerstchen_core, name) is not None, name
    with pytest.raises(AttributeError, match="no attribute 'load_stage_d'"):
        wuerstchen_core.load_stage_d  # noqa: B018  # pyright: ignore[reportAttributeAccessIssue]
