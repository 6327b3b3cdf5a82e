"""A warm server: the commands of other shells run in it, as they would by themselves."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from wuerstchen_nodes.headless.cli import warm
from wuerstchen_nodes.headless.cli.serve import ask_to_end

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs sockets in the file system")

SLOW_SERVER = """
import sys, time
from wuerstchen_nodes.headless.cli.serve import Server
from wuerstchen_nodes.headless.report import Report

def run(arguments, executor):
    print("taken", flush=True)
    time.sleep(60 if "slow" in arguments else 0)
    return 7

Server(run, Report(), 30).serve()
"""
"""A server whose commands wait, and do nothing else."""
CLIENT = "import sys; from wuerstchen_nodes.headless.cli import warm; print('code', warm.hand_over(sys.argv[1:]))"


@pytest.fixture
def runtime(tmp_path, monkeypatch):
    """The folder of the socket, which is the tests' own."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return tmp_path


def _started(command: list[str]) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, *command], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and "Serving on" in process.stdout.readline()
    return process


def _ended(process: subprocess.Popen[str]) -> int:
    process.terminate()
    process.communicate(timeout=30)
    return process.returncode


@pytest.fixture
def server(runtime):
    process = _started(["-m", "wuerstchen_nodes.headless.cli", "serve", "--idle", "60s"])
    yield process
    _ended(process)


@pytest.fixture
def slow_server(runtime):
    process = _started(["-c", SLOW_SERVER])
    yield process
    _ended(process)


def _command(*arguments: str, **options) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "wuerstchen_nodes.headless.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, **options)


def _client(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", CLIENT, *arguments], stdout=subprocess.PIPE, text=True)


def test_the_second_picture_is_warm_and_the_same(server, tiny):
    alone = _command("run", *tiny, "--quiet", "--no-server", "--no-cache", "--out", "alone.png")
    assert (alone.returncode, alone.stdout, alone.stderr) == (0, "alone.png\n", "")
    for name in ("first.png", "second.png"):
        done = _command("run", *tiny, "--no-cache", "--out", name)
        assert (done.returncode, done.stdout) == (0, f"{name}\n")
        assert Path(name).read_bytes() == Path("alone.png").read_bytes()
        assert ("Loading Stage C" in done.stderr) == (name == "first.png"), "networks are kept"


def test_errors_and_streams_are_those_of_the_command(server, tiny):
    wrong = _command("run", *tiny, "--set", "nothing")
    assert wrong.returncode == 2 and wrong.stdout == ""
    assert wrong.stderr.startswith("wuerstchen: error: --set got 'nothing'")
    piped = subprocess.run(
        [sys.executable, "-m", "wuerstchen_nodes.headless.cli", "generate", "--steps", "2", "--quiet"],
        input=b"a red heart on a white background",
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert piped.stderr == b""
    assert piped.stdout.startswith(b"\x89PNG")


def test_an_interruption_reaches_the_command_and_spares_the_server(slow_server):
    client = _client("slow")
    assert client.stdout is not None and client.stdout.readline() == "taken\n"
    client.send_signal(signal.SIGINT)
    assert client.communicate(timeout=30)[0] == "code 130\n"
    gone = _client("slow")
    assert gone.stdout is not None and gone.stdout.readline() == "taken\n"
    gone.kill()
    gone.communicate(timeout=30)
    deadline = time.monotonic() + 30
    while (answer := _client("fast").communicate(timeout=30)[0]) == "code None\n" and time.monotonic() < deadline:
        time.sleep(0.1)  # the server still ends the command of the client that is gone
    assert answer == "taken\ncode 7\n"


def test_a_busy_server_leaves_others_to_themselves(slow_server):
    client = _client("slow")
    assert client.stdout is not None and client.stdout.readline() == "taken\n"
    assert _client("fast").communicate(timeout=30)[0] == "code None\n"
    client.send_signal(signal.SIGINT)
    client.communicate(timeout=30)


def test_a_server_that_dies_is_told_in_one_line(slow_server):
    client = subprocess.Popen(
        [sys.executable, "-c", CLIENT, "slow"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert client.stdout is not None and client.stdout.readline() == "taken\n"
    slow_server.kill()
    out, err = client.communicate(timeout=30)
    assert (out, err) == ("code 1\n", "wuerstchen: error: the server ended before the command did. Run it again.\n")


def test_other_code_and_other_threads_are_refused(slow_server, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert _client("fast").communicate(timeout=30)[0] == "code None\n"
    monkeypatch.setattr(warm, "fingerprint", lambda: "of other code")
    assert warm.hand_over(["fast"]) is None


def test_a_folder_that_others_can_enter_is_not_used(slow_server, runtime, capfd):
    (runtime / "wuerstchen-serve").chmod(0o755)
    assert warm.hand_over(["fast"]) is None
    assert not ask_to_end()
    refused = _command("serve")
    assert refused.returncode == 2 and "is not yours alone" in refused.stderr


def test_without_a_server_commands_run_by_themselves(runtime, slow_server):
    assert _client("fast").communicate(timeout=30)[0] == "taken\ncode 7\n"
    slow_server.kill()
    slow_server.wait(timeout=30)
    assert warm.hand_over(["fast"]) is None, "a socket whose server is gone"


def test_one_server_a_user_and_an_end_on_demand_or_when_idle(server):
    second = _command("serve")
    assert second.returncode == 2 and "A server is there already" in second.stderr
    stopped = _command("serve", "--stop")
    assert (stopped.returncode, stopped.stdout) == (0, "The server ends\n")
    assert server.wait(timeout=30) == 0
    assert _command("serve", "--stop").stdout == "There is no server\n"
    short = _command("serve", "--idle", "1s")
    assert short.returncode == 0 and not warm.place().exists()
