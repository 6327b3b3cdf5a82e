import copy
from pathlib import Path

import pytest

from support.workflows import Toy, editor, editor_node, node, toys
from wuerstchen_nodes.headless.errors import InvalidWorkflowError
from wuerstchen_nodes.headless.stock import nodes as stock
from wuerstchen_nodes.headless.workflow.catalog import Catalog
from wuerstchen_nodes.headless.workflow.convert import convert
from wuerstchen_nodes.headless.workflow.documents import Workflow
from wuerstchen_nodes.headless.workflow.validate import validate

LOADERS = ["WuerstchenLoadTextEncoder", "WuerstchenLoadStageC", "WuerstchenLoadStageB", "WuerstchenLoadStageA"]
GOOD = {"1": node("Number", value=4), "2": node("Add", a=["1", 0], b=["1", 0]), "3": node("Show", value=["2", 0])}


def changed(node_id, **inputs):
    prompt = copy.deepcopy(GOOD)
    prompt[node_id]["inputs"].update(inputs)
    return prompt


def errors_of(prompt, catalog=None):
    with pytest.raises(InvalidWorkflowError) as caught:
        validate(prompt, catalog or toys())
    return caught.value


def validated_model(loader, model):
    """Return the model that validation passes on to a loader."""
    catalog = stock.default_catalog()
    values = {each.name: each.default for each in catalog.inputs(loader).values()}
    prompt = {"1": node(loader, **values | {"model": model}), "2": node("Show", value=1)}
    shown = Catalog({**toys().classes, loader: type(loader, (catalog.classes[loader],), {"OUTPUT_NODE": True})})
    return validate(prompt, shown)["1"]["inputs"]["model"]


def test_a_good_workflow_comes_back_with_its_values_in_their_types():
    given = changed("1", value="7")
    assert validate(given, toys())["1"]["inputs"] == {"value": 7}
    assert given["1"]["inputs"] == {"value": "7"}
    seeded = {
        "1": node("Number", value=1),
        "2": node("Seeded", source=["1", 0], seed=1.0, mode="slow", strength=1, on=0),
    }
    assert validate(seeded, toys())["2"]["inputs"] == {
        "source": ["1", 0],
        "seed": 1,
        "mode": "slow",
        "strength": 1.0,
        "on": False,
    }


@pytest.mark.parametrize(
    ("prompt", "node_id", "kind", "says"),
    [
        (
            changed("1", value=11),
            "1",
            "value_bigger_than_max",
            r"Value 11 bigger than max of 10: value: expected -10",
        ),
        (changed("1", value=-11), "1", "value_smaller_than_min", "Value -11 smaller than min of -10"),
        (changed("1", value="many"), "1", "invalid_input_type", "Failed to convert an input value to a INT value"),
        (changed("1", value=float("inf")), "1", "invalid_input_type", "INT"),
        (changed("1", value=None), "1", "invalid_input_type", "INT"),
        (changed("2", a=["1"]), "2", "bad_linked_input", r"a: got \['1'\]"),
        (changed("2", a=[1, 0]), "2", "bad_linked_input", r"a: got \[1, 0\]"),
        (changed("2", a=["9", 0]), "2", "bad_linked_input", "linked to node 9, which is not in the workflow"),
        (changed("2", a=["1", 4]), "2", "bad_linked_input", "output 4 of node 1 .Number., which has 1"),
        (changed("2", a=["1", -1]), "2", "bad_linked_input", "output -1 of node 1"),
    ],
)
def test_each_wrong_input_is_named(prompt, node_id, kind, says):
    error = errors_of(prompt)
    found = error.node_errors[node_id]
    assert [each["type"] for each in found["errors"]] == [kind]
    assert found["dependent_outputs"] == ["3"]
    assert found["class_type"] == prompt[node_id]["class_type"]
    with pytest.raises(InvalidWorkflowError, match=says):
        raise error


def test_a_missing_input_is_named():
    prompt = copy.deepcopy(GOOD)
    del prompt["2"]["inputs"]["b"]
    error = errors_of(prompt)
    assert error.error["type"] == "prompt_outputs_failed_validation"
    assert error.node_errors["2"]["errors"][0]["type"] == "required_input_missing"
    assert error.node_errors["2"]["errors"][0]["extra_info"]["input_name"] == "b"
    assert "Node 2 (Add): Required input is missing: b: nothing is connected" in str(error)


def test_a_link_of_the_wrong_type_says_whence():
    prompt = {"1": node("Pair", "My pair", text="x"), "3": node("Show", value=["1", 0])}
    error = errors_of(prompt)
    assert error.node_errors["3"]["errors"][0]["type"] == "return_type_mismatch"
    assert 'received_type(STRING) mismatch input_type(INT); it comes from node 1 "My pair" (Pair)' in str(error)


def test_a_choice_that_is_none_gets_the_near_ones():
    prompt = {"1": node("Number", value=1), "2": node("Seeded", source=["1", 0], seed=1, mode="slwo", strength=1)}
    error = errors_of(prompt)
    assert error.node_errors["2"]["errors"][0]["type"] == "value_not_in_list"
    assert "mode: 'slwo' not in ['fast', 'slow']; did you mean slow?" in str(error)


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize(
    "written", ["{folder}/one.safetensors", "one.safetensors", "./one.safetensors", "~/one.safetensors"]
)
def test_a_loader_takes_a_path_outside_the_model_folders(loader, written, host, tmp_path, monkeypatch):
    (tmp_path / "one.safetensors").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    model = validated_model(loader, written.format(folder=tmp_path))
    assert host.find_model(model) == tmp_path / "one.safetensors"


@pytest.mark.parametrize("loader", LOADERS)
def test_a_path_that_is_not_there_is_named(loader, host, tmp_path):
    path = str(tmp_path / "absent.safetensors")
    with pytest.raises(InvalidWorkflowError, match=f"there is no file or folder {path!r} either"):
        validated_model(loader, path)


def test_every_error_of_every_node_is_told_at_once():
    prompt = changed("1", value=11)
    del prompt["2"]["inputs"]["a"]
    assert set(errors_of(prompt).node_errors) == {"1", "2"}


def test_no_output():
    error = errors_of({"1": node("Number", value=1)})
    assert error.error["type"] == "prompt_no_outputs"
    assert "Add a Save Image node" in str(error)


def test_nodes_that_no_output_needs_are_not_judged():
    assert validate({**GOOD, "9": node("Number", value=500)}, toys())["9"]["inputs"] == {"value": 500}


def test_a_circle_is_named_node_by_node():
    prompt = {
        "1": node("Add", "First", a=["2", 0], b=["2", 0]),
        "2": node("Add", "Second", a=["1", 0], b=["1", 0]),
        "3": node("Show", value=["1", 0]),
    }
    error = errors_of(prompt)
    assert error.error["type"] == "dependency_cycle"
    assert '1 "First" (Add)' in str(error)
    assert '2 "Second" (Add)' in str(error)


def test_a_node_linked_to_itself_is_a_circle():
    assert "1 (Add) -> 1 (Add)" in str(
        errors_of({"1": node("Add", a=["1", 0], b=["1", 0]), "3": node("Show", value=["1", 0])})
    )


def test_an_unknown_class_is_named_with_its_pack():
    document = editor([editor_node(9, "Nmber", properties={"cnr_id": "some-pack"})], [])
    workflow = Workflow("a PNG with both", Path(), document, {**GOOD, "9": node("Nmber")})
    with pytest.raises(InvalidWorkflowError, match="'some-pack'") as caught:
        convert(workflow, toys())
    assert caught.value.node_errors["9"]["errors"][0]["type"] == "missing_node_type"
    assert "Did you mean Number?" in str(caught.value)


class Judges(Toy):
    """Validates itself: the range and the list of `value` are its own business."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"value": ("INT", {"max": 1}), "other": ("INT", {"max": 1})}}

    @classmethod
    def VALIDATE_INPUTS(cls, value):
        return True if value != 13 else "13 is unlucky"


def test_validate_inputs_speaks_for_the_inputs_it_takes():
    def prompt(**inputs):
        return {"1": node("Judges", **inputs), "3": node("Show", value=["1", 0])}

    catalog = toys(Judges=Judges)
    validate(prompt(value=5, other=1), catalog)
    unlucky = errors_of(prompt(value=13, other=1), catalog)
    assert unlucky.node_errors["1"]["errors"][0]["type"] == "custom_validation_failed"
    assert "13 is unlucky" in str(unlucky)
    assert errors_of(prompt(value=5, other=2), catalog).node_errors["1"]["errors"][0]["type"] == "value_bigger_than_max"


class AnyType(str):
    def __ne__(self, other):
        return False


class TakesAnything(Toy):
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"a": (AnyType("*"), {}), "b": ("*", {}), "c": ("INT,FLOAT", {})}}


def test_wildcards_and_unions_of_types_fit():
    prompt = {
        "1": node("Pair", text="x"),
        "2": node("TakesAnything", a=["1", 0], b=1, c=["1", 1]),
    }
    catalog = toys(TakesAnything=TakesAnything)
    validate(prompt, catalog)
    prompt["2"]["inputs"]["b"] = ["1", 0]  # a mere text "*" fits nothing, as in ComfyUI
    assert errors_of(prompt, catalog).node_errors["2"]["errors"][0]["type"] == "return_type_mismatch"
    prompt["2"]["inputs"] |= {"b": 1, "c": ["1", 0]}
    assert errors_of(prompt, catalog).node_errors["2"]["errors"][0]["type"] == "return_type_mismatch"
