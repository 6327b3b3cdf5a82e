"""Choices and comments in text prompts, by every way that a text can take into a workflow."""

import json
from typing import Any

import pytest

from wuerstchen_nodes import host as hosts
from wuerstchen_nodes.headless import HeadlessHost, load_workflow
from wuerstchen_nodes.headless.run import resolve
from wuerstchen_nodes.headless.stock.nodes import default_catalog
from wuerstchen_nodes.headless.workflow import examples
from wuerstchen_nodes.headless.workflow.overrides import apply

TEXT = "a {red|blue|green|pink|white|black|cyan|brown} star // no comment"


def text_of(settings: dict[str, Any], seed: int | None = None, *, weights: str = "on") -> str:
    prompt = resolve(
        load_workflow("text_to_image"), {"4.weights": weights, "6.weights": weights, **settings}, seed=seed
    )
    return prompt.prompt["2"]["inputs"]["value"]


def test_a_text_that_is_set_through_a_primitive_is_resolved_and_the_seed_decides():
    drawn = {seed: text_of({"Prompt.value": TEXT}, seed) for seed in range(20)}
    assert all(text.startswith("a ") and text.endswith(" star ") and "{" not in text for text in drawn.values())
    assert len(set(drawn.values())) > 3
    assert text_of({"Prompt.value": TEXT}, 5) == drawn[5]


def test_without_weights_a_linked_text_is_literal_as_before():
    assert text_of({"Prompt.value": TEXT}, 1, weights="off") == TEXT


def test_a_text_that_is_set_in_the_node_is_resolved():
    prompt = resolve(load_workflow("text_to_image"), {"Negative Prompt.text": TEXT, "5.weights": "off"}).prompt
    assert "{" not in prompt["5"]["inputs"]["text"] and "//" not in prompt["5"]["inputs"]["text"]


def test_the_document_keeps_what_was_typed():
    prepared = resolve(load_workflow("text_to_image"), {"Prompt.value": TEXT})
    assert prepared.workflow.editor is not None
    (node,) = [each for each in prepared.workflow.editor["nodes"] if each["id"] == 2]
    assert node["widgets_values"] == [TEXT]


def test_rows_of_a_table_and_a_second_start_draw_the_same():
    workflow, catalog = load_workflow("text_to_image"), default_catalog()
    with hosts.using(HeadlessHost()):
        prompt = resolve(workflow, repeatable=True).prompt
        rows = [apply(workflow, prompt, catalog, {"Prompt.value": TEXT}, seed)[1] for seed in (1, 2, 1)]
    texts = [row["2"]["inputs"]["value"] for row in rows]
    assert texts[0] == texts[2] and "{" not in "".join(texts)


def test_a_text_in_a_file_of_the_api_format_is_left_to_the_node():
    """Such a file is what the page sends, so its texts were resolved by the page; only a linked one may be left."""
    prompt = resolve(load_workflow("text_to_image"), {"4.weights": "off", "6.weights": "off"}).prompt
    prompt["5"]["inputs"]["text"] = TEXT
    assert resolve(load_workflow(prompt)).prompt["5"]["inputs"]["text"] == TEXT


@pytest.mark.parametrize("name", [name for name in examples.names() if name not in ("v2", "what_stages_know")])
def test_the_examples_read_weights(name):
    document = json.loads(examples.locate(name).read_text(encoding="utf-8"))
    encoders = [node for node in document["nodes"] if node["type"] == "WuerstchenTextEncode"]
    assert encoders and all(node["widgets_values"][1] == "on" for node in encoders)
