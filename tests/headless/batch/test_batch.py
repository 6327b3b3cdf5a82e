"""Batches from the table to the manifest, with the rows run in this process."""

import errno
import json
import os
from pathlib import Path

import pytest
from filelock import FileLock
from PIL import Image

from support.batches import BROKEN, check_complete, make_catalog, manifest, ran, run, workflow, write_rows
from support.workflows import editor, editor_node, node, socket
from wuerstchen_core.errors import WuerstchenError
from wuerstchen_nodes.headless import load_workflow
from wuerstchen_nodes.headless.batch import command, row
from wuerstchen_nodes.headless.errors import UsageError

pytestmark = pytest.mark.usefixtures("inline")
ROWS = [{"id": "a", "seed": 1, "Paint.value": 1}, {"id": "b", "seed": 2}, {"id": "c", "seed": 1, "Paint.value": 3}]


def test_every_row_gives_an_image_with_its_workflow():
    summary = run(ROWS)
    assert summary.counts == {"done": 3}
    assert summary.files == [Path("out", f"{each}.png") for each in "abc"]
    check_complete(["a", "b", "c"])
    prompt = load_workflow("out/c.png").prompt
    assert prompt is not None
    assert (prompt["2"]["inputs"]["seed"], prompt["3"]["inputs"]["value"]) == (1, 3)
    first = manifest()[0]
    assert json.loads(first["inputs"]) == {"Paint.value": 1}
    assert (first["seed"], first["attempts"], first["error"]) == (1, 1, None)
    assert first["started"] <= first["finished"]


def test_networks_are_loaded_once_and_shared_nodes_run_once():
    run(ROWS)
    assert (ran("LoadBrush"), ran("Draft"), ran("Paint")) == (1, 2, 3)


def test_equal_rows_give_an_image_each():
    run([{"id": "a"}, {"id": "b"}])
    check_complete(["a", "b"])
    assert (ran("Paint"), Path("out/a.png").read_bytes()) == (1, Path("out/b.png").read_bytes())


def test_the_editor_s_document_is_in_the_image_too():
    inputs = [socket("brush", "BRUSH", 1)]
    document = editor(
        [
            editor_node(1, "LoadBrush", widgets_values=[8]),
            editor_node(2, "WuerstchenStageCSampler", inputs=inputs, widgets_values=[1, 0, "fixed"]),
            editor_node(3, "Paint", inputs=[socket("draft", "LATENT", 2)], widgets_values=[1, 1]),
            editor_node(4, "SaveImage", inputs=[socket("images", "IMAGE", 3)], widgets_values=["x"]),
        ],
        [[1, 1, 0, 2, 0, "BRUSH"], [2, 2, 0, 3, 0, "LATENT"], [3, 3, 0, 4, 0, "IMAGE"]],
    )
    run([{"seed": 77}], document)
    carried = load_workflow("out/1.png").editor
    assert carried is not None
    assert carried["nodes"][1]["widgets_values"] == [1, 77, "fixed"]


def test_only_the_failed_rows_fail_and_they_can_be_tried_again(monkeypatch):
    rows = [{"id": "a"}, {"id": "b", "Paint.value": BROKEN}, {"id": "c"}]
    assert run(rows).counts == {"done": 2, "failed": 1}
    errors = {each["id"]: each["error"] for each in manifest()}
    assert errors["b"] == "Node 3 (Paint) failed: the brush is broken"
    assert run(rows).counts == {"done": 2, "failed": 1}
    assert [each["attempts"] for each in manifest()] == [1, 1, 1]
    monkeypatch.setattr("support.batches.BROKEN", None)
    assert run(rows, retry_failed=True).counts == {"done": 3}
    assert [each["attempts"] for each in manifest()] == [1, 2, 1]


def test_a_row_may_save_several_images_or_none(monkeypatch):
    assert run([{"id": "a", "Paint.pictures": 3}, {"id": "b", "Paint.pictures": 0}]).counts == {"done": 2}
    assert [each["files"] for each in manifest()] == [["a.png", "a_2.png", "a_3.png"], []]
    assert len({Image.open(f"out/{name}.png").tobytes() for name in ("a", "a_2", "a_3")}) == 3


def test_a_second_image_does_not_take_another_row_s_name():
    rows = [{"id": "a", "Paint.pictures": 2}, {"id": "a_2"}]
    assert run(rows).counts == {"failed": 1, "done": 1}
    assert "a_2.png, which is another row's" in manifest()[0]["error"]
    assert sorted(path.name for path in Path("out").glob("*.png")) == ["a_2.png"]


def test_names_may_be_in_folders_and_a_link_may_not_lead_them_out():
    Path("elsewhere").mkdir()
    Path("out").mkdir()
    Path("out/bad").symlink_to("../elsewhere")
    assert run([{"id": "good/a"}, {"id": "bad/b"}]).counts == {"done": 1, "failed": 1}
    assert Path("out/good/a.png").is_file()
    assert list(Path("elsewhere").iterdir()) == []
    assert "leads out of" in manifest()[1]["error"]


def test_files_of_no_batch_are_not_overwritten():
    Path("out").mkdir()
    Path("out/b.png").write_text("mine")
    with pytest.raises(UsageError, match=r"of no batch, or were changed since: b.png"):
        run(ROWS)
    Path("out/b.png").unlink()
    document = workflow()
    document["5"] = node("SaveImage", "Save", images=["3", 0], filename_prefix="y")
    Path("out/b_2.png").write_text("mine")
    assert run(ROWS, document).counts == {"done": 2, "failed": 1}
    assert "another file" in manifest()[1]["error"]
    assert Path("out/b_2.png").read_text() == "mine"


def test_a_row_whose_image_was_deleted_runs_again():
    run(ROWS)
    Path("out/b.png").unlink()
    run(ROWS)
    check_complete(["a", "b", "c"])
    assert ran("Paint") == 4


def test_two_at_once_are_refused():
    run(ROWS)
    with FileLock("out/.batch/lock"), pytest.raises(UsageError, match="Another batch is running in out"):
        run(ROWS)
    assert run(ROWS).counts == {"done": 3}


def test_a_full_disk_stops_the_batch_and_it_goes_on_when_there_is_room(monkeypatch):
    room = [2]
    fsync = os.fsync

    def full(descriptor):
        room[0] -= 1
        if room[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        for _ in range(3):
            with pytest.raises(WuerstchenError, match=r"No space left on device.*start the same command again"):
                run(ROWS)
            room[0] = 4
    assert run(ROWS).counts == {"done": 3}
    check_complete(["a", "b", "c"])


@pytest.mark.parametrize("folder", ["/proc/here", "file/here", "file"])
def test_a_folder_that_cannot_be_written_to(folder):
    Path("file").touch()
    with pytest.raises(WuerstchenError, match=f"Cannot write to the output folder {folder}"):
        command.run_batch(
            command.Batch(load_workflow(workflow()), write_rows(ROWS), Path(folder), make_catalog=make_catalog)
        )


def test_an_interrupted_batch_leaves_a_manifest_and_can_be_resumed(monkeypatch):
    draw = row.RowRunner.draw

    def interrupted(self, task, given=None):
        if task.row == 1:
            raise KeyboardInterrupt
        return draw(self, task, given)

    with monkeypatch.context() as patch:
        patch.setattr(row.RowRunner, "draw", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(ROWS)
    assert [each["status"] for each in manifest()] == ["done", "pending", "done"]
    run(ROWS)
    check_complete(["a", "b", "c"])
    assert ran("Paint") == 3


def test_rows_that_ran_when_the_batch_was_killed_come_last_next_time(monkeypatch):
    order = []
    draw = row.RowRunner.draw

    def watched(self, task, given=None):
        order.append(task.row)
        if order == [0]:
            raise KeyboardInterrupt
        return draw(self, task, given)

    monkeypatch.setattr(row.RowRunner, "draw", watched)
    with pytest.raises(KeyboardInterrupt):
        run([{"seed": 1}, {"seed": 2}, {"seed": 3}])
    run([{"seed": 1}, {"seed": 2}, {"seed": 3}])
    assert order == [0, 1, 2, 0]
