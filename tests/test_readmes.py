"""The READMEs do what they say: their commands run, their outputs are real, and their links lead somewhere."""

import importlib.util
import re
import shutil
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from support.readmes import KINDS, REMARKS, ROOT, Block, Reader, blocks_of, commands_of, draws
from wuerstchen_nodes.comfy import nodes as comfy_nodes
from wuerstchen_nodes.headless.cli.parser import build_parser
from wuerstchen_nodes.registry import COMFYUI_ONLY, NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS

TOP = ROOT / "README.md"
FOLDERS = ("nodes", "wuerstchen_core", "tests", "workflows", "locales")
READMES = [TOP, *sorted(path for name in FOLDERS for path in (ROOT / name).rglob("README.md"))]
BLOCKS = {path: blocks_of(path) for path in READMES}
ALL = [block for blocks in BLOCKS.values() for block in blocks]
QUICK = {"", "In Python"}
"""Sections of the top README that run in the short suite although they draw; "" is the text above all headings."""
MOST_NOT_RUN = 10
"""Number of blocks that may be left out, because of what they need."""

SHELL, BATCHES = ROOT / "nodes/headless/README.md", ROOT / "nodes/headless/batch/README.md"
NODES = {**NODE_CLASS_MAPPINGS, **comfy_nodes.NODE_CLASS_MAPPINGS}
TITLES = {**NODE_DISPLAY_NAME_MAPPINGS, **COMFYUI_ONLY}


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _walks() -> list[Any]:
    """Return the blocks of each section, to run one after the other in one folder."""
    found: list[Any] = []
    for path, all_blocks in BLOCKS.items():
        for section, group in groupby(all_blocks, key=lambda block: block.section):
            blocks = list(group)
            if any(block.is_run for block in blocks):
                is_long = draws(blocks) and not (path == TOP and section in QUICK)
                marks = [pytest.mark.long] if is_long else []
                found.append(pytest.param(blocks, id=f"{name_of(path)}: {section or 'start'}", marks=marks))
    return found


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash here")
@pytest.mark.parametrize("blocks", _walks())
def test_examples_run(blocks: list[Block], tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    reader = Reader(tmp_path)
    for name, value in reader.environment.items():
        monkeypatch.setenv(name, value)
    reader.follow(blocks)


@pytest.mark.parametrize("block", ALL, ids=str)
def test_a_block_says_what_it_is(block: Block):
    assert block.kind in KINDS
    assert block.remarks.keys() <= REMARKS
    assert all(block.remarks.values()), "a remark needs its reason, name or number"


def test_few_blocks_are_left_out():
    left_out = [f"{block}: {block.remarks['not run']}" for block in ALL if "not run" in block.remarks]
    assert len(left_out) <= MOST_NOT_RUN, "\n".join(left_out)


@pytest.mark.parametrize("block", [block for block in ALL if block.kind == "sh"], ids=str)
def test_commands_exist(block: Block):
    for program, *words in commands_of(block.text):
        if program == "wuerstchen":
            try:
                build_parser().read(words)
            except SystemExit as error:
                assert error.code == 0, words
        elif program == "python" and words[0] == "-m":
            assert importlib.util.find_spec(words[1]) is not None, words
        elif program == "python":
            assert (ROOT / words[0]).is_file(), words


@pytest.mark.parametrize("path", READMES, ids=name_of)
def test_links_lead_somewhere(path: Path):
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8")):
        if re.match(r"https?://", target):
            continue
        file, _, anchor = target.partition("#")
        linked = path.parent / file if file else path
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked), target


def anchors(path: Path) -> set[str]:
    """Return the anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_top_one_is_short():
    assert len(TOP.read_text(encoding="utf-8").splitlines()) <= 120


def test_every_verb_is_explained():
    text = SHELL.read_text(encoding="utf-8")
    verbs = set(build_parser().verbs())
    assert {*re.findall(r"`wuerstchen (\w+)", text)} - {"VERB"} == verbs


@pytest.mark.parametrize("path", [SHELL, BATCHES], ids=name_of)
def test_options_exist(path: Path):
    known = {option for verb in build_parser().verbs().values() for option in verb.options()}
    named = set(re.findall(r"`(--?[a-z][a-z-]*)", path.read_text(encoding="utf-8")))
    assert named <= known, named - known


@pytest.mark.parametrize("node_id", NODES)
def test_every_node_is_explained(node_id: str):
    rows = (ROOT / "nodes/README.md").read_text(encoding="utf-8").splitlines()
    row = next((row for row in rows if row.startswith(f"| {TITLES[node_id]} |")), None)
    assert row is not None, f"nodes/README.md has no row for {TITLES[node_id]}"
    declared = NODES[node_id].INPUT_TYPES()
    for name in (*declared.get("required", {}), *declared.get("optional", {})):
        assert f"`{name}`" in row, name
