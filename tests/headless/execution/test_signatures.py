"""Cache keys: what they cover of the code."""

from pathlib import Path

import pytest

import wuerstchen_core
import wuerstchen_nodes
from wuerstchen_nodes.headless.execution import signatures
from wuerstchen_nodes.headless.execution.signatures import digest_of_code

CODE = {
    "core/stages.py": "a",
    "core/networks/blocks.py": "b",
    "core/training/loop.py": "c",
    "nodes/headless/stock/images.py": "d",
    "nodes/headless/cli/parser.py": "e",
}


def digest(folder: Path, code: dict[str, str]) -> str:
    for name, text in code.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return digest_of_code([folder / "core", folder / "nodes"])


@pytest.mark.parametrize("name", CODE)
def test_an_edit_anywhere_but_in_training_and_the_command_line_makes_other_keys(tmp_path, name):
    before = digest(tmp_path / "before", CODE)
    assert digest(tmp_path / "again", CODE) == before
    after = digest(tmp_path / "after", {**CODE, name: "edited"})
    assert (after == before) == ("training" in name or "cli" in name)


def test_a_moved_file_makes_other_keys(tmp_path):
    moved = {name.replace("stages", "pipeline"): text for name, text in CODE.items()}
    assert digest(tmp_path / "before", CODE) != digest(tmp_path / "after", moved)


def test_both_packages_are_covered():
    roots = [Path(str(package.__file__)).parent for package in (wuerstchen_core, wuerstchen_nodes)]
    assert signatures.digest_of_this_code() == digest_of_code(roots)
