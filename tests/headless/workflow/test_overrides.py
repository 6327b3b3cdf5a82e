import pytest

from support.workflows import editor, editor_node, node, socket, toys
from wuerstchen_nodes.headless.errors import UsageError
from wuerstchen_nodes.headless.stock.nodes import default_catalog
from wuerstchen_nodes.headless.workflow.convert import convert
from wuerstchen_nodes.headless.workflow.documents import load_workflow
from wuerstchen_nodes.headless.workflow.overrides import apply, slots

PROMPT = {
    "1": node("Number", "Left", value=1),
    "2": node("Number", "Right v1.5", value=2),
    "3": node("Seeded", "Main", source=["1", 0], seed=5, mode="fast", strength=1.0, text="", on=True),
    "4": node("Seeded", source=["2", 0], seed=6, mode="fast", strength=1.0),
    "5": node("Seeded", source=["2", 0], seed=5, mode="fast", strength=1.0),
    "6": node("Fails", "Lonely"),
}


def applied(settings, seed=None):
    return apply(load_workflow(PROMPT), PROMPT, toys(), settings, seed)[1]


@pytest.mark.parametrize(
    ("key", "value", "node_id", "expected"),
    [
        ("1.value", "7", "1", 7),
        ("Left.value", "-7", "1", -7),
        ("left.value", "7", "1", 7),
        ("Right v1.5.value", "7", "2", 7),
        ("Main.strength", "0.25", "3", 0.25),
        ("Main.mode", "slow", "3", "slow"),
        ("Main.mode", "other", "3", "other"),
        ("Main.text", "a=b", "3", "a=b"),
        ("Main.text", "12", "3", "12"),
        ("Main.on", "No", "3", False),
        ("Main.on", "true", "3", True),
        ("Main.seed", 9, "3", 9),
    ],
)
def test_a_setting_reaches_its_input_in_its_type(key, value, node_id, expected):
    result = applied({key: value})[node_id]["inputs"][key.rpartition(".")[2]]
    assert result == expected
    assert type(result) is type(expected)
    assert PROMPT["3"]["inputs"]["strength"] == 1.0


def test_a_class_or_a_display_name_that_is_one_node():
    prompt = {"1": node("Seeded", "Main", source=1, seed=5), "2": node("Number", "N", value=1)}
    for name in ("Number", "number"):
        assert (
            apply(load_workflow(prompt), prompt, toys(), {f"{name}.value": "3"}, None)[1]["2"]["inputs"]["value"] == 3
        )
    assert apply(load_workflow(prompt), prompt, toys(), {"Seeded Thing.seed": "3"}, None)[1]["1"]["inputs"]["seed"] == 3


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        (
            "Number.value",
            "1",
            r"'Number' is 2 nodes: 1 \"Left\" \(Number\); 2 \"Right v1.5\" \(Number\). Name one by its id",
        ),
        ("Seeded Thing.seed", "1", "is 3 nodes"),
        ("Lft.value", "1", "no node 'Lft'. Did you mean 'Left'"),
        ("zzzzzz.value", "1", r"no node 'zzzzzz'. It has: 1 \"Left\""),
        ("Left.valu", "1", "no input 'valu'; did you mean value"),
        ("Left.zzz", "1", "no input 'zzz'; it has value"),
        ("Lonely.zzz", "1", "it has none that take a value"),
        ("Main.source", "1", "source of node .* takes a link of type INT, no value. Values go to seed, mode"),
        ("Left", "1", "expected NODE.input=value"),
        (".value", "1", "expected NODE.input=value"),
        ("Left.value", "1.5", "got '1.5'; expected a whole number"),
        ("Main.strength", "strong", "expected a number"),
        ("Main.on", "perhaps", "expected true or false"),
    ],
)
def test_a_setting_that_means_nothing_is_bad_usage(key, value, says):
    with pytest.raises(UsageError, match=says):
        applied({key: value})


def test_equal_seeds_stay_equal_and_different_ones_different():
    result = applied({}, seed=100)
    assert [result[node_id]["inputs"]["seed"] for node_id in "345"] == [100, 101, 100]


def test_a_setting_wins_over_the_seed():
    assert applied({"Main.seed": "7"}, seed=100)["3"]["inputs"]["seed"] == 7


def test_seeds_fed_by_one_link_stay_equal():
    prompt = {
        "0": node("Number", value=9),
        "1": node("Seeded", source=["0", 0], seed=["0", 0]),
        "2": node("Seeded", source=["0", 0], seed=4),
        "3": node("Seeded", source=["0", 0], seed=["0", 0]),
    }
    result = apply(load_workflow(prompt), prompt, toys(), {}, 50)[1]
    assert [result[node_id]["inputs"]["seed"] for node_id in "123"] == [50, 51, 50]


def test_what_is_set_is_in_the_editor_document_too_which_the_picture_carries():
    thing = editor_node(
        2, "Seeded", inputs=[socket("source", "INT", 1)], widgets_values=[7, "fixed", "slow", 0.5, "", True]
    )
    document = editor([editor_node(1, "Number", widgets_values=[4]), thing], [[1, 1, 0, 2, 0, "INT"]])
    workflow = load_workflow(document)
    changed, prompt = apply(workflow, convert(workflow, toys()), toys(), {"Seeded.text": "new"}, 8)
    assert convert(changed, toys()) == prompt
    assert prompt["2"]["inputs"]["text"] == "new"
    assert prompt["2"]["inputs"]["seed"] == 8
    assert document["nodes"][1]["widgets_values"] == [7, "fixed", "slow", 0.5, "", True]


def test_slots_lists_what_takes_a_value():
    listed = [(node_id, declared.name, value) for node_id, declared, value in slots(PROMPT, toys())]
    assert listed[:3] == [("1", "value", 1), ("2", "value", 2), ("3", "seed", 5)]
    assert ("4", "text", "") in listed
    assert "source" not in {name for _, name, _ in listed}


def test_a_text_that_feeds_two_prompts_is_resolved_once():
    workflow = load_workflow("text_to_image")
    catalog = default_catalog()
    prompt = convert(workflow, catalog)
    result = apply(workflow, prompt, catalog, {"Prompt.value": r"\{a|b\}"}, None)[1]
    assert [
        each["inputs"]["value"] for each in result.values() if each["class_type"] == "PrimitiveStringMultiline"
    ] == ["{a|b}"]
