"""Tables of inputs that are damaged, hostile, or far too large: each ends in one line, and nothing is written."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from support.batches import check_refused, write_one_copy, write_rows
from wuerstchen_nodes.headless.batch.rows import limits


@pytest.fixture(autouse=True)
def copying() -> None:
    write_one_copy()


HEART = b'{"id": "a", "Load Image.image": "1.png"}\n'
JSON_LINES: dict[str, bytes] = {
    "a list": b"[1]",
    "a number": b"7",
    "a text": b'"id"',
    "null": b"null",
    "a key twice": b'{"id": "a", "id": "b"}',
    "an inner key twice": b'{"id": {"a": 1, "a": 2}}',
    "a list in a cell": b'{"id": ["a"]}',
    "an object in a cell": b'{"id": {"a": 1}}',
    "NaN": b'{"id": NaN}',
    "Infinity": b'{"id": Infinity}',
    "-Infinity": b'{"id": -Infinity}',
    "a long number": b'{"id": ' + b"9" * 5000 + b"}",
    "half a character in an id": b'{"id": "\\ud83d"}',
    "half a character in a cell": b'{"id": "a", "Load Image.image": "\\udc00x"}',
    "half a character in a column": b'{"\\ud800": 1}',
    "a null character in an id": b'{"id": "a\\u0000b"}',
    "a null character in a cell": b'{"id": "a", "Load Image.image": "1.png\\u0000"}',
    "a null character in a column": b'{"Load Image.image\\u0000": 1}',
    "a raw null character": b'{"id": "a\x00b"}',
    "an empty column": b'{"": 1}',
    "a dot": b'{".": 1}',
    "dots": b'{"...": 1}',
    "no node": b'{".image": 1}',
    "no input": b'{"Load Image.": 1}',
    "an attribute": b'{"Load Image.__class__": 1}',
    "a long column": b'{"' + b"x" * 90_000 + b'": 1}',
    "a long column with a dot": b'{"Load Image.' + b"x" * 90_000 + b'": 1}',
    "a column that is a path": b'{"../../etc/passwd": 1}',
    "two objects in a line": b'{"id": 1} {"id": 2}',
    "no end": b'{"id": "a"',
    "no end of a text": b'{"id": "a',
    "single quotes": b"{'id': 1}",
    "a comma at the end": b'{"id": 1,}',
    "a comment": b'{"id": 1} // x',
    "Python": b"{'id': True}",
    "a byte order mark in the middle": HEART + b"\xef\xbb\xbf" + HEART,
    "not UTF-8": b'{"id": "\xff"}',
    "an overlong slash": b'{"id": "\xc0\xaf"}',
    "half a character in UTF-8": b'{"id": "\xed\xa0\x80"}',
    "cut in a character": b'{"id": "\xc3',
    "UTF-16 without a mark": '{"id": "a"}'.encode("utf-16-le"),
    "a deep list": b'{"id": ' + b"[" * 200 + b"]" * 200 + b"}",
    "a very deep list": b'{"id": ' + b"[" * 100_000,
    "a very deep object": b'{"id":' * 100_000,
    "many values": b'{"id": [' + b"1," * 300_000 + b"1]}",
    "many columns": b"{" + b",".join(b'"%d": 1' % number for number in range(2000)) + b"}",
    "many columns of many rows": b"\n".join(b'{"%d": 1}' % number for number in range(2000)),
    "a long cell": b'{"id": "a", "Load Image.image": "' + b"x" * 200_000 + b'"}',
    "a long line": b'{"id": "' + b"x" * 2_000_000 + b'"}',
    "a long line of spaces": HEART + b" " * 2_000_000,
    "empty lines": b"\n" * 3_000_000,
    "empty lines of Windows": b"\r\n" * 2_000_000,
    "empty lines of old Macs": b"\r" * 3_000_000,
    "many rows": b'{"id":1}\n' * (limits.MAX_ROWS + 1),
    "only spaces": b" " * 1000,
    "nothing": b"",
    "null characters": b"\0" * 5000,
    "a mark alone": b"\xef\xbb\xbf",
    "a mark of UTF-16 alone": b"\xff\xfe",
    "a mark of UTF-16 and half a character": b"\xff\xfe\x00\xd8",
    "a mark of UTF-16 and an odd byte": b"\xff\xfeabc",
    "a mark of UTF-32 and rubbish": b"\xff\xfe\x00\x00\xff\xff\xff\xff",
    "a picture": b"\x89PNG\r\n\x1a\n" + bytes(range(256)),
    "an archive": b"PK\x03\x04" + bytes(range(256)),
    "gzip": b"\x1f\x8b\x08" + bytes(range(256)),
    "the same id twice": HEART + HEART,
    "the same id as a number and a text": b'{"id": 1}\n{"id": "1"}',
    "ids that differ in case": HEART + HEART.replace(b'"a"', b'"A"'),
    "ids that differ in the form of an accent": '{"id": "\u00e9"}\n{"id": "e\u0301"}'.encode(),
    "a missing id": HEART + b'{"Load Image.image": "1.png"}',
    "a null id": HEART + b'{"id": null}',
    "the same input in two columns": b'{"Load Image.image": "1.png", "1.image": "1.png"}',
    "a seed without a seed input": b'{"seed": 1}',
    "a prompt without a text input": b'{"prompt": "x"}',
}


@pytest.mark.parametrize("content", JSON_LINES.values(), ids=JSON_LINES)
def test_damaged_json_lines_are_refused(attack, content):
    Path("t.jsonl").write_bytes(content)
    check_refused(attack, "t.jsonl")


IDS = [
    *("", ".", "..", "...", "/", "//", "/x", "x/", "a//b", "../x", "a/../b", "a/../../b", "./a", "a/./b", ".hidden"),
    *("a/.hidden", "\\", "..\\x", "C:\\x", "a\\b", "\n", "a\nb", "a\tb", "a\rb", "\x1b[2J", "\x7f", "\x85", "\u2028"),
    *("\u202egnp", "\ufeff", "\ue000", "con", "CON", "Nul", "aux", "COM1", "lpt9", "con/a", "a/prn", "CON.x", "nul .x"),
    *("x" * 237, "x" * 5000, "x" * 99_999, "ü" * 130, "a/" * 3000 + "a", "x/" * 200 + "../" * 201 + "x"),
    *("/etc/passwd", "~/../x", "..%2f/..", "\u2025/\u0085", "a/b/", "/dev/null", "//server/share", "a\u0000"),
]


@pytest.mark.parametrize("row_id", IDS, ids=range(len(IDS)))
def test_an_id_that_is_no_file_name_is_refused(attack, row_id):
    write_rows([{"id": row_id, "Load Image.image": "1.png"}])
    check_refused(attack, "rows.jsonl")
    assert not list(Path().rglob("*.part"))


CSV: dict[str, bytes] = {
    "nothing": b"",
    "a header alone": b"id,Load Image.image\n",
    "too few fields": b"id,Load Image.image\na\n",
    "too many fields": b"id\na,b\n",
    "a column twice": b"id,id\na,b\n",
    "an open quote": b'id\n"a',
    "an open quote in the header": b'"id\na',
    "text after a quote": b'id\n"a"b\n',
    "a quote in a field": b'id\n"a"",\n',
    "many columns": b",".join(b"c%d" % number for number in range(100_000)) + b"\n1\n",
    "commas": b"," * 5_000_000,
    "a row of commas": b"id,Load Image.image\n" + b"," * 5_000_000,
    "rows of commas": (b"," * 2000 + b"\n") * 2000,
    "a field of 200 KB": b"id,Load Image.image\na," + b"x" * 200_000 + b"\n",
    "a header of 200 KB": b"x" * 200_000 + b"\n1\n",
    "a field over many lines": b'id\n"' + b"line\n" * 200_000 + b'"\n',
    "a null character": b"id,Load Image.image\na,1.png\0\n",
    "a null character in the header": b"id,Load Image.image\0\na,1.png\n",
    "null characters": b"\0" * 5000,
    "not UTF-8": b"id\n\xff\n",
    "an overlong slash": b"id\n\xc0\xaf\n",
    "empty lines": b"id\n" + b"\n" * 3_000_000,
    "many rows": b"id,Load Image.image\n" + b"a,1.png\n" * (limits.MAX_ROWS + 1),
    "a line that is not read": b"id\n" + b"a" * 2_000_000,
    "an unknown column": b"id,imag\na,1.png\n",
    "an empty column": b"id,\na,1.png\n",
    "ids that differ in case": b"id\na\nA\n",
    "an empty id": b"id,Load Image.image\n,1.png\n",
    "a path that leads out": b"id\n../../x\n",
}


@pytest.mark.parametrize("content", CSV.values(), ids=CSV)
def test_damaged_csv_is_refused(attack, content):
    Path("t.csv").write_bytes(content)
    check_refused(attack, "t.csv")


TEXTS: dict[str, bytes] = {
    "nothing": b"",
    "empty lines": b"\n" * 10_000_000,
    "not UTF-8": b"a\n\xff",
    "a null character": b"a\0b",
    "a long line": b"x" * 2_000_000,
    "a long prompt": b"x" * 200_000,
    "many prompts": b"".join(b"%d\n" % number for number in range(limits.MAX_ROWS + 1)),
    "a prompt without a text input": b"a heart\n",
}


@pytest.mark.parametrize("content", TEXTS.values(), ids=TEXTS)
def test_damaged_lists_of_prompts_are_refused(attack, content):
    Path("t.txt").write_bytes(content)
    check_refused(attack, "t.txt")


ENCODINGS = [
    *(
        "",
        "utf-9",
        "latin-99",
        "rot13",
        "hex",
        "base64",
        "zlib",
        "bz2",
        "idna",
        "punycode",
        "unicode_escape",
        "undefined",
    ),
    *("raw_unicode_escape", "utf-7\0", "\udcff", "../utf_8", "os", "x" * 10_000, "utf-16", "utf-32", "ascii", " ", "ü"),
    *("mbcs", "antigravity", "utf_8.__class__", "aliases", "quopri", "uu", "shift_jis", "euc_kr", "utf-16-be"),
]


@pytest.mark.parametrize("encoding", ENCODINGS, ids=range(len(ENCODINGS)))
def test_a_wrong_encoding_is_refused(attack, encoding):
    Path("t.csv").write_bytes("id\nü\xff\n".encode() + b"\xff\xfe\xd8")
    check_refused(attack, "t.csv", "--encoding", encoding)


def test_text_in_an_encoding_that_can_hold_half_characters_is_refused(attack):
    Path("t.csv").write_bytes(b"id\n+2D0-\n")
    check_refused(attack, "t.csv", "--encoding", "utf-7")


def _fifo(path: str) -> None:
    os.mkfifo(path)


def _link_to(target: str) -> Callable[[str], None]:
    return lambda path: Path(path).symlink_to(target)


def _sparse(path: str) -> None:
    with open(path, "wb") as file:
        file.truncate(50 * 2**30)


NO_FILES: dict[str, Callable[[str], None]] = {
    "nothing": lambda path: None,
    "a folder": lambda path: Path(path).mkdir(),
    "a pipe": _fifo,
    "a sparse file": _sparse,
    "/dev/zero": _link_to("/dev/zero"),
    "/dev/urandom": _link_to("/dev/urandom"),
    "/dev/null": _link_to("/dev/null"),
    "/dev/stdin": _link_to("/dev/stdin"),
    "a link to itself": lambda path: Path(path).symlink_to(path),
    "a link to nothing": _link_to("nowhere"),
    "a memory": _link_to("/proc/self/mem"),
}


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "txt", "parquet"])
@pytest.mark.parametrize("make", NO_FILES.values(), ids=NO_FILES)
def test_what_is_no_file_is_refused_at_once(attack, make, suffix):
    make(f"t.{suffix}")
    check_refused(attack, f"t.{suffix}")


@pytest.mark.parametrize(
    "path", ["t\0.csv", "x" * 300 + ".csv", "x/" * 3000 + "t.csv", "", ".", "/", "t", "t.xlsx", ".csv"]
)
def test_a_path_that_is_none_is_refused(attack, path):
    check_refused(attack, path)
