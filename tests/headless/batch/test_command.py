"""`wuerstchen batch`, from its arguments to its output."""

import io
import json
import logging
import random
import re
from pathlib import Path

import pytest

from support.batches import COPIES, manifest, write_copying, write_rows
from wuerstchen_nodes.headless import cli, extras
from wuerstchen_nodes.headless.batch import progress, row

pytestmark = pytest.mark.usefixtures("inline")


@pytest.fixture
def batch(capsys):
    """Return a function that runs the command in this process: exit code, lines on stdout, lines on stderr.

    The files none.png and gone.png are no images, so that rows with them fail when they run.
    """
    write_copying()
    for name in ("none", "gone"):
        Path(f"{name}.png").write_text("no image")

    def command(*options: str, table="rows.jsonl"):
        code = cli.main(["batch", "copy.json", str(table), "--out", "out", *options])
        printed = capsys.readouterr()
        return code, printed.out.splitlines(), printed.err.splitlines()

    return command


def test_each_file_is_printed_and_the_code_is_0(batch):
    code, out, err = batch()
    assert (code, out) == (0, [f"out/{number}.png" for number in COPIES])
    assert err[-1] == "64 done. Images: out/index.html, details of each row: out/manifest.parquet"
    code, out, err = batch("--quiet")
    assert (code, out, err) == (0, [], [])


def test_a_failure_is_printed_and_the_code_is_5(batch):
    rows = write_rows([{"id": "a", "Load Image.image": "1.png"}, {"id": "b", "Load Image.image": "none.png"}])
    code, out, err = batch(table=rows)
    assert (code, out) == (5, ["out/a.png"])
    assert any(line.startswith("row b failed: Node 1 (LoadImage) failed: ") and "none.png" in line for line in err)
    assert err[-1].startswith("warning: 1 done, 1 failed. ")


def test_with_json_there_is_one_object_per_row(batch):
    rows = write_rows([{"id": "b", "Load Image.image": "none.png"}, {"id": "a", "Load Image.image": "1.png"}])
    code, out, _ = batch("--json", "--name", "p/{id}.png", table=rows)
    start, failed, done, end = (json.loads(line) for line in out)
    assert start == {"event": "batch", "rows": 2, "left": 2}
    assert (failed["id"], failed["status"], failed["files"]) == ("b", "failed", [])
    assert (done["id"], done["status"], done["files"], done["error"]) == ("a", "done", ["out/p/a.png"], None)
    assert (code, end["counts"]) == (5, {"failed": 1, "done": 1})


class Terminal(io.StringIO):
    """Terminal that keeps everything it was sent."""

    def isatty(self) -> bool:
        return True

    def screen(self) -> list[str]:
        """Return the lines that stay visible, where "\\r" goes back to the start of a line."""
        lines = []
        for line in self.getvalue().removesuffix("\n").split("\n"):
            shown = ""
            for part in line.split("\r"):
                shown = part + shown[len(part) :]
            lines.append(shown.rstrip())
        return lines


BAR = re.compile(r"\s*(\d+)%\|[^|]*\| (\d+)/(\d+) \[\S+, (\d+ failed, )?(?:measuring the time left|[^,]+ left)\]")
"""Bar with rows done, the number of failed rows, and the time left."""


@pytest.fixture
def on_terminal(monkeypatch):
    """Return a function that makes stderr a terminal. Called in the test itself: pytest captures anew after setup."""

    def show() -> Terminal:
        monkeypatch.setattr("sys.stderr", shown := Terminal())
        return shown

    return show


def test_a_terminal_has_a_bar_and_no_list(batch, on_terminal, monkeypatch):
    terminal = on_terminal()
    monkeypatch.setattr("sys.stdout", listed := Terminal())
    assert batch()[0] == 0
    assert listed.getvalue() == ""
    steps = [match.groups() for match in BAR.finditer(terminal.getvalue())]
    assert steps[0] == ("0", "0", "64", None)
    assert len({done for _, done, _, _ in steps}) > 2
    bar, end = terminal.screen()
    shown = BAR.fullmatch(bar)
    assert shown is not None and shown.groups() == ("100", "64", "64", None)
    assert end.startswith("64 done. ")


@pytest.mark.parametrize("option", ["--json", "--debug"])
def test_no_line_touches_the_bar(batch, on_terminal, monkeypatch, option):
    terminal = on_terminal()
    draw = row.RowRunner.draw

    def warned(self, task, given=None):
        logging.getLogger(row.__name__).warning("careful with row %d", task.row)
        return draw(self, task, given)

    monkeypatch.setattr(row.RowRunner, "draw", warned)
    if option == "--json":
        monkeypatch.setattr("sys.stdout", terminal)
    rows = write_rows([{"Load Image.image": f"{name}.png"} for name in ("1", "none", "2", "gone")])
    code, out, _ = batch(option, table=rows)
    assert code == 5
    lines = terminal.screen()
    assert len([line for line in lines if line.startswith("warning: careful with row ")]) == 4
    assert len([line for line in lines if line.startswith("row ")]) == 2
    if option == "--json":
        printed = [json.loads(line) for line in lines if line.startswith("{")]
        assert [each["event"] for each in printed] == ["batch", *["row"] * 4, "done"]
    else:
        assert out == ["out/1.png", "out/3.png"]
    bars = [line for line in lines if "%" in line]
    shown = BAR.fullmatch(bars[0])
    assert len(bars) == 1 and shown is not None and shown.groups() == ("100", "4", "4", "2 failed, ")


def test_a_resumed_batch_starts_its_bar_at_the_finished_rows(batch, on_terminal):
    rows = write_rows([{"Load Image.image": f"{name}.png"} for name in ("1", "none", "2", "3")])
    assert batch(table=rows)[0] == 5
    terminal = on_terminal()
    assert batch("--retry-failed", table=rows)[0] == 5
    steps = [match[2] for match in BAR.finditer(terminal.getvalue())]
    assert (steps[0], steps[-1]) == ("3", "4")
    terminal = on_terminal()
    assert batch(table=rows)[0] == 5
    assert not BAR.search(terminal.getvalue())


def test_quiet_shows_no_bar(batch, on_terminal):
    terminal = on_terminal()
    assert batch("--quiet")[0] == 0
    assert terminal.getvalue() == ""


def test_without_a_terminal_progress_is_lines(batch, monkeypatch):
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_LINES", 0)
    _, _, err = batch()
    lines = [line for line in err if " rows, " in line]
    assert len(lines) == 64
    assert lines[-1] == "64 of 64 rows, 0 s left"


@pytest.mark.parametrize(
    ("options", "table", "says"),
    [
        ([], "none.csv", "none.csv cannot be opened"),
        (["--name", "{x}.png"], "rows.jsonl", "the field {x}"),
        (["--set", "Load.image=x"], "rows.jsonl", "no node 'Load'"),
        (["--workers", "0"], "rows.jsonl", "--workers: expected a whole number"),
        (["--engine", "x"], "rows.jsonl", "--engine: expected one of local, ray"),
    ],
)
def test_bad_usage_is_2_and_nothing_is_written(batch, capsys, options, table, says):
    try:
        code, _, err = batch(*options, table=table)
    except SystemExit as end:
        code, err = end.code, capsys.readouterr().err.splitlines()
    assert (code, len(err)) == (2, 1)
    assert says in err[0]
    assert not Path("out").exists()


def test_a_missing_library_is_named_with_the_command_that_installs_it(batch, monkeypatch):
    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    code, _, err = batch()
    assert code == 2
    assert err == [
        "wuerstchen: error: This needs pyarrow, which is not installed. "
        "In this project's folder, run `pip install -e '.[batch]'`."
    ]


def test_retry_failed_runs_them_again(batch):
    rows = write_rows([{"id": "b", "Load Image.image": "none.png"}, {"id": "c", "Load Image.image": "2.png"}])
    assert batch(table=rows)[0] == 5
    Path("1.png").replace("none.png")
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


def test_options_of_ray_are_refused_for_another_engine(batch):
    for option in ("--layout=staged", "--address=auto"):
        code, _, err = batch(option)
        assert code == 2 and "--engine ray" in err[-1]


def test_bad_cells_are_listed_before_anything_runs(batch):
    rows = write_rows([{"Load Image.image": f"{name}.png"} for name in ("1", *(f"x{number}" for number in range(12)))])
    code, out, err = batch(table=rows)
    assert (code, out) == (2, [])
    assert err[0] == (
        "wuerstchen: error: rows.jsonl: 12 of 13 rows cannot run, and nothing was drawn. Correct them, or pass "
        "--skip-bad:"
    )
    assert err[1].startswith("  line 2 (id 2): Load Image.image is 'x0.png': ")
    assert (len(err), err[-1]) == (12, "  ... and 2 more")
    assert not Path("out").exists()
    _, out, _ = batch("--json", table=rows)
    assert [json.loads(line)["event"] for line in out] == [*["bad_row"] * 12, "error"]


def test_the_others_run_without_bad_rows(batch):
    rows = write_rows([{"Load Image.image": f"{name}.png"} for name in ("1", "nowhere", "2")])
    code, out, err = batch("--skip-bad", table=rows)
    assert (code, out) == (5, ["out/1.png", "out/3.png"])
    assert "1 of 3 rows cannot run and are skipped:" in err
    assert [each["status"] for each in manifest()] == ["done", "bad", "done"]
    assert "nowhere.png" in manifest()[1]["error"]


def test_a_limit_leaves_rows_for_the_next_run(batch):
    code, out, err = batch("--limit", "2")
    assert (code, len(out)) == (0, 2)
    assert "2 of 64 rows run now (--limit)." in err
    assert err[-1].startswith("2 done, 62 pending. ")
    code, out, err = batch("--limit", "3")
    assert (code, out) == (0, ["out/3.png", "out/4.png", "out/5.png"])
    assert "2 of 64 rows were finished earlier." in err


def test_a_random_order_is_that_of_its_seed(batch):
    _, first, _ = batch("--limit", "3", "--shuffle", "7", "--dry-run", "--json")
    assert json.loads(first[-1])["would_run"] == 3
    _, out, _ = batch("--limit", "3", "--shuffle", "7")
    order = list(range(1, 65))
    random.Random(7).shuffle(order)
    assert out == [f"out/{number}.png" for number in order[:3]]
    _, _, err = batch("--limit", "1", "--shuffle")
    assert re.fullmatch(r"Order of the rows: --shuffle \d+", err[0])


def test_a_dry_run_says_what_would_run_and_how_long_and_writes_nothing(batch):
    code, out, _ = batch("--dry-run")
    assert (code, out[0]) == (0, "64 of 64 rows would run, 0 are finished.")
    assert out[1].startswith("No time is known")
    assert not Path("out").exists()
    batch("--limit", "4")
    before = {path: path.stat().st_mtime_ns for path in Path("out").rglob("*") if path.is_file()}
    rows = Path("rows.jsonl").read_text().splitlines()
    Path("rows.jsonl").write_text("\n".join([rows[0], *rows[2:], '{"id": "new"}']))
    code, out, _ = batch("--dry-run", "--workers", "2")
    assert out[0] == "1 row is new, 1 was removed; 63 of 64 stay."
    assert out[1] == "61 of 64 rows would run, 3 are finished."
    assert re.fullmatch(
        r"About .* s with 2 workers, and loading: \S+ s a row, the mean of 3 rows drawn here .*", out[2]
    )
    _, out, _ = batch("--dry-run", "--json", "--limit", "10")
    (forecast,) = (json.loads(line) for line in out)
    assert (forecast["would_run"], forecast["waiting"], forecast["finished"]) == (10, 51, 3)
    assert forecast["changes"] == {"changed": 0, "new": 1, "removed": 1, "renamed": 0, "stay": 63}
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_sheet_shows_the_images_and_is_replaced_by_the_next(batch):
    rows = write_rows([{"id": str(number), "Load Image.image": f"{number}.png"} for number in range(1, 50)])
    assert batch("--limit", "2", "--sheet", "s.png", table=rows)[1][-1] == "s.png"
    first = Path("s.png").read_bytes()
    assert batch("--sheet", "s.png", table=rows)[1][-2:] == ["s.png", "s_2.png"]
    assert Path("s.png").read_bytes() != first
    Path("s.png").write_bytes(Path("1.png").read_bytes())
    code, _, err = batch("--sheet", "s.png", table=rows)
    assert (code, Path("s.png").read_bytes()) == (2, Path("1.png").read_bytes())
    assert "s.png exists and is no contact sheet" in err[0]
    code, _, err = batch("--sheet", "s.jpg", table=rows)
    assert (code, "expected a path that ends in .png" in err[0]) == (2, True)
