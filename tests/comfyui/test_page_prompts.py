"""Prompts that the page itself submits for a graph, compared with those of `wuerstchen convert`.

The graphs are in tests/headless/graphs; beside each lies the page's answer, NAME.prompt, which the tests without a
server compare with. With $RECORD_PROMPTS set, the answers are written anew.
"""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from support.comfyui_server import Server

GRAPHS = Path(__file__).parents[1] / "headless" / "workflow" / "graphs"
PROMPT_OF = """async graph => {
    await app.loadGraphData(graph);
    return (await app.graphToPrompt()).output;
}"""


@pytest.mark.parametrize("name", sorted(path.stem for path in GRAPHS.glob("*.json")))
def test_the_page_still_answers_as_recorded(page: Any, server: Server, name: str):
    graph = json.loads((GRAPHS / f"{name}.json").read_text(encoding="utf-8"))
    prompt = page.evaluate(PROMPT_OF, graph)
    answer = GRAPHS / f"{name}.prompt"
    if os.environ.get("RECORD_PROMPTS"):
        lines = (f"{json.dumps(key)}: {json.dumps(node, ensure_ascii=False)}" for key, node in prompt.items())
        answer.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    assert prompt == json.loads(answer.read_text(encoding="utf-8"))
