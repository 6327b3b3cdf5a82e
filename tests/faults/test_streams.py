"""Standard streams that are closed, full, without a reader, or of an encoding that lacks most characters."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from support.workflows import node
from wuerstchen_nodes.headless import cli
from wuerstchen_nodes.headless.cli import parser
from wuerstchen_nodes.headless.execution.calls import Outputs
from wuerstchen_nodes.headless.execution.disk_cache import DiskCache
from wuerstchen_nodes.headless.report import BAD_USAGE, FAILED, INTERRUPTED

FULL = (
    "wuerstchen: error: The output cannot be written: No space left on device. Make room, or send it somewhere else.\n"
)


@pytest.fixture
def shell(tried):
    """Run the command in a shell, with redirections behind its arguments; stdout is buffered, as it is for a user."""

    def run(line: str, **environment: str) -> subprocess.CompletedProcess[str]:
        tried(1)
        kept = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
        return subprocess.run(
            ["bash", "-c", f"set -o pipefail; {shlex.quote(sys.executable)} -m wuerstchen_nodes {line}"],
            capture_output=True,
            encoding="utf-8",
            stdin=subprocess.DEVNULL,
            env={**kept, **environment},
            timeout=60,
            check=False,
        )

    return run


@pytest.mark.parametrize(
    "verb",
    ["--version", "--help", "_complete workflow", "slots", "convert text_to_image", "completion bash", "cache --json"],
)
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_disk_behind_stdout_is_one_line(shell, verb, unbuffered):
    done = shell(f"{verb} >/dev/full", PYTHONUNBUFFERED=unbuffered)
    assert (done.returncode, done.stderr) == (FAILED, FULL)


def test_a_full_disk_does_not_hide_another_error(shell):
    done = shell("validate nosuch --json >/dev/full")
    assert done.returncode == BAD_USAGE
    assert "No such file" in done.stderr and len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("verb", ["--version", "_complete workflow", "cache", "convert text_to_image"])
def test_a_reader_that_has_gone_ends_the_command_without_a_word(shell, verb):
    done = shell(f"{verb} | exec 0<&-")
    assert done.stderr == ""


def test_a_reader_that_has_gone_is_no_fault_of_the_cache(shell):
    DiskCache().put("a" * 64, Outputs([[np.zeros(1)]]))
    done = shell("cache | exec 0<&-")
    assert (done.returncode, done.stderr) == (FAILED, "")


@pytest.mark.parametrize(("arguments", "code"), [("validate nosuch", 2), ("nosuch", 2), ("slots", 0)])
@pytest.mark.parametrize("to", ["/dev/full", "&-"])
def test_stderr_that_cannot_be_written_changes_nothing(shell, arguments, code, to):
    done = shell(f"{arguments} 2>{to}")
    assert done.returncode == code
    assert "error" not in done.stdout and bool(done.stdout) == (code == 0)


@pytest.mark.parametrize(
    ("line", "code"), [("slots >&-", 0), ("generate --out o <&-", 2), ("slots <&- >&- 2>&-", 0), ("convert x >&-", 2)]
)
def test_a_closed_stream_leads_to_nowhere(shell, line, code):
    done = shell(line)
    assert done.returncode == code
    assert "unexpected" not in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "environment",
    [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}],
    ids=["PYTHONIOENCODING", "LC_ALL"],
)
def test_an_encoding_that_lacks_a_character_escapes_it(shell, environment):
    title = "h\u2665\U0001f600\u00e9"
    Path("uni.json").write_text(json.dumps({"1": node("PrimitiveString", title, value=title)}))
    listed = shell("slots uni.json", **environment)
    assert listed.returncode == 0, listed.stderr
    assert "h\\u2665\\U0001f600\\xe9" in listed.stdout
    converted = shell("convert uni.json", **environment)
    assert json.loads(converted.stdout)["1"]["inputs"]["value"] == title


def test_an_interruption_before_the_verb_begins_is_one_line(attack, monkeypatch, capsys):
    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr(parser, "build_parser", interrupted)
    assert cli.main(["slots"]) == INTERRUPTED
    assert capsys.readouterr().err == "wuerstchen: interrupted\n"


def test_little_is_imported_before_interruptions_are_caught():
    code = "import sys, wuerstchen_nodes.headless.cli; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    ours = {name for name in done.stdout.split() if name.startswith("wuerstchen_nodes.headless.cli.")}
    assert ours == {"wuerstchen_nodes.headless.cli.main"}
