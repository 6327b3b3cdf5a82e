"""Names, cells and workflows of batches that fit nothing: each ends in one line before any row runs."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from support.attacks import within
from support.batches import check_refused, make_catalog, workflow, write_one_copy, write_rows
from support.workflows import node
from wuerstchen_core.errors import WuerstchenError
from wuerstchen_nodes.headless import load_workflow
from wuerstchen_nodes.headless.batch import progress
from wuerstchen_nodes.headless.batch.rows.plan import Plan, make_plan
from wuerstchen_nodes.headless.batch.rows.table import read_table
from wuerstchen_nodes.headless.report import FAILED, INVALID_WORKFLOW, WEIGHTS_MISSING
from wuerstchen_nodes.headless.run import resolve
from wuerstchen_nodes.widgets import LARGEST_SEED

FIELDS = """
    {index:0999999999} {index:999999999d} {index:021} {index:99} {index:.9999999} {index:x<9999999} {index:,} {index:b}
    {index:e} {index:%} {index:c} {index:-5} {index:{id}} {index:{index}} {index:{}} {index:+5} {id:05} {id:>999999999}
    {id:{index}} {id!r} {id!s} {id!a} {index!r} {id.__class__} {index.real} {id.__class__.__mro__[1]} {id[0]} {index[a]}
    {0} {} {0.__class__} {-1} {ID} {self} { {{id} {id}} {id!} {id!rr} {id!r:5} {[} {id:{id:{id}}} {prompt} {seed}
    ../{id} /{id} a/../{id} ..\\{id} .{id} {id}/ a//{id} ./{id} CON/{id} nul.{id} {id}/.. \\{id} C:\\{id} {id}/.x
"""
STRANGE = [
    "\ud83d{id}.png",
    "\0{id}.png",
    "{id}\u202e.png",
    "{id}\x1b[2J.png",
    "~/{id}\x7f.png",
    "{id }.png",
    "\n{id}.png",
]
ENDS = ["", ".png", "{id}", "{id}.jpg", "{id}.PNG", "{id}.png ", "{id}.png/", "x.latent", "{id}.png\0", "{id}.png\n"]
LONG = ["x" * 100_000 + ".png", "{id}" * 200 + "x" * 250 + ".png", "{" * 100_000, "{id:" * 50_000 + "}" * 50_000]
PATTERNS = [*(f"{each}.png" for each in FIELDS.split()), *STRANGE, *ENDS, *LONG]


@pytest.mark.parametrize("pattern", PATTERNS, ids=range(len(PATTERNS)))
def test_a_pattern_of_names_that_fits_no_file_is_refused(attack, pattern):
    write_one_copy()
    write_rows([{"id": "a", "Load Image.image": "1.png"}])
    check_refused(attack, "rows.jsonl", "--name", pattern)


def planned(rows: list[dict[str, Any]], document: dict[str, Any] | None = None, **settings: Any) -> Plan:
    """Return the plan of a batch of the toy nodes."""
    catalog = make_catalog()
    prepared = resolve(load_workflow(document or workflow()), settings, catalog=catalog)
    return make_plan(prepared, read_table(write_rows(rows)), "{id}.png", catalog)


BAD_CELLS = [
    *[("seed", value) for value in ("", "x", "1.5", "1e5", -1, 1.5, 2**64, 10**4000, "9" * 4000, "9" * 5000, True)],
    *[("seed", value) for value in (False, "0x10", "--1", "1 2", 1e300, "nan", "-0.0", "null")],
    *[("Brush.width", value) for value in ("", "wide", "8.5", 7.5, 0, 65, -(2**70), 2**70, 10**4000, 1e300, "1e1")],
    *[("Brush.width", value) for value in ("9" * 5000, "inf", "nan", "8px", "x" * 99_000, "08x", "[8]", "None")],
    *[("Paint.pictures", value) for value in (-1, -(10**4000), "-1", "one", "1,5", "½", "x" * 99_000)],
    *[("Draft.seed", value) for value in (-1, 2**64, "x", 10**4000, 0.5)],
]


@pytest.mark.parametrize(("column", "value"), BAD_CELLS, ids=range(len(BAD_CELLS)))
def test_a_cell_that_fits_no_input_is_a_bad_row_and_the_others_stay(tried, column, value):
    with within():
        plan = planned([{"id": "good"}, {"id": "bad", column: value}])
    (bad,) = plan.bad
    assert (bad.id, plan.order) == ("bad", [0])
    assert bad.error.startswith(f"{column} is ") and len(str(bad)) < 1000 and "\n" not in str(bad)
    tried(1)


@pytest.mark.parametrize("seed", [LARGEST_SEED, LARGEST_SEED - 1, 0])
def test_the_largest_seed_of_two_different_ones_runs_or_is_a_bad_row(tried, seed):
    document = workflow()
    document["5"] = node("WuerstchenStageCSampler", "Second", brush=["1", 0], value=1, seed=5)
    document["6"] = node("Paint", "Paint again", draft=["5", 0], value=1, pictures=1)
    document["7"] = node("SaveImage", "Save again", images=["6", 0], filename_prefix="x")
    plan = planned([{"id": "good", "seed": 1}, {"id": "last", "seed": seed}], document)
    assert plan.order[0] == 0
    for bad in plan.bad:
        assert bad.id == "last" and bad.error.startswith(f"seed is {seed}: ")
    assert len(plan.bad) + len(plan.order) == 2
    tried(1)


MODELS: list[Any] = [None, 7, 1.5, -1, True, [], {}, {"a": 1}, [1], ["1"], ["1", 0], ["9", 0], ["2", 0, 0], [["1", 0]]]
MODELS += ["", "nothing", "\0", "x" * 200, "../../etc/passwd", "/dev/zero", {"__value__": ["a"]}, {"__value__": None}]


def loading(loader: str, inputs: Any) -> dict[str, Any]:
    """Return a workflow with a loader of the model."""
    return {
        "1": {"class_type": loader, **({} if inputs is ... else {"inputs": inputs})},
        "2": {"class_type": "LoadImage", "inputs": {"image": "1.png"}},
        "3": {"class_type": "WuerstchenStageADecode", "inputs": {"samples": ["2", 0], "stage_a": ["1", 0]}},
        "4": {"class_type": "SaveImage", "inputs": {"images": ["3", 0], "filename_prefix": "x"}},
    }


LOADERS = [f"WuerstchenLoad{part}" for part in ("StageA", "StageB", "StageC", "TextEncoder", "ImageEncoder")]


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize("inputs", [..., {}, *({"model": model} for model in MODELS)], ids=range(len(MODELS) + 2))
def test_a_workflow_with_a_broken_loader_is_refused(attack, loader, inputs):
    write_one_copy()
    Path("broken.json").write_text(json.dumps(loading(loader, inputs)))
    write_rows([{"id": "a", "2.image": "1.png"}, {"id": "b"}])
    attack.here(
        *("batch", "broken.json", "rows.jsonl", "--out", "out"),
        codes=frozenset({INVALID_WORKFLOW, WEIGHTS_MISSING, FAILED}),  # 1 where a file is there and is no checkpoint
    )
    assert not Path("out").exists()


BROKEN: dict[str, dict[str, Any]] = {
    "no inputs anywhere": {"1": {"class_type": "LoadImage"}, "2": {"class_type": "SaveImage"}},
    "no inputs of the saver": {
        "1": {"class_type": "LoadImage", "inputs": {"image": "1.png"}},
        "2": {"class_type": "SaveImage"},
    },
    "an image that is a list": {"1": node("LoadImage", image=[]), "2": node("SaveImage", images=["1", 0])},
    "an image that is null": {"1": node("LoadImage", image=None), "2": node("SaveImage", images=["1", 0])},
    "an image that is an object": {"1": node("LoadImage", image={}), "2": node("SaveImage", images=["1", 0])},
    "images that are a number": {"1": node("LoadImage", image="1.png"), "2": node("SaveImage", images=1)},
    "a circle": {"1": node("ImageScale", image=["1", 0]), "2": node("SaveImage", images=["1", 0])},
    "a link to nothing": {"2": node("SaveImage", images=["1", 0])},
    "a link to a tenth output": {"1": node("LoadImage", image="1.png"), "2": node("SaveImage", images=["1", 10])},
    "a link to a negative output": {"1": node("LoadImage", image="1.png"), "2": node("SaveImage", images=["1", -1])},
    "an unknown class": {"1": node("Nothing"), "2": node("SaveImage", images=["1", 0])},
}


@pytest.mark.parametrize("document", BROKEN.values(), ids=BROKEN)
def test_a_broken_workflow_is_refused_before_any_row_runs(attack, document):
    write_one_copy()
    Path("broken.json").write_text(json.dumps(document))
    write_rows([{"id": "a"}, {"id": "b"}])
    attack.here("batch", "broken.json", "rows.jsonl", "--out", "out")
    assert not Path("out").exists()


def test_a_loader_that_no_output_needs_is_not_asked_for_its_weights(tried):
    document = {**workflow(), "9": {"class_type": "WuerstchenLoadStageA", "inputs": {"model": 7}}}
    assert planned([{"id": "a"}], document).order == [0]
    tried(1)


IMAGES = ["", ".", "..", "/", "/dev/zero", "../1.png", "no.png", "x" * 5000, "a/" * 3000, "\\", "~", "~nobody/x"]
IMAGES += ["[output]", "\n", "\x1b[2J", "\u202e", "http://x/1.png", "file:///etc/passwd"]


def test_images_that_are_not_there_are_bad_rows_of_one_table(attack):
    write_one_copy()
    write_rows([{"id": str(number), "Load Image.image": image} for number, image in enumerate(IMAGES)])
    error = check_refused(attack, "rows.jsonl", "--name", "{index}.png")
    assert f"{len(IMAGES)} of {len(IMAGES)} rows cannot run" in error


def test_thousands_of_bad_rows_are_one_short_error(attack):
    write_one_copy()
    write_rows([{"id": str(number), "Load Image.image": "no.png"} for number in range(3000)])
    error = check_refused(attack, "rows.jsonl")
    assert "1000 of the first 1,000 rows cannot run" in error and "and 990 more" in error and len(error) < 6000
    assert "the 2,000 rows after them were not looked at" in error
    assert len(planned([{"Brush.width": 1000}] * 1010 + [{}]).rows) == 1011  # as --skip-bad does


def test_tens_of_thousands_of_bad_rows_are_refused_soon(attack):
    write_one_copy()
    rows = [{"id": "a", "Load Image.image": "1.png"}]
    write_rows(rows + [{"id": str(number), "Load Image.image": "no.png"} for number in range(40_000)])
    start = time.process_time()
    assert "1000 of the first 1,001 rows cannot run" in check_refused(attack, "rows.jsonl")
    assert time.process_time() - start < 6


def test_columns_that_are_many_are_not_all_listed():
    write_rows([{"id": "a", **{f"Paint.c{number}": 1 for number in range(900)}}])
    with pytest.raises(WuerstchenError) as caught:
        planned([{"id": "a", **{f"Paint.c{number}": 1 for number in range(900)}}])
    assert len(str(caught.value)) < 1000


def test_checking_many_rows_says_how_far_it_is(attack, monkeypatch):
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_CHECKS", 0)
    write_one_copy()
    write_rows([{"id": str(number), "Load Image.image": "no.png"} for number in range(20)])
    assert "Checking rows: 20 of 20\n" in check_refused(attack, "rows.jsonl")
