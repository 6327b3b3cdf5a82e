"""Journal of a batch, read again after an end at any point."""

from pathlib import Path

import pytest

from wuerstchen_core.errors import WuerstchenError
from wuerstchen_nodes.headless.batch.journal import Journal

PATH = Path("journal.jsonl")
WHO = {"worker": "here:1", "attempt": 1}


def written() -> Journal:
    journal = Journal(PATH)
    journal.append("batch", version=1)
    journal.append("started", row=0, **WHO)
    journal.append("done", row=0, seconds=1.0, files=[{"staged": "a", "name": "b", "sha256": "c"}], **WHO)
    journal.append("started", row=1, **WHO)
    return journal


def test_a_journal_that_is_read_again_has_the_same_states():
    first = written()
    first.close()
    again = Journal(PATH)
    assert again.header is not None
    assert again.header["version"] == 1
    assert again.state(0) == first.state(0)
    assert again.state(0).status == "done"
    assert (again.state(1).status, again.state(1).attempts, again.state(1).cut_short) == ("pending", 1, 1)
    assert again.state(2).attempts == 0


def test_an_incomplete_last_line_is_removed():
    written().close()
    whole = PATH.read_bytes()
    for cut in (1, 20, len(whole.splitlines()[-1])):
        PATH.write_bytes(whole[:-cut])
        journal = Journal(PATH)
        assert journal.state(1).attempts == 0
        journal.append("started", row=1, **WHO)
        journal.close()
        again = Journal(PATH)
        assert (again.state(0).status, again.state(1).attempts) == ("done", 1)
        again.close()


def test_a_damaged_line_is_an_error_with_its_number():
    written().close()
    lines = PATH.read_text().splitlines(keepends=True)
    PATH.write_text(lines[0] + "x" + lines[1] + lines[2])
    with pytest.raises(WuerstchenError, match=r"journal\.jsonl, line 2 is damaged"):
        Journal(PATH)


def test_a_row_that_is_set_back_keeps_only_its_number_of_attempts():
    journal = written()
    for _ in range(3):
        journal.append("died", row=1, seconds=0, error="gone", **WHO)
    assert journal.state(1).deaths == 3
    journal.append("again", row=1)
    assert (journal.state(1).status, journal.state(1).deaths, journal.state(1).attempts) == ("pending", 0, 1)
