"""The pack as ComfyUI loads it: a folder with a hyphen in its name, not on sys.path, under a name made of its path."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

LOAD = """
import importlib.util, json, sys
from pathlib import Path

class OnlyFromThePack:
    # An installed copy must not be what answers: the pack itself has to bring its core.
    def find_spec(self, name, path=None, target=None):
        if path is None and name.split(".")[0] in ("wuerstchen_core", "wuerstchen_nodes", "nodes"):
            raise ModuleNotFoundError(f"{name} was looked for on sys.path", name=name)

sys.meta_path.insert(0, OnlyFromThePack())
pack, before, report = Path(sys.argv[1]), list(sys.path), {}

def load(pack):
    name = str(pack).replace(".", "_x_")
    spec = importlib.util.spec_from_file_location(name, pack / "__init__.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
"""

REPORT = """
module = load(pack)
import wuerstchen_core
from wuerstchen_core import StageA

loaders = sys.modules[module.__name__ + ".nodes.loaders"]
print(json.dumps({
    "ids": sorted(module.NODE_CLASS_MAPPINGS),
    "named": sorted(module.NODE_DISPLAY_NAME_MAPPINGS),
    "web": (pack / module.WEB_DIRECTORY).is_dir(),
    "core": wuerstchen_core.__file__,
    "one_class": loaders.wuerstchen_core.StageA is StageA,
    "same_path": sys.path == before,
    "heavy": [each for each in ("transformers", "huggingface_hub", "diffusers") if each in sys.modules],
    "comfy": [each for each in sys.modules if each.endswith("nodes.comfy.host")],
}))
"""


@pytest.fixture
def pack(tmp_path) -> Path:
    folder = tmp_path / "custom_nodes" / "wuerstchen-nodes.v2"
    unneeded = shutil.ignore_patterns(".*", "__pycache__", "cocktail", "tests", "*.egg-info", "build", "dist", "runs")
    shutil.copytree(ROOT, folder, ignore=unneeded)
    return folder


def run(code: str, pack: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", "-c", LOAD + code, str(pack)]
    return subprocess.run(command, capture_output=True, text=True, cwd=pack.parents[1], timeout=120, check=False)


def test_loads_with_one_copy_of_the_core(pack):
    done = run(REPORT, pack)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert len(report["ids"]) == 20 and report["ids"] == report["named"]
    assert Path(report["core"]) == pack / "wuerstchen_core" / "__init__.py"
    assert report["one_class"] and report["same_path"] and report["web"]
    assert report["heavy"] == []
    assert report["comfy"] == []


def test_a_second_copy_of_the_core_is_reported(pack, tmp_path):
    other = tmp_path / "custom_nodes" / "older-copy"
    shutil.copytree(pack, other)
    done = run(f"load(pack); load(Path({str(other)!r})); print(sys.modules['wuerstchen_core'].__file__)", pack)
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).parents[1] == pack
    assert "wuerstchen_core is already loaded from" in done.stderr and str(other) in done.stderr


def test_a_broken_core_leaves_nothing_half_loaded(pack):
    (pack / "wuerstchen_core" / "__init__.py").write_text("raise OSError('unreadable')")
    done = run("try:\n    load(pack)\nexcept OSError:\n    print('wuerstchen_core' in sys.modules)", pack)
    assert (done.returncode, done.stdout.strip()) == (0, "False"), done.stderr


def test_the_oldest_comfyui_is_the_one_that_is_tested():
    told = {
        "pyproject.toml": r'^requires-comfyui = ">=(\S+)"$',
        "nodes/README.md": r"takes ComfyUI (\S+) \(.* or newer; the tests run on \1 and",
        ".ci/comfyui": r"^    oldest\) .*# ComfyUI (\S+)$",
    }
    found = [re.search(each, (ROOT / name).read_text(encoding="utf-8"), re.M) for name, each in told.items()]
    assert len({match[1] if match else None for match in found}) == 1 and all(found)


def test_every_folder_of_code_is_listed_for_installation():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    listed = set(re.findall(r'^    "(wuerstchen_[\w.]+)",$', text, re.MULTILINE))
    expected = {"wuerstchen_nodes.workflows"}
    for package, folder in (("wuerstchen_core", ROOT / "wuerstchen_core"), ("wuerstchen_nodes", ROOT / "nodes")):
        for path in folder.rglob("__init__.py"):
            expected.add(".".join((package, *path.parent.relative_to(folder).parts)))
    assert listed == expected
