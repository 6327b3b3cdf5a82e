"""The direction of imports, read from the sources, and how little importing the packages loads."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import wuerstchen_core

ROOT = Path(__file__).parents[1]
CORE = ROOT / "wuerstchen_core"
NODES = ROOT / "nodes"

COMFYUI = {"comfy", "comfy_extras", "comfy_execution", "comfy_api", "folder_paths", "execution", "nodes", "server"}
OUTSIDE = COMFYUI | {"wuerstchen_nodes", "diffusers"}

ALLOWED = {
    "errors": set(),
    "processor": set(),
    "attention": {"processor"},
    "blocks": {"attention"},
    "stage_a": {"blocks"},
    "stage_b": {"blocks"},
    "stage_c": {"blocks"},
    "geometry": {"errors"},
    "schedule": {"errors"},
    "sampling": {"errors", "schedule"},
    "tiling": {"errors"},
    "keys": {"errors"},
    "tensorfiles": {"errors"},
    "layouts": {"errors"},
    "checkpoint": {"errors", "keys", "layouts", "tensorfiles"},
    "presets": {"errors"},
    "sources": {"errors", "layouts", "presets"},
    "text": {"errors"},
    "previews": set(),
}
"""What a module of the core may import of the core; the others wire these together."""


def _imports(path: Path, package: str) -> set[str]:
    """Every module that a file imports, anywhere in it, by its absolute name."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package.rsplit(".", node.level - 1)[0] if node.level else ""
            module = ".".join(part for part in (base, node.module or "") if part)
            found |= {module} if node.module else {f"{module}.{alias.name}" for alias in node.names}
    return found


def _sources(root: Path, package: str) -> list[tuple[Path, str]]:
    files = sorted(root.rglob("*.py"))
    assert files, root
    return [(path, ".".join([package, *path.relative_to(root).parent.parts])) for path in files]


def test_the_core_knows_no_node_and_no_comfyui():
    for path, package in _sources(CORE, "wuerstchen_core"):
        roots = {name.split(".")[0] for name in _imports(path, package)}
        assert not roots & OUTSIDE, f"{path.name} imports {roots & OUTSIDE}"


@pytest.mark.parametrize("module", ALLOWED)
def test_modules_of_the_core_keep_to_their_layer(module):
    own = {
        name.removeprefix("wuerstchen_core.").split(".")[0]
        for name in _imports(CORE / f"{module}.py", "wuerstchen_core")
        if name.startswith("wuerstchen_core")
    }
    assert own <= ALLOWED[module]


def test_sampling_the_model_does_not_need_training():
    for path, package in _sources(CORE, "wuerstchen_core"):
        if "training" not in path.relative_to(CORE).parts:
            assert not any("training" in name.split(".") for name in _imports(path, package)), path.name


def test_only_its_own_folder_imports_comfyui():
    for path, package in _sources(NODES, "wuerstchen_nodes"):
        if path.relative_to(NODES).parts[0] != "comfy":
            roots = {name.split(".")[0] for name in _imports(path, package)}
            assert not roots & COMFYUI, f"{path.relative_to(NODES)} imports {roots & COMFYUI}"


def _modules_after(statement: str) -> set[str]:
    """What a fresh interpreter has loaded after a statement."""
    code = f"{statement}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "statement",
    [
        "import wuerstchen_core, wuerstchen_nodes",
        "from wuerstchen_core import *",
        "from wuerstchen_core import loading, pipeline, presets, saving, sources, text",
    ],
)
def test_importing_is_light(statement):
    loaded = _modules_after(statement)
    assert "torch" in loaded or "from" not in statement
    assert not loaded & {"transformers", "huggingface_hub", "diffusers"}


def test_the_package_itself_imports_nothing_heavy():
    assert not _modules_after("import wuerstchen_core") & {"torch", "numpy", "PIL"}


@pytest.mark.parametrize("module", ["registry", "headless.jobs", "headless.stock", "headless.disk_cache"])
def test_nodes_can_be_listed_and_results_looked_up_without_torch(module):
    assert "torch" not in _modules_after(f"import wuerstchen_nodes.{module}")


def test_every_public_name_is_there():
    for name in wuerstchen_core.__all__:
        assert getattr(wuerstchen_core, name) is not None, name
    with pytest.raises(AttributeError, match="no attribute 'load_stage_d'"):
        wuerstchen_core.load_stage_d  # noqa: B018  # pyright: ignore[reportAttributeAccessIssue]
