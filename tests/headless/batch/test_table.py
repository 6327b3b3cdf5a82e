"""Tables of inputs in three formats, and damaged ones."""

from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from wuerstchen_nodes.headless.batch.table import read_table
from wuerstchen_nodes.headless.errors import UsageError

ROWS = [
    {"id": "a", "Prompt.value": 'red, "big"', "seed": 1},
    {"id": "b", "Prompt.value": "blau ü\nzwei", "seed": 2**64 - 1},
]


def test_the_three_formats_hold_the_same():
    Path("t.jsonl").write_text(
        '{"id": "a", "Prompt.value": "red, \\"big\\"", "seed": 1}\n\n'
        '{"id": "b", "Prompt.value": "blau ü\\nzwei", "seed": 18446744073709551615}'
    )
    Path("t.csv").write_text('id,Prompt.value,seed\na,"red, ""big""",1\n\nb,"blau ü\nzwei",18446744073709551615\n')
    schema = pyarrow.schema([("id", pyarrow.string()), ("Prompt.value", pyarrow.string()), ("seed", pyarrow.uint64())])
    parquet.write_table(pyarrow.Table.from_pylist(ROWS, schema), "t.parquet")
    lines, commas, columns = (read_table(Path(f"t.{kind}")) for kind in ("jsonl", "csv", "parquet"))
    assert lines.rows == columns.rows == ROWS
    assert [{**row, "seed": str(row["seed"])} for row in ROWS] == commas.rows
    assert lines.columns == commas.columns == columns.columns == ["id", "Prompt.value", "seed"]
    assert (lines.places, commas.places, columns.places) == (
        ["line 1", "line 3"],
        ["line 2", "line 5"],
        ["row 1", "row 2"],
    )


def test_a_byte_order_mark_is_not_part_of_a_name():
    for name, text in (("t.jsonl", '{"id": 1}'), ("t.csv", "id\n1")):
        Path(name).write_text(text, encoding="utf-8-sig")
        assert read_table(Path(name)).columns == ["id"]


def test_null_and_empty_csv_fields_set_nothing():
    Path("t.jsonl").write_text('{"id": 1, "a.b": null}\n{"id": 2, "a.b": ""}\n')
    Path("t.csv").write_text("id,a.b\n1,\n2,x\n")
    assert read_table(Path("t.jsonl")).rows == [{"id": 1}, {"id": 2, "a.b": ""}]
    assert read_table(Path("t.csv")).rows == [{"id": "1"}, {"id": "2", "a.b": "x"}]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("t.jsonl", b'{"id": 1}\n{"id": \n', "t.jsonl, line 2: not JSON: Expecting value at column"),
        ("t.jsonl", b'{"id": 1}\n[1]\n', r"line 2: got \[1\]; expected an object"),
        ("t.jsonl", b'{"id": 1}\n{"id": NaN}\n', "line 2: not JSON that can be read: NaN is not a number"),
        ("t.jsonl", b'{"id": 1}\n{"id": "\xff"}\n', "line 2: not UTF-8 text"),
        ("t.jsonl", b"[" * 100_000, "line 1: not JSON that can be read"),
        ("t.jsonl", b'{"id": [1]}\n', "line 1: 'id' is of the type list"),
        ("t.jsonl", b"\n", "t.jsonl is empty"),
        ("t.jsonl", b"{}\n", "has no columns"),
        ("t.csv", b"", "t.csv is empty"),
        ("t.csv", b"id,a.b\n", "t.csv is empty"),
        ("t.csv", b"id,a.b\n1,2\n3\n", "line 3: 1 fields; expected 2"),
        ("t.csv", b"id,a.b\n1,2,3\n", r"line 2: 3 fields; expected 2 \(id, a.b\)"),
        ("t.csv", b"id,id\n1,2\n", "the column 'id' is there twice"),
        ("t.csv", b'id\n"open', "not CSV"),
        ("t.csv", b"id\n\xff\n", "not UTF-8"),
        ("t.parquet", b"nothing", "not a Parquet file"),
        ("t.txt", b"", "expected a name ending in .jsonl, .csv, .parquet"),
    ],
)
def test_a_damaged_table_is_an_error_with_the_place(name, content, says):
    Path(name).write_bytes(content)
    with pytest.raises(UsageError, match=says):
        read_table(Path(name))


def test_a_missing_table_is_an_error():
    with pytest.raises(UsageError, match=r"no.csv cannot be opened: No such file"):
        read_table(Path("no.csv"))
