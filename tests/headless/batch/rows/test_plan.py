"""Plans of batches: checks of the table, names, order, digests."""

from pathlib import Path
from typing import Any

import pytest

from support.batches import make_catalog, workflow
from support.workflows import editor, editor_node, node, socket
from wuerstchen_core.errors import WeightsMissingError
from wuerstchen_nodes.headless import load_workflow
from wuerstchen_nodes.headless.batch.rows.plan import make_plan
from wuerstchen_nodes.headless.batch.rows.table import Table
from wuerstchen_nodes.headless.errors import InvalidWorkflowError, UsageError
from wuerstchen_nodes.headless.run import resolve
from wuerstchen_nodes.headless.workflow.catalog import Catalog


def planned(rows: list[dict[str, Any]], document=None, settings=None, name="{id}.png", catalog=None):
    columns = list(dict.fromkeys(column for row in rows for column in row))
    table = Table("t.jsonl", columns, rows, [f"line {number}" for number in range(1, len(rows) + 1)])
    catalog = catalog or make_catalog()
    prepared = resolve(load_workflow(document or workflow()), settings, catalog=catalog)
    return make_plan(prepared, table, name, catalog)


def test_rows_without_ids_are_numbered():
    plan = planned([{"Paint.value": 1}, {"Paint.value": 2}])
    assert [(row.id, row.name) for row in plan.rows] == [("1", "1.png"), ("2", "2.png")]


def test_rows_with_the_same_networks_or_stage_c_run_together():
    rows = [
        {"Brush.width": 8, "seed": 1, "Paint.value": 1},
        {"Brush.width": 9, "seed": 1},
        {"Brush.width": 8, "seed": 2},
        {"Brush.width": 9, "seed": 1},
        {"Brush.width": 8, "seed": 1, "Paint.value": 2},
    ]
    plan = planned(rows)
    assert plan.order == [0, 4, 2, 1, 3]
    assert plan.rows[0].group == plan.rows[4].group != plan.rows[2].group
    assert plan.rows[1].group == plan.rows[3].group


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([{"sed": 1}], r"unknown column 'sed'; expected NODE.input, id, seed, prompt or negative. Did you mean 'seed'"),
        ([{"Paint value": 1}], r"Did you mean 'Paint.value'"),
        ([{"Pant.value": 1}], r"unknown column 'Pant.value': the workflow has no node 'Pant'. Did you mean 'Paint'"),
        ([{"Paint.valu": 1}], r"unknown column 'Paint.valu': node 3 .* has no input 'valu'; did you mean value"),
        ([{"Paint.draft": 1}], "takes a link of type LATENT"),
        ([{"Paint.value": 1, "3.value": 2}], "the columns 'Paint.value' and '3.value' set the same input"),
        ([{"id": "a"}, {"id": "b"}, {"id": "a"}], "line 3: the id 'a' is that of line 1, too"),
        ([{"id": 1}, {"id": "1"}], "line 2: the id '1' is that of line 1"),
        ([{"id": "a"}, {"seed": 1}], "line 2: the id is missing"),
        ([{"id": "../a"}], r"line 1: .*'../a.png', which leads out of the output folder"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(rows, says):
    with pytest.raises(UsageError, match=says):
        planned(rows)


def test_two_rows_with_the_same_name_are_refused():
    with pytest.raises(UsageError, match=r"images of line 1 and line 2 would both be 5.png. Put \{id\} into --name"):
        planned([{"seed": 5}, {"seed": 5}], name="{seed}.png")


def test_a_seed_column_needs_a_seed_input():
    document = {"1": node("LoadImage", image="x.png"), "2": node("SaveImage", images=["1", 0], filename_prefix="x")}
    with pytest.raises(UsageError, match="unknown column 'seed'"):
        planned([{"seed": 1}], document)


def test_a_workflow_that_saves_no_image_or_saves_folders_is_refused():
    document = workflow()
    document["4"] = node("PreviewImage", images=["3", 0])
    with pytest.raises(UsageError, match="saves no image"):
        planned([{"seed": 1}], document)
    document = {**workflow(), "5": node("WuerstchenSaveStageC", stage_c=["1", 0], filename_prefix="x")}
    with pytest.raises(UsageError, match="WuerstchenSaveStageC"):
        planned([{"seed": 1}], document)


def test_a_workflow_is_refused_only_if_no_row_can_run():
    document = workflow()
    del document["3"]["inputs"]["draft"]
    with pytest.raises(InvalidWorkflowError, match="draft"):
        planned([{"seed": 1}, {"seed": 2}], document)
    plan = planned([{"Brush.width": 1000}, {"Brush.width": 8}, {"Brush.width": "wide"}])
    assert (len(plan.rows), plan.order, [each.id for each in plan.bad]) == (3, [1], ["1", "3"])


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"seed": "x"}, "seed is 'x': expected a whole number from 0 to 18446744073709551615."),
        ({"seed": -1}, "seed is -1: expected a whole number from 0 to"),
        ({"Brush.width": "wide"}, "Brush.width is 'wide': expected a whole number."),
        ({"Brush.width": 7.5}, "Brush.width is 7.5: expected a whole number."),
        ({"Brush.width": 1000}, "Brush.width is 1000: expected 1 to 64"),
        ({"Save.filename_prefix": "x", "Paint.pictures": -1}, "Paint.pictures is -1: expected at least 0"),
    ],
)
def test_a_bad_cell_is_named_with_its_place_and_what_was_expected(row, says):
    plan = planned([{"id": "good"}, {"id": "one", **row}])
    (bad,) = plan.bad
    assert (bad.place, bad.id, plan.order) == ("line 2", "one", [0])
    assert str(bad).startswith(f"line 2 (id one): {says}")
    assert plan.rows[1].error == bad.error


def test_a_bad_input_file_is_a_bad_cell():
    document = {"1": node("LoadImage", image="x.png"), "2": node("SaveImage", images=["1", 0], filename_prefix="x")}
    Path("input").mkdir()
    Path("input/here.png").touch()
    plan = planned([{"LoadImage.image": "here.png"}, {"LoadImage.image": "none.png"}], document)
    assert str(plan.bad[0]).startswith("line 2 (id 2): LoadImage.image is 'none.png': There is no file 'none.png'")


def prompts() -> dict[str, Any]:
    """Return a workflow whose sampler has a positive prompt, by way of a primitive, and a negative one."""
    document = {
        **workflow(),
        "6": node("PrimitiveString", "Words", value="a heart"),
        "7": node("Encode", "Positive", text=["6", 0]),
        "8": node("Encode", "Negative", text=""),
        "9": node("Sampler", "Sampler", positive=["7", 0], negative=["8", 0]),
    }
    document["3"]["inputs"]["draft"] = ["9", 0]
    return document


class Encode:
    FUNCTION, RETURN_TYPES = "encode", ("CONDITIONING",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"text": ("STRING", {})}}


class Sampler:
    FUNCTION, RETURN_TYPES = "sample", ("LATENT",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"positive": ("CONDITIONING", {}), "negative": ("CONDITIONING", {})}}


PROMPTS = Catalog({**make_catalog().classes, "Encode": Encode, "Sampler": Sampler})


def test_the_columns_prompt_and_negative_mean_the_texts_of_the_samplers():
    plan = planned([{"prompt": "a ring", "negative": "blue"}, {}], prompts(), catalog=PROMPTS)
    assert plan.rows[0].settings == {"6.value": "a ring", "8.text": "blue"}
    assert plan.rows[0].inputs == {"prompt": "a ring", "negative": "blue"}
    assert [row.prompt for row in plan.rows] == ["a ring", "a heart"]
    same = planned([{"Words.value": "a ring", "Negative.text": "blue"}, {}], prompts(), catalog=PROMPTS)
    assert [row.digest for row in same.rows] == [row.digest for row in plan.rows]


def test_a_prompt_column_that_may_mean_several_inputs_is_refused():
    document = prompts()
    document["7"]["inputs"]["text"] = "for the second sampler"
    document["10"] = node("Encode", "Other", text="x")
    document["9"]["inputs"]["negative"] = ["10", 0]
    document["11"] = node("Sampler", "Second", positive=["8", 0], negative=["8", 0])
    document["12"] = node("Paint", draft=["11", 0], value=1, pictures=1)
    with pytest.raises(
        UsageError, match=r"'prompt' may mean 2 inputs: text of node 7 .*; text of node 8 .* such as 7.text"
    ):
        planned([{"prompt": "x"}], document, catalog=PROMPTS)
    with pytest.raises(UsageError, match=r"'negative' is for the text that reaches the negative input .* has none"):
        planned([{"negative": "x"}])
    with pytest.raises(UsageError, match=r"the columns 'prompt' and 'Words.value' set the same input"):
        planned([{"prompt": "x", "Words.value": "y"}], prompts(), catalog=PROMPTS)


def test_digests_change_with_the_batch():
    rows: list[dict[str, Any]] = [{"id": "a", "Paint.value": "1"}, {"id": "b"}]
    plan = planned(rows)
    same = planned([{"id": "a", "Paint.value": 1}, {"id": "b"}])
    assert (plan.workflow_digest, plan.table_digest) == (same.workflow_digest, same.table_digest)
    assert planned(rows[::-1]).table_digest != plan.table_digest
    assert planned(rows, name="{id}_.png").table_digest != plan.table_digest
    assert planned(rows, settings={"Brush.width": 9}).workflow_digest != plan.workflow_digest
    assert not list(Path().iterdir())


def test_random_choices_and_dates_are_the_same_each_time_the_workflow_is_read():
    """Otherwise a batch could not be resumed, since its digest would change."""
    document = editor(
        [
            editor_node(1, "LoadBrush", widgets_values=[8]),
            editor_node(2, "Note", widgets_values=["{a|b} stays"]),
            editor_node(3, "Say", widgets_values=["a {red|green|blue|black|white} heart"]),
            editor_node(4, "SaveImage", inputs=[socket("images", "IMAGE", 1)], widgets_values=["%date:hhmmss%"]),
        ],
        [[1, 3, 0, 4, 0, "IMAGE"]],
    )
    catalog = Catalog({**make_catalog().classes, "Say": Say})
    prompts = [resolve(load_workflow(document), catalog=catalog, repeatable=True).prompt for _ in range(20)]
    assert all(prompt == prompts[0] for prompt in prompts)
    assert prompts[0]["3"]["inputs"]["text"].split()[1] in ("red", "green", "blue", "black", "white")
    drawn = {resolve(load_workflow(document), catalog=catalog).prompt["3"]["inputs"]["text"] for _ in range(100)}
    assert len(drawn) == 5


class Say:
    FUNCTION, RETURN_TYPES = "say", ("IMAGE",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"text": ("STRING", {"dynamicPrompts": True})}}


class LoadAbsent:
    FUNCTION, RETURN_TYPES = "load", ("BRUSH",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"model": (["here", "elsewhere"], {})}}

    @classmethod
    def source_files(cls, model):
        if model == "elsewhere":
            raise WeightsMissingError("not here")
        return []


def test_weights_that_every_row_needs_are_checked_first():
    document = {**workflow(), "1": node("LoadAbsent", "Load", model="elsewhere")}
    catalog = Catalog({**make_catalog().classes, "LoadAbsent": LoadAbsent})
    with pytest.raises(WeightsMissingError):
        planned([{"Draft.value": 1}], document, catalog=catalog)
    assert len(planned([{"Load.model": "here"}, {"Load.model": "elsewhere"}], document, catalog=catalog).rows) == 2
