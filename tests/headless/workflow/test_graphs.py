"""Tricky graphs in the editor's format: converted as ComfyUI's own page submits them.

Each NAME.prompt is the page's answer, recorded by tests/comfyui/test_page_prompts.py.
"""

import json
from pathlib import Path

import pytest

from wuerstchen_nodes.headless.run import resolve
from wuerstchen_nodes.headless.workflow.documents import load_workflow

GRAPHS = Path(__file__).parent / "graphs"


@pytest.mark.parametrize("name", sorted(path.stem for path in GRAPHS.glob("*.json")))
def test_a_graph_becomes_what_the_page_submits(name):
    expected = json.loads((GRAPHS / f"{name}.prompt").read_text(encoding="utf-8"))
    assert resolve(load_workflow(GRAPHS / f"{name}.json")).prompt == expected
