"""Attacks on the command, and what each of them has to end in."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from wuerstchen_nodes.headless import cli
from wuerstchen_nodes.headless.report import BACKEND_UNAVAILABLE, BAD_USAGE, FAILED, INVALID_WORKFLOW, WEIGHTS_MISSING

REFUSALS = frozenset({FAILED, BAD_USAGE, INVALID_WORKFLOW, WEIGHTS_MISSING, BACKEND_UNAVAILABLE})
"""Exit codes of a command that says in one line what is wrong."""
SECONDS = 30
"""Longest time of the processor that an attack may take. On a free machine none takes 10."""
_UNEXPECTED = re.compile(r"unexpected \w+: ")
"""Line by which the command reports an error that nobody has thought of."""
WAITED = 180
"""Seconds after which an attack counts as a hang."""
MEBIBYTES = 1024
"""Most memory that a process may have taken at its peak."""


class HangError(BaseException):
    """An attack took too long; no code catches it."""


@contextmanager
def within(seconds: float = WAITED) -> Iterator[None]:
    """End what takes longer than it may. Raises: HangError."""

    def end(*_: object) -> None:
        raise HangError(f"more than {seconds} seconds")

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def check_refusal(code: Any, error: str, codes: frozenset[int] = REFUSALS) -> None:
    """Check that a command has ended with one of the exit codes and says why in one clear line."""
    assert "Traceback" not in error and not _UNEXPECTED.search(error), error[-2000:]
    assert code in codes, f"exit code {code}: {error[-2000:]}"
    errors = [line for line in error.splitlines() if line.startswith("wuerstchen: error: ")]
    assert len(errors) == 1 and len(errors[0]) > len("wuerstchen: error: "), error[-2000:]
    assert len(error) < 20_000, f"{len(error)} characters"


class Attack:
    """Runs the command against bad input, and counts how often.

    Attributes:
        inputs: Number of inputs that were tried.
    """

    def __init__(self, capsys: Any) -> None:
        self.inputs = 0
        self._capsys = capsys

    def here(self, *arguments: object, codes: frozenset[int] = REFUSALS, may_succeed: bool = False) -> tuple[int, str]:
        """Run the command in this process; return its exit code and its stderr.

        Args:
            arguments: Arguments of `wuerstchen`.
            codes: Exit codes that are right.
            may_succeed: Whether exit code 0 is right, too.
        """
        self.inputs += 1
        with within():
            try:
                code: Any = cli.main([str(each) for each in arguments])
            except SystemExit as end:
                code = end.code
        error = self._capsys.readouterr().err
        if not (may_succeed and code == 0):
            check_refusal(code, error, codes)
        return code, error

    def alone(
        self,
        *arguments: object,
        codes: frozenset[int] = REFUSALS,
        may_succeed: bool = False,
        stdin: bytes = b"",
        seconds: float = SECONDS,
        environment: Mapping[str, str] | None = None,
    ) -> tuple[int, str]:
        """Run the command in a process of its own, whose time and memory are bounded. Arguments as for `here`.

        Args:
            stdin: What is piped into it.
            seconds: Longest time of the processor that it may take.
            environment: Further environment variables.
        """
        self.inputs += 1
        command = [sys.executable, "-m", "wuerstchen_nodes", *(os.fsencode(str(each)) for each in arguments)]
        code, error, taken, peak = run_alone(command, stdin, environment=environment)
        assert peak < MEBIBYTES, f"{peak} MiB"
        assert taken < seconds, f"{taken} s"
        if not (may_succeed and code == 0):
            check_refusal(code, error, codes)
        return code, error


def run_alone(
    command: list[Any], stdin: bytes = b"", waited: float = WAITED, environment: Mapping[str, str] | None = None
) -> tuple[int, str, float, int]:
    """Run a program; return its exit code, its stderr, its seconds of the processor and its peak of memory in MiB.

    Raises:
        HangError: It took longer than `waited` seconds.
    """
    log, piped = Path("stderr.txt"), Path("stdin.bin")
    piped.write_bytes(stdin)
    with log.open("wb") as stderr, piped.open("rb") as content:
        process = subprocess.Popen(
            command,
            stdin=content,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            env={**os.environ, **(environment or {})},
        )
        deadline = time.monotonic() + waited
        peak = 0
        while True:
            peak = max(peak, _peak_of(process.pid))
            ended, status, usage = os.wait4(process.pid, os.WNOHANG)
            if ended:
                break
            if time.monotonic() > deadline:
                process.kill()
                process.wait()
                raise HangError(f"{command[2:]}: more than {waited} seconds")
            time.sleep(0.01)
    process.returncode = os.waitstatus_to_exitcode(status)
    error = log.read_text(encoding="utf-8", errors="replace")
    log.unlink()
    piped.unlink()
    return process.returncode, error, usage.ru_utime + usage.ru_stime, peak


def _peak_of(process: int) -> int:
    """Return the most memory in MiB that a running process has had; 0 where it has ended."""
    # Not what `wait4` says, which begins with the memory of the process that started it.
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) // 1024 for line in lines if line.startswith("VmHWM")), 0)


def files_outside(folder: Path, allowed: Callable[[Path], bool]) -> list[Path]:
    """Return the files below a folder that were not allowed there."""
    return [path for path in folder.rglob("*") if path.is_file() and not allowed(path)]
