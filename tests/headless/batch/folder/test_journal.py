"""Journal of a batch, read again after an end at any point."""

from pathlib import Path

import pytest

from wuerstchen_core.errors import WuerstchenError
from wuerstchen_nodes.headless.batch.folder.journal import Journal

PATH = Path("journal.jsonl")
WHO = {"worker": "here:1", "attempt": 1}


FILES = [{"staged": "x", "name": "a.png", "sha256": "c"}]


def opened() -> Journal:
    journal = Journal(PATH)
    journal.open()
    return journal


def written() -> Journal:
    journal = opened()
    journal.append("batch", version=2, rows=[["a", "1"], ["b", "2"], ["c", "3"]], moved=[])
    journal.append("started", id="a", **WHO)
    journal.append("done", id="a", seconds=1.0, files=FILES, **WHO)
    journal.append("started", id="b", **WHO)
    return journal


def test_a_journal_that_is_read_again_has_the_same_states():
    first = written()
    first.close()
    again = Journal(PATH)
    assert again.header is not None
    assert again.header["version"] == 2
    assert again.state("a") == first.state("a")
    assert again.state("a").status == "done"
    assert (again.state("b").status, again.state("b").attempts, again.state("b").cut_short) == ("pending", 1, 1)
    assert again.state("c").attempts == 0


def test_an_incomplete_last_line_is_removed():
    written().close()
    whole = PATH.read_bytes()
    for cut in (1, 20, len(whole.splitlines()[-1])):
        PATH.write_bytes(whole[:-cut])
        journal = opened()
        assert journal.state("b").attempts == 0
        journal.append("started", id="b", **WHO)
        journal.close()
        again = Journal(PATH)
        assert (again.state("a").status, again.state("b").attempts) == ("done", 1)


def test_a_damaged_line_is_an_error_with_its_number():
    written().close()
    lines = PATH.read_text().splitlines(keepends=True)
    PATH.write_text(lines[0] + "x" + lines[1] + lines[2])
    with pytest.raises(WuerstchenError, match=r"journal\.jsonl, line 2 is damaged"):
        Journal(PATH)


def test_a_row_that_is_set_back_keeps_only_its_number_of_attempts():
    journal = written()
    for _ in range(3):
        journal.append("died", id="b", seconds=0, error="gone", **WHO)
    assert journal.state("b").deaths == 3
    journal.append("again", id="b")
    assert (journal.state("b").status, journal.state("b").deaths, journal.state("b").attempts) == ("pending", 0, 1)


def test_a_row_with_another_content_begins_anew_and_its_images_are_remembered():
    journal = written()
    journal.append("batch", version=2, rows=[["a", "5"], ["b", "2"]], moved=[])
    journal.close()
    for each in (journal, Journal(PATH)):
        assert (each.state("a").status, each.state("a").attempts) == ("pending", 0)
        assert [state.files for state in each.earlier["a"]] == [FILES]
        assert (each.state("b").attempts, each.written) == (1, {"a.png": {"c"}})
        assert "c" not in each.rows


def test_rows_that_were_numbered_get_their_ids():
    journal = opened()
    journal.append("batch", version=1, rows=2)
    journal.append("done", row=1, seconds=1.0, files=FILES, **WHO)
    journal.append("batch", version=2, rows=[["a", "1"], ["b", "2"]], moved=[])
    journal.append("started", id="a", **WHO)
    journal.close()
    again = Journal(PATH)
    assert (again.state("b").status, again.state("b").digest, again.state("b").files) == ("done", "2", FILES)
    assert (again.state("a").status, again.state("a").attempts) == ("pending", 1)
