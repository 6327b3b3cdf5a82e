"""Output folders of batches whose journal or manifest would take hours or all memory to read."""

import hashlib
import json
import os
import time
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from support.attacks import within
from support.batches import check_complete, ran, run
from wuerstchen_core.errors import WuerstchenError
from wuerstchen_nodes.headless.batch.folder import journal as journals
from wuerstchen_nodes.headless.batch.folder import manifest, row_files, store
from wuerstchen_nodes.headless.batch.folder.changes import compare
from wuerstchen_nodes.headless.batch.folder.journal import Journal
from wuerstchen_nodes.headless.batch.rows.plan import Plan, Row

JOURNAL = Path("out/.batch/journal.jsonl")
WHO = {"worker": "here:1", "attempt": 1, "seconds": 1.0, "time": "2026-11-30T20:25:03.740+00:00"}


@pytest.fixture(autouse=True)
def folder(monkeypatch, tmp_path) -> None:
    """An empty output folder."""
    monkeypatch.chdir(tmp_path)
    JOURNAL.parent.mkdir(parents=True)


def batch(**fields: Any) -> str:
    """Return the line of a batch as a whole."""
    return json.dumps({"event": "batch", "version": 2, "rows": [], "moved": [], **fields}) + "\n"


def done(row_id: str, name: str, sha256: str, **fields: Any) -> str:
    """Return the line of a row that is done."""
    files = [{"staged": "z/1.png", "name": name, "sha256": sha256}]
    return json.dumps({"event": "done", "id": row_id, "files": files, **WHO, **fields}) + "\n"


def many(value: str) -> str:
    """Return five million JSON values in a list."""
    return "[" + f"{value}," * 5_000_000 + f"{value}]"


@pytest.mark.parametrize(
    "line",
    [
        batch().replace("[]", many("[]"), 1),
        batch().replace("[]", many("{}"), 1),
        batch()[:-2] + f', "x": {many("[]")}}}\n',
        batch()[:-2] + f', "workflow": {many("0")}}}\n',
        batch(x="a text"),
        batch(table=["a text"]),
        done("a", "a.png", "0", x="a text"),
        done("a", "a.png", "0", error="\N{SNOWMAN}").replace("\\u2603", "\N{SNOWMAN}"),
    ],
    ids=["lists", "objects", "unknown field", "a digest of many", "unknown text", "list", "of a row", "not ASCII"],
)
def test_a_record_of_more_than_a_batch_writes_is_refused_soon(tried, line):
    JOURNAL.write_text(line, encoding="utf-8")
    start = time.process_time()
    with within(), pytest.raises(WuerstchenError, match="line 1 is damaged"):
        Journal(JOURNAL)
    assert time.process_time() - start < 3
    tried(1)


def test_a_journal_has_no_line_that_could_not_be_read_and_no_more_rows_than_a_table(tried, monkeypatch):
    monkeypatch.setattr(journals, "_LONGEST_LINE", 1000)
    monkeypatch.setattr(journals, "MAX_ROWS", 5)
    JOURNAL.write_text(batch(workflow="x" * 1000))
    with pytest.raises(OSError, match="a line that is longer than 1000 bytes"):
        Journal(JOURNAL)
    JOURNAL.write_text(batch() + "".join(done(f"r{number}", "a.png", "0") for number in range(6)))
    with pytest.raises(WuerstchenError, match="more than 5 rows"):
        Journal(JOURNAL)
    JOURNAL.write_text("")
    journal = Journal(JOURNAL)
    journal.open()
    with pytest.raises(OSError, match="the ids of all rows are longer"):
        journal.append("batch", version=2, rows=[["x" * 1000, "1"]], moved=[])
    assert JOURNAL.read_text() == ""
    tried(3)


@pytest.mark.usefixtures("inline")
@pytest.mark.parametrize("at_once", [1, 2])
def test_many_renamed_rows_take_several_records(tried, monkeypatch, at_once):
    monkeypatch.setattr(store, "_MOVES", at_once)
    run([{"id": f"a{number}", "seed": number} for number in range(5)])
    run([{"id": f"b{number}", "seed": number} for number in range(5)])
    check_complete([f"b{number}" for number in range(5)])
    moves = [len(each.get("moved", [])) for each in map(json.loads, JOURNAL.read_text().splitlines())]
    assert max(moves) == at_once and sum(moves) == 5
    run([{"id": f"b{number}", "seed": number} for number in range(5)])
    assert ran("Paint") == 5
    tried(1)


def write_manifest(ids: list[Any], kind: Any = None) -> None:
    """Write the manifest of rows with these ids."""
    table = {"id": pyarrow.array(ids, kind), "prompt_digest": ["d"] * len(ids), "more": ids}
    parquet.write_table(pyarrow.table(table), "out/manifest.parquet")


def test_a_manifest_that_unpacks_to_gigabytes_is_none(tried, monkeypatch):
    monkeypatch.setattr(manifest, "MAX_CHARACTERS", 10**6)
    long = "x" * 10**4
    dictionary = pyarrow.dictionary(pyarrow.int32(), pyarrow.string())
    for ids, kind in ((["a", long], dictionary), ([long] * 3000, None), ([["a"]] * 9, None), ([5] * 9, None)):
        write_manifest(ids, kind)
        start = time.process_time()
        assert manifest.contents_of(Path("out"), len(ids)) == []
        assert time.process_time() - start < 1
    write_manifest(["a", None])
    assert manifest.contents_of(Path("out"), 2) == []
    write_manifest(["a", "b"])
    assert manifest.contents_of(Path("out"), 3) == []
    assert manifest.contents_of(Path("out"), 2) == [("a", "d"), ("b", "d")]
    tried(6)


def test_a_large_file_that_many_records_name_is_read_once(tried, monkeypatch):
    read: list[Path] = []
    monkeypatch.setattr(row_files, "sha256_of", lambda path: str(read.append(path)))
    with Path("out/a.png").open("wb") as file:
        file.truncate(10**8)
    assert not any(row_files.is_file(Path("out/a.png"), {str(number)}) for number in range(200))
    assert len(read) == 1
    os.utime("out/a.png", (1, 1))
    assert row_files.is_file(Path("out/a.png"), {"None"}) and len(read) == 2
    os.truncate("out/a.png", 2**28)
    assert not row_files.is_file(Path("out/a.png"), {"None"}) and len(read) == 2
    tried(200)


def test_rows_of_equal_content_whose_ids_changed_are_found_in_linear_time(tried):
    count = 10_000
    Path("out/a.png").write_bytes(b"a picture")
    sha256 = hashlib.sha256(b"a picture").hexdigest()
    lines = [batch(rows=[[f"r{number}", "d"] for number in range(count)])]
    lines += [done(f"r{number}", "a.png", sha256) for number in range(count)]
    JOURNAL.write_text("".join(lines))
    journal = Journal(JOURNAL)
    rows = [Row(f"y{number}", f"y{number}.png", {}, {}, None, "", "d", "") for number in reversed(range(count))]
    start = time.process_time()
    with within():
        changes = compare(Plan(None, rows, [], [], "", "", ""), journal, Path("out"))  # type: ignore[arg-type]
    assert time.process_time() - start < 3
    assert len(changes.moves) == count
    tried(1)
