"""`wuerstchen batch`, from what is typed to what is printed."""

import io
import json
from pathlib import Path

import pytest

from support.batches import COPIES, manifest, write_copying, write_rows
from wuerstchen_nodes.headless import cli
from wuerstchen_nodes.headless import extras as extra

pytestmark = pytest.mark.usefixtures("inline")


@pytest.fixture
def batch(capsys):
    """Run the command in this process: its exit code, and the lines on stdout and stderr."""
    write_copying()

    def command(*options: str, table="rows.jsonl"):
        code = cli.main(["batch", "copy.json", str(table), "--out", "out", *options])
        printed = capsys.readouterr()
        return code, printed.out.splitlines(), printed.err.splitlines()

    return command


def test_each_picture_is_printed_and_the_code_is_0(batch):
    code, out, err = batch()
    assert (code, out) == (0, [f"out/{number}.png" for number in COPIES])
    assert err[-1] == "64 done. What became of each row: out/manifest.parquet"
    code, out, err = batch("--quiet")
    assert (code, out, err) == (0, [], [])


def test_a_failure_is_said_and_the_code_is_5(batch):
    rows = write_rows([{"id": "a", "Load Image.image": "1.png"}, {"id": "b", "Load Image.image": "none.png"}])
    code, out, err = batch(table=rows)
    assert (code, out) == (5, ["out/a.png"])
    assert any(line.startswith("row b failed: Node 1 (LoadImage): ") and "none.png" in line for line in err)
    assert err[-1] == "1 done, 1 failed. What became of each row: out/manifest.parquet"


def test_in_json_there_is_one_object_a_row(batch):
    rows = write_rows([{"id": "b", "Load Image.image": "none.png"}, {"id": "a", "Load Image.image": "1.png"}])
    code, out, _ = batch("--json", "--name", "p/{id}.png", table=rows)
    start, failed, done, end = (json.loads(line) for line in out)
    assert start == {"event": "batch", "rows": 2, "left": 2}
    assert (failed["id"], failed["status"], failed["files"]) == ("b", "failed", [])
    assert (done["id"], done["status"], done["files"], done["error"]) == ("a", "done", ["out/p/a.png"], None)
    assert (code, end["counts"]) == (5, {"failed": 1, "done": 1})


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_terminal_has_a_bar_and_no_list(batch, monkeypatch):
    monkeypatch.setattr("sys.stderr", shown := Terminal())
    monkeypatch.setattr("sys.stdout", listed := Terminal())
    assert batch()[0] == 0
    assert listed.getvalue() == ""
    assert f"\r\x1b[K[{'#' * 12:<24}] 32 of 64 rows, " in shown.getvalue()
    assert f"[{'#' * 24}] 64 of 64 rows, 0 s left\n64 done. " in shown.getvalue()


@pytest.mark.parametrize(
    ("options", "table", "says"),
    [
        ([], "none.csv", "none.csv cannot be opened"),
        (["--name", "{x}.png"], "rows.jsonl", "the field {x}"),
        (["--set", "Load.image=x"], "rows.jsonl", "no node 'Load'"),
        (["--workers", "0"], "rows.jsonl", "--workers: invalid"),
        (["--engine", "x"], "rows.jsonl", "--engine: invalid choice"),
    ],
)
def test_bad_usage_is_2_and_nothing_is_made(batch, capsys, options, table, says):
    try:
        code, _, err = batch(*options, table=table)
    except SystemExit as end:
        code, err = end.code, capsys.readouterr().err.splitlines()
    assert (code, len(err)) == (2, 1)
    assert says in err[0]
    assert not Path("out").exists()


def test_a_library_that_is_missing_is_named_with_what_installs_it(batch, monkeypatch):
    monkeypatch.setattr(extra, "find_spec", lambda name: None)
    code, _, err = batch()
    assert code == 2
    assert err == [
        "wuerstchen: error: This needs pyarrow, which is not installed. "
        "In this project's folder, `pip install -e '.[batch]'`."
    ]


def test_retry_failed_runs_them_again(batch):
    rows = write_rows([{"id": "b", "Load Image.image": "late.png"}, {"id": "c"}])
    assert batch(table=rows)[0] == 5
    Path("1.png").rename("late.png")
    assert batch(table=rows)[0] == 5
    assert batch("--retry-failed", table=rows)[0] == 0
    assert manifest()[0]["attempts"] == 2


def test_rows_that_are_tried_again_are_counted_once(batch):
    rows = write_rows([{"id": "a", "Load Image.image": "1.png"}, {"id": "b", "Load Image.image": "none.png"}])
    assert batch(table=rows)[0] == 5
    _, _, err = batch("--retry-failed", table=rows)
    assert "1 of 2 rows were finished earlier." in err
    _, out, _ = batch("--retry-failed", "--json", table=rows)
    assert json.loads(out[0]) == {"event": "batch", "rows": 2, "left": 1}


def test_what_is_for_ray_alone_is_refused_without_it(batch):
    for option in ("--layout=staged", "--address=auto"):
        code, _, err = batch(option)
        assert code == 2 and "--engine ray" in err[-1]
