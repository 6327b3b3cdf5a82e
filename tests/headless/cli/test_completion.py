"""Completion: the scripts that shells take, and the words that `wuerstchen _complete` offers."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support.workflows import node
from wuerstchen_core.checkpoints.presets import PRESETS
from wuerstchen_nodes.headless import cli
from wuerstchen_nodes.headless.cli.candidates import candidates
from wuerstchen_nodes.headless.workflow import examples


def script_of(shell, capsys) -> str:
    assert cli.main(["completion", shell]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_knows_verbs_and_options_and_the_shell_takes_it(shell, capsys, tmp_path):
    script = script_of(shell, capsys)
    for word in ("generate", "sweep", "comfyui", "_complete", "v2-interpolated"):
        assert word in script
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"there is no {shell} to ask whether the script is right")
    (tmp_path / "script").write_text(script)
    subprocess.run([program, "-n", "script"], check=True, cwd=tmp_path)


@pytest.fixture
def complete(capsys, tmp_path):
    """Return a function that completes command lines in bash, each given as the words that bash splits it into."""
    program = shutil.which("bash")
    if program is None:
        pytest.skip("there is no bash")
    (tmp_path / "script").write_text(script_of("bash", capsys))

    def lines(*asked: list[str]) -> list[list[str]]:
        code = f"""
        wuerstchen() {{ {sys.executable} -m wuerstchen_nodes.headless.cli "$@"; }}
        source ./script
        complete -p wuerstchen | grep -q 'F _wuerstchen wuerstchen' || exit 9
        ask() {{
          COMP_WORDS=(wuerstchen "$@") COMP_CWORD=$# COMPREPLY=()
          _wuerstchen
          (IFS='|'; echo "${{COMPREPLY[*]}}")
        }}
        """
        code += "\n".join("ask " + " ".join(f"'{word}'" for word in words) for words in asked)
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run([program, "-c", code], capture_output=True, text=True, env=environment, check=True)
        assert done.stderr == ""
        return [line.split("|") for line in done.stdout.splitlines()]

    return lines


def test_bash_completes_what_the_parser_knows(complete):
    assert complete(["gen"], ["run", "--sw"], ["download", "v2-i"], ["run", "--backend", "c"]) == [
        ["generate"],
        ["--sweep"],
        ["v2-interpolated"],
        ["comfyui"],
    ]


def test_bash_completes_workflows_inputs_and_models(complete, tmp_path):
    (tmp_path / "stage_mine.json").touch()
    (tmp_path / "stage_notes.txt").touch()
    assert complete(
        ["run", "stage_"],
        ["run", "wuerstchen_s"],
        ["run", "stage_reuse", "--set", '"Stage B Decode, seed 2.s'],
        ["run", "--set", "Stage\\ C\\ Sampler.se"],
        ["run", "--set", "Load\\ Stage\\ C.model", "=", "cocktail-a"],
        ["run", "--set", "Prompt.value", "=", "x", "--sw"],
        ["generate", "x", "--model", "v2-a"],
    ) == [
        ["stage_reuse", "stage_mine.json"],
        ["wuerstchen_stage_reuse"],
        ["Stage B Decode, seed 2.schedule=", "Stage B Decode, seed 2.seed=", "Stage B Decode, seed 2.steps="],
        ["Stage\\ C\\ Sampler.seed="],
        ["cocktail-aesthetic"],
        ["--sweep"],
        ["v2-aesthetic"],
    ]


def test_inputs_are_those_of_the_typed_workflow():
    typed = ["wuerstchen", "run", "--out", "text_to_image", "--json", "stage_reuse", "--set"]
    assert candidates("slot", "Stage B Decode, seed 2.c", typed) == ["Stage B Decode, seed 2.cfg="]
    assert candidates("slot", "Stage B Decode.c", ["run", "--set"]) == ["Stage B Decode.cfg="]
    assert candidates("slot", "Stage B Decode.c", ["run", "absent.json", "--set"]) == []
    assert candidates("slot", "8.st", ["run", "--set"]) == ["8.steps="]
    assert "Load Stage C.dtype=bfloat16" in candidates("slot", "Load Stage C.dtype=", ["run", "--set"])


def test_nodes_of_the_same_title_go_by_their_ids(tmp_path):
    prompt = {"1": node("PrimitiveInt", "Same", value=1), "2": node("PrimitiveInt", "same", value=2)}
    (tmp_path / "w.json").write_text(json.dumps(prompt))
    assert candidates("slot", "", ["run", "w.json", "--set"]) == ["1.value=", "2.value="]


def test_models_are_presets_and_those_of_the_model_folder(tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "mine.safetensors").touch()
    assert candidates("model", "", []) == sorted([*PRESETS, "mine.safetensors"])
    assert candidates("workflow", "", []) == examples.names()
    assert candidates("nonsense", "", []) == []


def test_the_hidden_verb_prints_words_and_nothing_else(capsys):
    assert cli.main(["_complete", "slot", "Stage C Sampler.w", "wuerstchen", "run", "--set"]) == 0
    assert capsys.readouterr().out == "Stage C Sampler.width=\n"
    Path("w.json").write_text("{")
    assert cli.main(["_complete", "slot", "x", "run", "w.json", "--set"]) == 0
    assert capsys.readouterr() == ("", "")
