"""Tables of inputs in three formats, and damaged ones."""

from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from wuerstchen_nodes.headless.batch.rows.table import read_table
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
        ("t.jsonl", b'{"id": 1}\n{"id": "\xff"}\n', r"t.jsonl is not UTF-8 \(byte 0xFF at line 2\): save it"),
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
        ("t.csv", b"id\n\xff\n", r"is not UTF-8 \(byte 0xFF at line 2\): save it as UTF-8, or .* --encoding latin-1"),
        ("t.parquet", b"nothing", "not a Parquet file"),
        ("t.txt", b"\n \n", "t.txt is empty"),
        ("t.xlsx", b"", "expected a name ending in .jsonl, .csv, .txt, .parquet"),
    ],
)
def test_a_damaged_table_is_an_error_with_the_place(name, content, says):
    Path(name).write_bytes(content)
    with pytest.raises(UsageError, match=says):
        read_table(Path(name))


def test_a_missing_table_is_an_error():
    with pytest.raises(UsageError, match=r"no.csv cannot be opened: No such file"):
        read_table(Path("no.csv"))


def test_a_line_of_a_text_is_a_prompt_and_keeps_its_id_when_others_are_inserted():
    Path("t.txt").write_text("a red heart, small\n\n  grün & ünï \na red heart, small\n!?\n", encoding="utf-8")
    table = read_table(Path("t.txt"))
    assert table.columns == ["id", "prompt"]
    assert [row["prompt"] for row in table.rows] == ["a red heart, small", "grün & ünï", "a red heart, small", "!?"]
    assert table.places == ["line 1", "line 3", "line 4", "line 5"]
    ids = [str(row["id"]) for row in table.rows]
    assert ids[0].startswith("a-red-heart-small-") and ids[2] == f"{ids[0]}-2"
    assert ids[1].startswith("grün-ünï-")
    assert all(len(each) == 8 for each in (ids[3], ids[0].rpartition("-")[2]))
    Path("t.txt").write_text("another\na red heart, small\n")
    assert read_table(Path("t.txt")).rows[1]["id"] == ids[0]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_the_header_says_what_divides_the_columns(delimiter):
    Path("t.csv").write_text(f'id{delimiter}a.b\n1{delimiter}"x{delimiter}y; z, w"\n')
    assert read_table(Path("t.csv")).rows == [{"id": "1", "a.b": f"x{delimiter}y; z, w"}]


def test_a_single_column_may_hold_semicolons():
    Path("t.csv").write_text("prompt\na heart; red\n")
    assert read_table(Path("t.csv")).rows == [{"prompt": "a heart; red"}]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig", "utf-32"])
@pytest.mark.parametrize("name", ["t.csv", "t.txt", "t.jsonl"])
def test_a_byte_order_mark_names_the_encoding(name, encoding):
    text = {"t.csv": "prompt\ngrün", "t.txt": "grün", "t.jsonl": '{"prompt": "grün"}'}[name]
    Path(name).write_text(text, encoding=encoding)
    assert read_table(Path(name)).rows[0]["prompt"] == "grün"


def test_another_encoding_is_explained_and_can_be_named():
    Path("t.csv").write_text("id,prompt\n1,grün\n", encoding="latin-1")
    with pytest.raises(UsageError, match=r"t.csv is not UTF-8 \(byte 0xFC at line 2\): .* such as --encoding latin-1"):
        read_table(Path("t.csv"))
    assert read_table(Path("t.csv"), "latin-1").rows[0]["prompt"] == "grün"
    with pytest.raises(UsageError, match=r"t.csv is not ASCII .* give its own encoding with --encoding"):
        read_table(Path("t.csv"), "ascii")
    with pytest.raises(UsageError, match="--encoding is 'latin-99'; expected a name such as"):
        read_table(Path("t.csv"), "latin-99")
    Path("t.txt").write_bytes("grüne Äpfel".encode("utf-16-le"))
    with pytest.raises(UsageError, match="such as --encoding utf-16-le"):
        read_table(Path("t.txt"))
