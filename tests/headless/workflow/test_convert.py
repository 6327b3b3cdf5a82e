import copy

import pytest

from support.workflows import editor, editor_node, socket, toys
from wuerstchen_core.errors import WorkflowError
from wuerstchen_nodes.headless.errors import InvalidWorkflowError
from wuerstchen_nodes.headless.workflow.convert import convert
from wuerstchen_nodes.headless.workflow.documents import load_workflow
from wuerstchen_nodes.headless.workflow.widgets import set_widgets, widget_positions

MUTED, BYPASSED = 2, 4


def to_prompt(nodes, links, **more):
    return convert(load_workflow(editor(nodes, links, **more)), toys())


def number(node_id, value, **more):
    return editor_node(node_id, "Number", widgets_values=[value], **more)


def show(node_id, link):
    return editor_node(node_id, "Show", inputs=[socket("value", "INT", link)])


def test_widgets_are_mapped_in_the_order_of_the_class_past_the_control_after_a_seed():
    thing = editor_node(
        2,
        "Seeded",
        title="Mine",
        inputs=[socket("source", "INT", 1)],
        widgets_values=[7, "randomize", "slow", 0.5, "hello", False],
    )
    assert to_prompt([number(1, 4), thing], [[1, 1, 0, 2, 0, "INT"]]) == {
        "1": {"class_type": "Number", "inputs": {"value": 4}, "_meta": {"title": "Number"}},
        "2": {
            "class_type": "Seeded",
            "inputs": {"seed": 7, "mode": "slow", "strength": 0.5, "text": "hello", "on": False, "source": ["1", 0]},
            "_meta": {"title": "Mine"},
        },
    }


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([7, "slow", 0.5], {"seed": 7, "mode": "slow", "strength": 0.5, "text": "", "on": True}),
        ({"mode": "slow", "seed": 9}, {"seed": 9, "mode": "slow", "strength": 1.0, "text": "", "on": True}),
        (None, {"seed": 3, "mode": "fast", "strength": 1.0, "text": "", "on": True}),
        ([7, "fixed", "slow", 0.5, ["a"]], {"seed": 7, "mode": "slow", "strength": 0.5, "text": {"__value__": ["a"]}}),
    ],
    ids=["no control", "by name", "none", "a list as a value"],
)
def test_widgets_of_old_and_other_files(values, expected):
    inputs = to_prompt([editor_node(2, "Seeded", widgets_values=values)], [])["2"]["inputs"]
    assert {name: inputs[name] for name in expected} == expected


def test_a_choice_with_a_control_is_followed_by_two_values():
    class Picks:
        @classmethod
        def INPUT_TYPES(cls):
            return {
                "required": {"which": (["a", "b"], {"control_after_generate": True}), "count": ("INT", {"default": 1})}
            }

    declared = toys(Picks=Picks).inputs("Picks")
    assert widget_positions(declared, ["b", "fixed", "", 5]) == {"which": 0, "count": 3}
    assert widget_positions(declared, ["b", 5]) == {"which": 0, "count": 1}


def test_links_of_version_1_are_objects():
    link = {"id": 1, "origin_id": 1, "origin_slot": 0, "target_id": 2, "target_slot": 0, "type": "INT"}
    assert to_prompt([number(1, 4), show(2, 1)], [link])["2"]["inputs"] == {"value": ["1", 0]}


def test_notes_and_reroutes_are_gone_and_links_go_through():
    nodes = [
        number(1, 4),
        editor_node(3, "Reroute", inputs=[socket("", "*", 1)]),
        editor_node(4, "Reroute", inputs=[socket("", "*", 2)]),
        show(2, 3),
        editor_node(5, "Note", widgets_values=["read me"]),
        editor_node(6, "MarkdownNote", widgets_values=["read me"]),
    ]
    links = [[1, 1, 0, 3, 0, "*"], [2, 3, 0, 4, 0, "*"], [3, 4, 0, 2, 0, "INT"]]
    prompt = to_prompt(nodes, links)
    assert list(prompt) == ["1", "2"]
    assert prompt["2"]["inputs"] == {"value": ["1", 0]}


def test_reroutes_in_a_circle_are_named():
    nodes = [
        editor_node(3, "Reroute", inputs=[socket("", "*", 2)]),
        editor_node(4, "Reroute", inputs=[socket("", "*", 1)]),
        show(2, 3),
    ]
    links = [[1, 3, 0, 4, 0, "*"], [2, 4, 0, 3, 0, "*"], [3, 4, 0, 2, 0, "INT"]]
    with pytest.raises(WorkflowError, match="leads back to itself"):
        to_prompt(nodes, links)


def test_a_primitive_gives_its_value_to_the_widget_it_feeds():
    primitive = editor_node(3, "PrimitiveNode", widgets_values=[9, "fixed"])
    fed = number(1, 4, inputs=[socket("value", "INT", 1, widget=True)])
    assert to_prompt([primitive, fed], [[1, 3, 0, 1, 0, "INT"]])["1"]["inputs"] == {"value": 9}


def test_a_converted_widget_takes_its_link_and_keeps_its_place_among_the_values():
    thing = editor_node(
        2,
        "Seeded",
        inputs=[socket("source", "INT", None), socket("seed", "INT", 1, widget=True)],
        widgets_values=[7, "fixed", "slow", 0.5, "", True],
    )
    inputs = to_prompt([number(1, 4), thing], [[1, 1, 0, 2, 1, "INT"]])["2"]["inputs"]
    assert (inputs["seed"], inputs["mode"], inputs["strength"]) == (["1", 0], "slow", 0.5)


def test_a_muted_node_and_what_it_feeds_are_left_out():
    fed = number(1, 4, inputs=[socket("value", "INT", 1, widget=True)])
    prompt = to_prompt([number(3, 1, mode=MUTED), fed], [[1, 3, 0, 1, 0, "INT"]])
    assert prompt == {"1": {"class_type": "Number", "inputs": {}, "_meta": {"title": "Number"}}}


def test_a_bypassed_node_lets_the_fitting_input_through():
    pair = editor_node(
        2,
        "Pair",
        mode=BYPASSED,
        inputs=[socket("text", "STRING", None), socket("number", "INT", 1)],
        widgets_values=["x"],
    )
    links = [[1, 1, 0, 2, 1, "INT"], [2, 2, 1, 3, 0, "INT"]]
    assert to_prompt([number(1, 4), pair, show(3, 2)], links)["3"]["inputs"] == {"value": ["1", 0]}


def test_a_bypassed_node_with_nothing_that_fits_leaves_the_input_empty():
    pair = editor_node(2, "Pair", mode=BYPASSED, inputs=[socket("text", "STRING", None)], widgets_values=["x"])
    assert to_prompt([pair, show(3, 2)], [[2, 2, 1, 3, 0, "INT"]])["3"]["inputs"] == {}


def test_unknown_classes_are_all_named_with_their_pack_and_their_like():
    nodes = [
        editor_node(1, "Numbr"),
        editor_node(2, "FancyUpscale", title="Up", properties={"cnr_id": "fancy-pack"}),
        editor_node(3, "Gone", mode=MUTED),
    ]
    with pytest.raises(InvalidWorkflowError) as caught:
        to_prompt(nodes, [])
    assert 'Node 2 "Up" (FancyUpscale)' in str(caught.value)
    assert "'fancy-pack'" in str(caught.value)
    assert "Did you mean Number?" in str(caught.value)
    assert set(caught.value.node_errors) == {"1", "2"}
    assert caught.value.node_errors["1"]["errors"][0]["type"] == "missing_node_type"


@pytest.mark.parametrize(
    ("nodes", "links", "says"),
    [
        ([show(2, 9)], [], "Node 2 has an input on link 9, which is not in the file"),
        ([show(2, 1)], [[1, 8, 0, 2, 0, "INT"]], r"Link 1 to node 2 \(Show\) begins at node 8, which is not"),
        ([number(1, 1), number(1, 2)], [], "Two nodes have the id 1"),
        ([editor_node(1, "workflow>old")], [], "is a group node"),
    ],
)
def test_broken_documents_are_refused(nodes, links, says):
    with pytest.raises(WorkflowError, match=says):
        to_prompt(nodes, links)


def test_a_widget_set_from_outside_is_written_back_and_unplugged():
    thing = editor_node(
        2,
        "Seeded",
        inputs=[socket("text", "STRING", 1, widget=True)],
        widgets_values=[7, "fixed", "slow", 0.5, "a", True],
    )
    pair = editor_node(1, "Pair", widgets_values=["x"], outputs=[{"name": "t", "type": "STRING", "links": [1]}])
    workflow = load_workflow(editor([pair, thing], [[1, 1, 0, 2, 4, "STRING"]]))
    assert workflow.editor is not None
    set_widgets(workflow.editor, toys(), {("2", "text"): "new", ("2", "mode"): "fast"})
    inputs = convert(workflow, toys())["2"]["inputs"]
    assert (inputs["text"], inputs["mode"], inputs["strength"]) == ("new", "fast", 0.5)
    assert workflow.editor is not None
    assert workflow.editor["links"] == []
    assert workflow.editor["nodes"][0]["outputs"][0]["links"] == []


@pytest.mark.parametrize("links", [[None, [1, 1, 0, 2, 4, "STRING"]], {"1": [1, 1, 0, 2, 4, "STRING"], "2": None}])
def test_a_widget_is_set_in_a_file_whose_values_and_links_are_partly_missing(links):
    thing = editor_node(2, "Seeded", inputs=[socket("text", "STRING", 1, widget=True)])
    workflow = load_workflow({**editor([thing], []), "links": links})
    assert workflow.editor is not None
    workflow.editor["nodes"][0]["widgets_values"] = None
    set_widgets(workflow.editor, toys(), {("2", "text"): "new"})
    assert workflow.editor["links"] == []
    assert workflow.editor["nodes"][0]["inputs"][0]["link"] is None


SUBGRAPH = {
    "id": "b5e6",
    "name": "Plus one",
    "nodes": [
        number(1, 1),
        editor_node(2, "Add", inputs=[socket("a", "INT", 2), socket("b", "INT", 1)]),
        number(3, 5, inputs=[socket("value", "INT", 4, widget=True)]),
    ],
    "links": [
        {"id": 1, "origin_id": 1, "origin_slot": 0, "target_id": 2, "target_slot": 1, "type": "INT"},
        {"id": 2, "origin_id": -10, "origin_slot": 0, "target_id": 2, "target_slot": 0, "type": "INT"},
        {"id": 3, "origin_id": 2, "origin_slot": 0, "target_id": -20, "target_slot": 0, "type": "INT"},
        {"id": 4, "origin_id": -10, "origin_slot": 1, "target_id": 3, "target_slot": 0, "type": "INT"},
    ],
    "inputs": [{"name": "x", "type": "INT"}, {"name": "value", "type": "INT"}],
    "outputs": [{"name": "y", "type": "INT"}],
}


def test_subgraphs_are_opened_each_copy_with_ids_of_its_own():
    def plus_one(node_id, link):
        return editor_node(
            node_id, "b5e6", inputs=[socket("x", "INT", link), socket("value", "INT", None, widget=True)]
        )

    nodes = [number(1, 4), plus_one(10, 1), plus_one(11, 2), show(12, 3)]
    links = [[1, 1, 0, 10, 0, "INT"], [2, 10, 0, 11, 0, "INT"], [3, 11, 0, 12, 0, "INT"]]
    prompt = to_prompt(nodes, links, definitions={"subgraphs": [SUBGRAPH]})
    assert set(prompt) == {"1", "10:1", "10:2", "10:3", "11:1", "11:2", "11:3", "12"}
    assert prompt["10:2"]["inputs"] == {"a": ["1", 0], "b": ["10:1", 0]}
    assert prompt["11:2"]["inputs"] == {"a": ["10:2", 0], "b": ["11:1", 0]}
    assert prompt["12"]["inputs"] == {"value": ["11:2", 0]}
    assert prompt["10:3"]["inputs"] == {"value": 5}


def test_a_bypassed_subgraph_lets_through_and_a_muted_one_cuts():
    for mode, expected in ((BYPASSED, {"value": ["1", 0]}), (MUTED, {})):
        inner = editor_node(10, "b5e6", inputs=[socket("x", "INT", 1)], mode=mode)
        links = [[1, 1, 0, 10, 0, "INT"], [2, 10, 0, 12, 0, "INT"]]
        prompt = to_prompt([number(1, 4), inner, show(12, 2)], links, definitions={"subgraphs": [SUBGRAPH]})
        assert set(prompt) == {"1", "12"}
        assert prompt["12"]["inputs"] == expected


def test_a_subgraph_that_contains_itself_is_refused():
    endless = copy.deepcopy(SUBGRAPH)
    endless["nodes"].append(editor_node(9, "b5e6"))
    with pytest.raises(WorkflowError, match=r"'Plus one'.*contains itself"):
        to_prompt([editor_node(10, "b5e6")], [], definitions={"subgraphs": [endless]})
