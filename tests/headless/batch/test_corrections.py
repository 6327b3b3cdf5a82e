"""Batches whose table or workflow is corrected between two runs into the same folder."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from support.batches import BROKEN, check_complete, manifest, ran, run, workflow
from wuerstchen_nodes.headless.batch.folder.journal import Journal
from wuerstchen_nodes.headless.errors import UsageError
from wuerstchen_nodes.headless.report import Report

pytestmark = pytest.mark.usefixtures("inline")
ROWS: list[dict[str, Any]] = [{"id": each, "seed": seed} for seed, each in enumerate("abcd", 1)]


def images(folder: str = "out") -> dict[str, str]:
    """Return the digest of every image in a folder, by name."""
    found = sorted(Path(folder).rglob("*.png"))
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


def test_only_rows_that_changed_are_drawn_again(capsys):
    run(ROWS)
    before = images()
    changed = [ROWS[0], {"id": "b", "seed": 20}, ROWS[3], {"id": "e", "seed": 5}]
    run(changed, report=Report())
    assert ran("Paint") == 4 + 2
    assert [(each["id"], each["status"], each["attempts"]) for each in manifest()] == [
        (each, "done", 1) for each in "abde"
    ]
    after = images()
    assert {name for name in before if after[name] == before[name]} == {"a.png", "c.png", "d.png"}
    assert set(after) == {*before, "e.png"}
    assert capsys.readouterr().err.splitlines()[:3] == [
        "1 row changed, 1 is new, 1 was removed; 2 of 4 stay.",
        "Images of removed rows stay in out: c.png.",
        "2 of 4 rows were finished earlier.",
    ]
    run(changed)
    assert ran("Paint") == 6


def test_a_removed_row_that_comes_back_is_not_drawn_again():
    run(ROWS)
    before = images()
    run(ROWS[:2])
    assert [each["id"] for each in manifest()] == ["a", "b"]
    run(ROWS)
    assert (ran("Paint"), images()) == (4, before)
    check_complete(["a", "b", "c", "d"])


def test_an_image_stays_until_the_new_one_is_whole(monkeypatch):
    run(ROWS)
    before = images()
    changed = [{"id": "a", "seed": 1, "Paint.value": BROKEN}, *ROWS[1:]]
    run(changed)
    assert [each["status"] for each in manifest()] == ["failed", "done", "done", "done"]
    assert images() == before
    monkeypatch.setattr("support.batches.BROKEN", None)
    run(changed, retry_failed=True)
    check_complete(["a", "b", "c", "d"])
    assert images()["a.png"] != before["a.png"]


def test_fewer_images_of_a_row_and_other_names_leave_no_old_ones():
    rows = [{"id": "a", "seed": 1, "Paint.pictures": 3}, *ROWS[1:]]
    run(rows, name="{id}_{seed}.png")
    assert set(images()) == {"a_1.png", "a_1_2.png", "a_1_3.png", "b_2.png", "c_3.png", "d_4.png"}
    run([{"id": "a", "seed": 7}, *ROWS[1:]], name="{id}_{seed}.png")
    assert set(images()) == {"a_7.png", "b_2.png", "c_3.png", "d_4.png"}


def test_rows_without_ids_may_be_inserted_and_moved(capsys):
    rows = [{"seed": seed} for seed in (1, 2, 3)]
    run(rows)
    before = images()
    run([{"seed": 9}, *rows], report=Report())
    assert ran("Paint") == 4
    check_complete(["1", "2", "3", "4"])
    after = images()
    assert [after[f"{number}.png"] for number in (2, 3, 4)] == [before[f"{number}.png"] for number in (1, 2, 3)]
    assert "1 row is new; 3 of 4 stay, 3 of them under another name." in capsys.readouterr().err
    run(rows[::-1])
    assert ran("Paint") == 4
    assert images() == {"1.png": before["3.png"], "2.png": before["2.png"], "3.png": before["1.png"]}
    check_complete(["1", "2", "3"])


def test_other_names_rename_the_images():
    run(ROWS)
    before = images()
    run(ROWS, name="all/{index:02}.png")
    assert ran("Paint") == 4
    assert images() == {f"all/{number:02}.png": before[f"{each}.png"] for number, each in enumerate("abcd", 1)}
    run(ROWS)
    assert images() == before


def test_another_workflow_draws_the_affected_rows(capsys):
    run(ROWS)
    document = workflow()
    document["3"]["inputs"]["value"] = 2
    run([*ROWS[:3], {**ROWS[3], "Paint.value": 1}], document, report=Report())
    assert "3 rows changed; 1 of 4 stays." in capsys.readouterr().err
    assert ran("Paint") == 4 + 3
    check_complete(["a", "b", "c", "d"])


def test_a_whole_other_table_does_not_replace_the_images():
    run(ROWS)
    before = images()
    journal = Path("out/.batch/journal.jsonl").read_bytes()
    other = [{"id": each, "seed": seed} for seed, each in enumerate("abcd", 11)]
    with pytest.raises(UsageError, match=r"another table: none of its 4 rows .* 4 images .* or pass --replace"):
        run(other)
    assert (images(), Path("out/.batch/journal.jsonl").read_bytes()) == (before, journal)
    run(other, replaces=True)
    check_complete(["a", "b", "c", "d"])
    assert not set(images().values()) & set(before.values())
    document = workflow()
    document["3"]["inputs"]["value"] = 2
    run(other, document)  # the same table, so the images are meant
    check_complete(["a", "b", "c", "d"])


@pytest.mark.parametrize("name", ["b.png", "e.png"])
def test_a_file_of_somebody_else_is_not_replaced(name):
    run(ROWS)
    Path("out", name).write_text("edited by hand")
    rows = [ROWS[0], {"id": "b", "seed": 20}, *ROWS[2:], {"id": "e"}]
    with pytest.raises(UsageError, match=rf"of no batch, or were changed since: {name}\. Nothing is overwritten"):
        run(rows)
    assert Path("out", name).read_text() == "edited by hand"
    assert ran("Paint") == 4


def test_a_row_that_was_corrected_and_corrected_back_before_it_ran_keeps_its_image(monkeypatch):
    from wuerstchen_nodes.headless.batch import row

    run(ROWS)
    before = images()

    def interrupted(self, task, given=None):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(row.RowRunner, "draw", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run([{"id": "a", "seed": 9}, *ROWS[1:]])
    run(ROWS)
    assert (ran("Paint"), images()) == (4, before)
    check_complete(["a", "b", "c", "d"])


def as_version_1() -> None:
    """Rewrite ./out as version 1 of the format has it."""
    path = Path("out/.batch/journal.jsonl")
    header, *events = (json.loads(line) for line in path.read_text().splitlines())
    numbers = {row_id: number for number, (row_id, _) in enumerate(header["rows"])}
    header = {key: header[key] for key in ("event", "time", "workflow", "table")}
    lines = [{**header, "version": 1, "rows": len(numbers)}]
    lines += [
        {
            ("row" if key == "id" else key): numbers.get(value, value) if key == "id" else value
            for key, value in event.items()
        }
        for event in events
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    Path("out/index.html").unlink()


@pytest.mark.parametrize("has_manifest", [True, False])
def test_a_folder_of_the_first_version_is_continued(has_manifest):
    run(ROWS)
    before = images()
    as_version_1()
    if not has_manifest:
        Path("out/manifest.parquet").unlink()
    run(ROWS)
    assert (ran("Paint"), images()) == (4, before)
    check_complete(["a", "b", "c", "d"])
    assert (Journal(Path("out/.batch/journal.jsonl")).header or {})["version"] == 2


def test_a_table_may_be_corrected_in_a_folder_of_the_first_version():
    run(ROWS)
    as_version_1()
    run([*ROWS[:2], {"id": "d", "seed": 9}])
    assert ran("Paint") == 5
    Path("out/c.png").unlink()
    check_complete(["a", "b", "d"])


def test_a_corrected_table_needs_the_manifest_of_the_first_version():
    run(ROWS)
    as_version_1()
    Path("out/manifest.parquet").unlink()
    with pytest.raises(UsageError, match="of an older version of this program and without its manifest"):
        run(ROWS[:3])


def test_a_folder_of_a_later_version_is_refused():
    run(ROWS)
    path = Path("out/.batch/journal.jsonl")
    path.write_text(path.read_text().replace('"version": 2', '"version": 3'))
    with pytest.raises(UsageError, match="A newer version of this program wrote out"):
        run(ROWS)
