"""The blocks of code in a README: what they are, which commands they run, and how to run them."""

import contextlib
import doctest
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
KINDS = {"sh", "python", "text", "csv", "json", "mermaid"}
"""Tags of blocks. Those of `sh` and `python` are run; the others are output, files or drawings."""
REMARKS = {"not run", "file", "exit code", "output varies"}
"""Words that an HTML comment directly above a block may begin with, before a colon."""
DRAWING = {"run", "generate", "batch"}
"""Verbs that draw, unless they only look ahead."""

_INSTALL = re.compile(r"^\s*(?:uv )?pip install [^&|;\n]*(?:&& *)?", re.M)
_TESTS = re.compile(r"^\s*pytest\b.*$", re.M)
_REMARK = re.compile(r"<!-- ([a-z ]+): ?(.*?) ?-->")
_ANY_LINES = re.compile(r"^\.\.\.\n", re.M)
_FLAGS = doctest.ELLIPSIS | doctest.REPORT_NDIFF


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        path: The README.
        line: Line of its first line.
        section: Heading of the second level above it.
        kind: Tag of the fence.
        text: Content, with a newline at the end.
        remarks: {word: rest} of the comment directly above it.
    """

    path: Path
    line: int
    section: str
    kind: str
    text: str
    remarks: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line}"

    @property
    def is_run(self) -> bool:
        """True for code that can run here."""
        return self.kind in ("sh", "python") and "not run" not in self.remarks

    @property
    def exit_code(self) -> int:
        """Exit code that its commands end with."""
        return int(self.remarks.get("exit code", 0))

    @property
    def script(self) -> str:
        """Its commands, without those that install something or start these tests."""
        return _TESTS.sub("", _INSTALL.sub("", self.text))


def blocks_of(path: Path) -> list[Block]:
    """Return the blocks of a README."""
    lines = path.read_text(encoding="utf-8").splitlines()
    found: list[Block] = []
    section, start = "", None
    for number, line in enumerate(lines):
        if line.startswith("```") and start is None:
            start = number
        elif line.startswith("```") and start is not None:
            remark = _REMARK.fullmatch(lines[start - 1]) if start else None
            text = "".join(f"{each}\n" for each in lines[start + 1 : number])
            remarks = {remark[1]: remark[2]} if remark else {}
            found.append(Block(path, start + 2, section, lines[start][3:].strip(), text, remarks))
            start = None
        elif start is None and line.startswith("## "):
            section = line[3:]
    return found


def commands_of(script: str) -> Iterator[list[str]]:
    """Yield the words of each simple command of a shell script, without variables before it and redirections."""
    for line in re.sub(r"([|\\])\n\s*", lambda match: match[1].strip("\\") + " ", script).splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        command: list[str] = []
        redirected = False
        for word in [*lexer, ";"]:
            if set(word) <= set("();|&"):
                if command:
                    yield command
                command = []
            elif set(word) <= set("<>") or redirected:
                redirected = not redirected
            elif command or not re.match(r"\w+=", word):
                command.append(word)


def draws(blocks: Sequence[Block]) -> bool:
    """Return whether running the blocks loads a network, which takes seconds."""
    for block in blocks:
        if not block.is_run or block.exit_code:
            continue
        if block.kind == "python":
            return True
        for program, *words in commands_of(block.script):
            if program == "python" or (program == "wuerstchen" and DRAWING & {*words} and "--dry-run" not in words):
                return True
    return False


class Reader:
    """Somebody who copies the blocks of a README into a shell and into Python, one after the other.

    Args:
        folder: New folder to work in. It gets copies of the folders that commands name.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._names: dict[str, Any] = {"__name__": "__main__"}
        for name in ("workflows", "tests"):
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        self._programs = folder / ".bin"
        self._programs.mkdir()
        for name, words in (("python", ""), ("wuerstchen", " -m wuerstchen_nodes.headless.cli")):
            program = self._programs / name
            program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)}{words} "$@"\n', encoding="utf-8")
            program.chmod(0o755)

    @property
    def environment(self) -> dict[str, str]:
        """Variables to set: this interpreter's programs, an empty home, and no network."""
        return {
            "PATH": f"{self._programs}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(self._folder / "home"),
            "XDG_CACHE_HOME": str(self._folder / "home/.cache"),
            "WUERSTCHEN_MODELS": "",
            "WUERSTCHEN_CACHE": "",
            "HF_HUB_OFFLINE": "1",
        }

    def follow(self, blocks: Sequence[Block]) -> None:
        """Run the blocks in order, and compare the output with the text block after it.

        Raises:
            AssertionError: A command ends with another exit code, or prints something else.
        """
        output: str | None = None
        for block in blocks:
            if "file" in block.remarks:
                (self._folder / block.remarks["file"]).write_text(block.text, encoding="utf-8")
            elif block.is_run:
                output = self._shell(block) if block.kind == "sh" else self._python(block)
                continue
            elif block.kind == "text" and output is not None and "output varies" not in block.remarks:
                _compare(block, output)
            output = None

    def _shell(self, block: Block) -> str:
        done = subprocess.run(
            ["bash", "-e", "-o", "pipefail", "-c", block.script],
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            check=False,
        )
        assert done.returncode == block.exit_code, f"{block} ended with {done.returncode}:\n{done.stdout}"
        return done.stdout

    def _python(self, block: Block) -> str:
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            exec(compile(block.text, str(block), "exec"), self._names)
        return output.getvalue()


def _compare(block: Block, output: str) -> None:
    """Compare printed lines with those of a block, where ... stands for anything, and alone for any lines."""
    example = doctest.Example("", _ANY_LINES.sub("...", block.text))
    checker = doctest.OutputChecker()
    assert checker.check_output(example.want, output, _FLAGS), (
        f"{block} shows another output than the commands above it print:\n{output}"
    )
