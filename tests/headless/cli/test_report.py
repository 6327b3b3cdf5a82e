"""Warnings of a command: short, once, and never in the line of a progress bar."""

import io
import logging
import warnings

import pytest
from tqdm import tqdm

from wuerstchen_nodes.headless.report import Report


@pytest.mark.filterwarnings("default")
def test_a_warning_is_one_line_without_its_source_and_appears_once(capsys):
    with Report(quiet=True):
        for _ in range(2):
            for text in ("the end is cut\nmore about it", "another"):
                warnings.warn(text, UserWarning, stacklevel=1)
            logging.getLogger("wuerstchen_core.text").warning("the end is %s", "cut")
        logging.getLogger("wuerstchen_core.text").info("not when quiet")
    assert capsys.readouterr().err == "warning: the end is cut\nwarning: another\n"


@pytest.mark.filterwarnings("default")
def test_python_s_own_warnings_are_as_before_after_the_command():
    shown = warnings.showwarning
    with Report():
        assert warnings.showwarning is not shown
    assert warnings.showwarning is shown


@pytest.mark.filterwarnings("default")
def test_no_line_begins_behind_a_bar(monkeypatch):
    terminal = io.StringIO()
    monkeypatch.setattr("sys.stderr", terminal)
    with Report() as report, tqdm(total=3, file=terminal, desc="Stage C", ncols=60, mininterval=0) as bar:
        bar.update()
        warnings.warn("a size", stacklevel=1)
        report.note("a note")
        bar.update()
        report.warn("the last")
    text = terminal.getvalue()
    for line in ("warning: a size", "a note", "warning: the last"):
        before = text[: text.index(line)]
        assert before.endswith(("\r", "\n")), repr(before[-80:])
        assert not before.rpartition("\n")[2].rpartition("\r")[2].strip()
        assert text[text.index(line) + len(line)] == "\n"
