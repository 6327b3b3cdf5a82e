"""Output folders of batches that are damaged, somebody else's, or traps: nothing outside of them is touched."""

import copy
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.attacks import within
from support.batches import check_complete, manifest, ran, run, write_one_copy, write_rows
from wuerstchen_core.errors import WuerstchenError
from wuerstchen_nodes.headless import cli
from wuerstchen_nodes.headless.batch.folder.journal import Journal
from wuerstchen_nodes.headless.batch.folder.store import open_store
from wuerstchen_nodes.headless.report import BAD_USAGE, FAILED, PARTLY_FAILED

pytestmark = pytest.mark.usefixtures("inline")
ROWS = [{"id": "a", "seed": 1}, {"id": "b", "seed": 2}]
JOURNAL = Path("out/.batch/journal.jsonl")
CODES = frozenset({FAILED, BAD_USAGE})


def _zeros(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(50 * 2**30)


def _link(target: str) -> Callable[[Path], None]:
    return lambda path: path.symlink_to(target)


THINGS: dict[str, Callable[[Path], object]] = {
    "a folder": lambda path: path.mkdir(),
    "a full folder": lambda path: (path / "x").mkdir(parents=True),
    "a pipe": lambda path: os.mkfifo(path),
    "a sparse file": _zeros,
    "/dev/zero": _link("/dev/zero"),
    "/dev/null": _link("/dev/null"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a link to nothing": _link("../../nowhere"),
    "a link to a file outside": _link(os.path.abspath("victim")),
    "a link to a folder outside": lambda path: path.symlink_to(Path("others").absolute()),
    "bytes": lambda path: path.write_bytes(bytes(range(256)) * 8),
}
PLACES = ["out", "out/.batch", "out/.batch/work", "out/.batch/journal.jsonl", "out/.batch/lock"]
PLACES += ["out/manifest.parquet", "out/index.html", "out/a.png"]


def outside() -> dict[str, bytes]:
    """Return the files beside the output folder that no batch may touch."""
    return {str(path): path.read_bytes() for path in (Path("victim"), *Path("others").rglob("*")) if path.is_file()}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("thing", THINGS)
@pytest.mark.parametrize("is_first", [True, False], ids=["first run", "next run"])
def test_a_thing_in_the_way_is_refused_or_stays(attack, place, thing, is_first):
    write_one_copy()
    Path("victim").write_bytes(b"precious")
    Path("others", "work", "deep").mkdir(parents=True)
    Path("others", "work", "deep", "x").write_bytes(b"precious, too")
    before = outside()
    command = (
        "batch",
        "copy.json",
        write_rows([{"id": "a", "Load Image.image": "1.png"}, {"id": "b"}]),
        "--out",
        "out",
    )
    if not is_first:
        attack.here(*command, may_succeed=True, codes=CODES)
    path = Path(place)
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    if "outside" in thing:
        path.symlink_to(Path("victim" if "file" in thing else "others").absolute())
    else:
        THINGS[thing](path)
    if place == "out/a.png" and not is_first and thing not in ("a sparse file", "bytes"):
        assert cli.main([str(each) for each in command]) == PARTLY_FAILED  # the row draws anew, and its name is taken
        assert path.is_symlink() or not path.is_file()
    else:
        attack.here(*command, may_succeed=True, codes=CODES)
    if not (place == "out" and thing == "a link to a folder outside"):  # a folder that the user named
        assert outside() == before
    if place == "out/index.html" and thing == "bytes":
        assert path.read_bytes() == bytes(range(256)) * 8


def test_no_folder_is_made_behind_a_link_that_leads_out(tried):
    for name in ("sub/{id}.png", "sub/new/{id}.png", "sub/new/deep/{id}.png"):
        for target in ("victim", "nowhere"):
            shutil.rmtree("out", ignore_errors=True)
            Path("out").mkdir()
            Path("victim").mkdir(exist_ok=True)
            Path("out/sub").symlink_to(Path(target).absolute())
            run(ROWS, name=name)
            assert {row["status"] for row in manifest()} == {"failed"}
            assert not list(Path("victim").iterdir()) and not Path("nowhere").exists()
            tried(1)


OUTS = [
    "\0",
    "x" * 300,
    "a/" * 3000,
    "/proc/x",
    "/dev/null",
    "/dev/null/x",
    "copy.json",
    "copy.json/x",
    "/sys/x",
    "\udcff\0",
]


@pytest.mark.parametrize("out", OUTS, ids=range(len(OUTS)))
def test_a_path_that_can_be_no_folder_is_refused(attack, out):
    write_one_copy()
    attack.here("batch", "copy.json", write_rows([{"id": "a"}]), "--out", out, codes=CODES)


def test_two_batches_in_a_folder_at_once_are_refused(attack):
    write_one_copy()
    with open_store(Path("out")):
        _, error = attack.here("batch", "copy.json", write_rows([{"id": "a"}]), "--out", "out", codes=CODES)
    assert "Another batch is running" in error


def test_a_page_made_by_hand_stays(tried):
    run(ROWS)
    Path("out/index.html").write_text("mine")
    run([*ROWS, {"id": "c", "seed": 3}])
    assert Path("out/index.html").read_text() == "mine"
    assert [row["status"] for row in manifest()] == ["done"] * 3
    tried(1)


def lines() -> list[dict[str, Any]]:
    """Return the records of a journal in which a table was corrected, so that there are all kinds of them."""
    run([*ROWS, {"id": "c", "seed": 3, "Paint.value": 7}])
    run([{"id": "a", "seed": 9}, {"id": "d", "seed": 2}])
    return [json.loads(line) for line in JOURNAL.read_text().splitlines()]


def ways(value: Any, way: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the ways to all values in a record."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [way, *(each for key, at in inner for each in ways(at, (*way, key)))][0 if way else 1 :]


WRONG = [
    None,
    True,
    -1,
    1.5,
    2**70,
    float("nan"),
    "",
    "x",
    "\ud800",
    [],
    [[]],
    {},
    {"a": 1},
    "../../victim",
    "/etc/passwd",
]
REMOVED = object()


def test_a_journal_with_wrong_values_is_refused_or_read_and_nothing_outside_is_touched(tried):
    records = lines()
    Path("victim").write_bytes(b"precious")
    refused = 0
    tries = [(n, way, wrong) for n, record in enumerate(records) for way in ways(record) for wrong in (*WRONG, REMOVED)]
    tries = [each for number, each in enumerate(tries) if number % 3 == 0]
    with within(60):
        for number, (*way, last), wrong in tries:
            damaged = copy.deepcopy(records)
            holder: Any = damaged[number]
            for key in way:
                holder = holder[key]
            if wrong is REMOVED:
                del holder[last]
            else:
                holder[last] = wrong
            JOURNAL.write_text("".join(json.dumps(each) + "\n" for each in damaged))
            try:
                journal = Journal(JOURNAL)
                files = [file for state in journal.rows.values() for file in state.files]
                assert all(".." not in file["name"] and not file["name"].startswith("/") for file in files)
                assert all(".." not in file["staged"] and not file["staged"].startswith("/") for file in files)
            except WuerstchenError as error:
                assert f"line {number + 1} is damaged" in str(error) and len(str(error)) < 600
                refused += 1
    assert refused > len(tries) / 2
    tried(len(tries))


DAMAGE = [
    b"",
    b"\n",
    b"{}",
    b"[]",
    b"null",
    b"1",
    b'"x"',
    b"[[",
    b"\xff\xfe",
    b"\0" * 100,
    b'{"event": 1}',
    b"NaN",
    b"{" * 10_000,
]
DAMAGE += [b"[" * 200_000, b'{"event": "batch"}', b'{"event": "batch", "version": "2"}', b'{"event": "done"}']
DAMAGE += [
    b'{"event": "batch", "version": -1}',
    b'{"event": "batch", "version": 1e400}',
    b'{"event": "other", "id": "a"}',
]
DAMAGE += [b'{"event": "batch", "version": 9999999999}', b'{"event": "again"}', b'{"event": "again", "id": ["a"]}']
DAMAGE += [
    b'{"event": "again", "row": "a"}',
    b'{"event": "again", "row": ' + b"9" * 5000 + b"}",
    b'{"event": ["batch"]}',
]


@pytest.mark.parametrize("line", DAMAGE, ids=range(len(DAMAGE)))
@pytest.mark.parametrize("at", [0, 1, -1])
def test_a_damaged_line_of_the_journal_is_refused(tried, line, at):
    run(ROWS)
    whole = JOURNAL.read_bytes().splitlines(keepends=True)
    whole.insert(at if at >= 0 else len(whole), line + b"\n")
    JOURNAL.write_bytes(b"".join(whole))
    with within(), pytest.raises(WuerstchenError, match="is damaged"):
        run(ROWS)
    assert JOURNAL.read_bytes() == b"".join(whole)
    tried(1)


STAGED = [
    "/absolute/x",
    "../x",
    "../../x/y",
    "a/../../x",
    "a/b/c",
    "link/x",
    "",
    ".",
    "a//b",
    "C:\\x\\y",
    "..\\x",
    "a\0b",
    "./../x",
]


@pytest.mark.parametrize("name", STAGED, ids=range(len(STAGED)))
@pytest.mark.parametrize("field", ["staged", "name"])
def test_a_journal_that_names_files_outside_moves_and_deletes_none(tried, name, field):
    run(ROWS)
    victim = Path("victims/x")
    victim.parent.mkdir()
    victim.write_bytes(b"precious")
    name = name.replace("../x", "../../../victims/x").replace("/absolute/x", str(victim.absolute()))
    Path("out/.batch", "work", "link").symlink_to(victim.parent.absolute())
    Path("out/a.png").unlink()
    records = [json.loads(line) for line in JOURNAL.read_text().splitlines()]
    for record in records:
        for file in record.get("files", []):
            file[field] = name
    JOURNAL.write_text("".join(json.dumps(record) + "\n" for record in records))
    try:
        run(ROWS)
    except WuerstchenError as error:
        assert "is damaged" in str(error)
    assert victim.read_bytes() == b"precious" and not [path for path in Path().glob("*") if path.name == "x"]
    tried(1)


def test_a_journal_that_is_cut_at_any_byte_is_read(tried):
    run(ROWS)
    whole = JOURNAL.read_bytes()
    for cut in range(len(whole)):
        JOURNAL.write_bytes(whole[:cut])
        journal = Journal(JOURNAL)
        done = (
            whole[:cut].count(b'"done"')
            if whole[:cut].endswith(b"\n")
            else whole[: whole.rfind(b"\n", 0, cut) + 1].count(b'"done"')
        )
        assert sum(state.status == "done" for state in journal.rows.values()) == done
    tried(len(whole))


@pytest.mark.parametrize("step", [37, pytest.param(1, marks=pytest.mark.long)])
@pytest.mark.parametrize("keeps", [False, True], ids=["as after a crash", "with its pictures"])
def test_a_batch_whose_journal_is_cut_at_any_byte_loses_and_doubles_no_picture(tried, step, keeps):
    """After a crash, a picture has its name only if the journal has its line; a journal cut by hand may lack it."""
    run(ROWS)
    whole = JOURNAL.read_bytes()
    pictures = {path.name: path.read_bytes() for path in Path("out").glob("*.png")}
    cuts = sorted({*range(0, len(whole), step), *(at + 1 for at, byte in enumerate(whole) if byte == 10)})
    for cut in cuts:
        shutil.rmtree("out")
        JOURNAL.parent.mkdir(parents=True)
        JOURNAL.write_bytes(whole[:cut])
        complete = whole[: whole.rfind(b"\n", 0, cut) + 1]
        for name, data in pictures.items():
            if keeps or f'"name": "{name}"'.encode() in complete:
                Path("out", name).write_bytes(data)
        before = ran("Paint")
        there = len(list(Path("out").glob("*.png")))
        try:
            run(ROWS)
            check_complete(["a", "b"])
            assert keeps or ran("Paint") - before == 2 - there
        except WuerstchenError as error:
            assert keeps and "Nothing is overwritten" in str(error)
        assert {path.name: path.read_bytes() for path in Path("out").glob("*.png")} == pictures
    tried(len(cuts))
