"""Fixtures of the tests of the command: `wuerstchen` in this process, on tiny random checkpoints."""

import json
from pathlib import Path

import pytest

from support.workflows import QUICK_RUN, write_checkpoints
from wuerstchen_nodes.headless import cli
from wuerstchen_nodes.headless.workflow.documents import load_workflow


class Outcome:
    """Result of a command.

    Attributes:
        code: Exit code.
        out: Text on stdout.
        err: Text on stderr.
        lines: Lines of `out`.
    """

    def __init__(self, code, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err
        self.lines = out.splitlines()

    def events(self, kind: str) -> list[dict]:
        """Return the events of a kind that --json printed."""
        return [event for event in map(json.loads, self.lines) if event["event"] == kind]


@pytest.fixture
def wuerstchen(capsys):
    """Run the command in this process."""

    def command(*arguments) -> Outcome:
        try:
            code = cli.main([str(each) for each in arguments])
        except SystemExit as end:
            code = end.code
        return Outcome(code, *capsys.readouterr())

    return command


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """A model folder, and the --set options that put its checkpoints into the text-to-image example."""
    folder = tmp_path_factory.mktemp("models")
    settings = write_checkpoints(folder)
    return folder, [f"--set={key}={value}" for key, value in settings.items()] + [f"--set={each}" for each in QUICK_RUN]


@pytest.fixture
def tiny(models, monkeypatch) -> list[str]:
    """Options of a fast run with tiny checkpoints."""
    monkeypatch.setenv("WUERSTCHEN_MODELS", str(models[0]))
    return models[1]


@pytest.fixture
def generate_tiny(tiny, monkeypatch):
    """`generate` with the tiny checkpoints, through a copy of the example that names them."""
    from wuerstchen_nodes.headless.run import prepare
    from wuerstchen_nodes.headless.workflow import examples

    settings = dict(each.removeprefix("--set=").split("=") for each in tiny)
    prepared = prepare(load_workflow(examples.locate(None)), settings)
    assert prepared.workflow.editor is not None
    Path("tiny.json").write_text(json.dumps(prepared.workflow.editor))
    monkeypatch.setattr(examples, "locate", lambda name: Path("tiny.json"))
