"""Folders that the environment or an option names: homes of no user, names that are too long, links to nothing."""

import json
from pathlib import Path

import pytest

from support.workflows import node
from wuerstchen_core.checkpoints.sources import presence
from wuerstchen_core.files.places import expanded
from wuerstchen_nodes.headless.execution.executor import Executor
from wuerstchen_nodes.headless.report import BAD_USAGE, FAILED, INVALID_WORKFLOW

NOBODY = "~no-such-user/x"
LONG = "n" * 300


def test_a_home_of_nobody_stays_as_it_is(monkeypatch, tried):
    monkeypatch.setenv("HOME", "/home/me")
    assert expanded("~/x") == Path("/home/me/x")
    for path in (NOBODY, "~a\0b/x", "~\ud800/x", "~\udce9", "", "x~"):
        tried(1)
        assert expanded(path) == Path(path)


@pytest.mark.parametrize("value", [NOBODY, LONG, f"{LONG}/x"])
@pytest.mark.parametrize("name", ["WUERSTCHEN_CACHE", "WUERSTCHEN_MODELS", "XDG_CACHE_HOME"])
@pytest.mark.parametrize("verb", [["cache"], ["info"], ["_complete", "model", ""], ["validate", "w.json"]])
def test_a_folder_that_cannot_be(attack, monkeypatch, verb, name, value):
    if name == "XDG_CACHE_HOME":
        monkeypatch.delenv("WUERSTCHEN_CACHE")
        monkeypatch.delenv("WUERSTCHEN_MODELS")
    monkeypatch.setenv(name, value)
    graph = {"1": node("WuerstchenLoadStageA", model="v2-base"), "2": node("PreviewImage", images=["1", 0])}
    Path("w.json").write_text(json.dumps(graph))
    attack.here(*verb, may_succeed=True)


def test_a_cache_of_hugging_face_that_cannot_be(monkeypatch, tried):
    tried(1)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", NOBODY)
    assert any(part.path is None for part in presence("v2-base"))


@pytest.mark.parametrize("model", [NOBODY, "~/absent", "~a\0b"])
def test_a_model_of_nobody(attack, model):
    attack.here("run", "--dry-run", "--set", f"Load Stage C.model={model}", codes=frozenset({INVALID_WORKFLOW}))
    attack.here("cache", "--cache", model, may_succeed=True)


@pytest.mark.parametrize("verb", ["cache", "info"])
def test_a_link_to_nothing_in_the_cache(attack, tmp_path, verb):
    (tmp_path / "cache" / "int8").mkdir(parents=True)
    for name in ("int8/a.safetensors", "a.safetensors", "b"):
        (tmp_path / "cache" / name).symlink_to("nothing")
    code, error = attack.here(verb, may_succeed=True)
    assert code == 0, error


@pytest.mark.parametrize("out", ["nothing", "nothing/x", "nothing/x.png", "loop", "loop/x.png", "file/x", "file/x.png"])
def test_an_output_that_is_a_link_to_nothing_is_refused_before_anything_is_drawn(attack, monkeypatch, out):
    Path("nothing").symlink_to("absent")
    Path("loop").symlink_to("loop")
    Path("file").touch()
    monkeypatch.setattr(Executor, "run", lambda *_, **__: pytest.fail("it was drawn"))
    _, error = attack.here("generate", "a red heart", "--out", out, codes=frozenset({FAILED}))
    assert "Cannot write to the output folder" in error


@pytest.mark.parametrize(
    "sheet", [f"{LONG}.png", "nothing.png", "loop.png", "nothing/x.png", "loop/x.png", "file/x.png"]
)
def test_a_sheet_that_cannot_be_written_is_refused_before_anything_is_drawn(attack, sheet):
    for name in ("nothing", "nothing.png"):
        Path(name).symlink_to("absent")
    for name in ("loop", "loop.png"):
        Path(name).symlink_to(name)
    Path("file").touch()
    Path("t.csv").write_text("prompt\na red heart\n")
    _, error = attack.here(
        "batch", "text_to_image", "t.csv", "--out", "out", "--sheet", sheet, codes=frozenset({BAD_USAGE})
    )
    assert "--sheet" in error and not Path("out").exists()


def test_a_current_folder_that_was_deleted_is_one_line(attack, tmp_path, monkeypatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    for verb in (["run", "--dry-run"], ["run"], ["slots"], ["generate", "a heart"]):
        _, error = attack.here(*verb, codes=frozenset({BAD_USAGE}))
        assert "The current folder cannot be used" in error
