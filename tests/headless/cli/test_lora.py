"""LoRAs and merges in the shell: strengths, sweeps, files, the cache, and what is refused; and the verb `train`."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from support import loras
from support.loras import STYLES
from wuerstchen_core import load_stage_c
from wuerstchen_nodes.headless import HeadlessHost, execute, load_workflow, prepare
from wuerstchen_nodes.headless.output_files import OutputFiles

FEW = {"Stage C Sampler.steps": 3}
LESS = [word for name, value in FEW.items() for word in ("--set", f"{name}={value}")]
NO_LORA = ["Load LoRA.strength=0", "Load LoRA.text_strength=0"]


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image)


@pytest.fixture
def styled(tmp_path, monkeypatch):
    """The file of a LoRA that changes cocktail's pictures clearly, in a folder that is the current one."""
    monkeypatch.chdir(tmp_path)
    network = load_stage_c("cocktail")
    made = loras.pairs(network.state_dict(), loras.attention_layers(network.config.depth), seed=1)
    save_file(STYLES["diffusers"][0](made), tmp_path / "style.safetensors")
    return tmp_path / "style.safetensors"


def test_strength_0_is_the_picture_without(tmp_path):
    prepared = prepare(load_workflow("lora"), FEW).prompt
    (lora,) = (node for node, each in prepared.items() if each["class_type"] == "WuerstchenLoadLoRA")
    sources = [prepared[lora]["inputs"]["stage_c"], prepared[lora]["inputs"]["text_encoder"]]
    without = {
        node: {
            **each,
            "inputs": {
                name: sources[value[1]] if isinstance(value, list) and value[0] == lora else value
                for name, value in each["inputs"].items()
            },
        }
        for node, each in prepared.items()
        if node != lora
    }
    pictures = []
    for prompt, settings in ((without, {}), (prepared, {"Load LoRA.strength": 0, "Load LoRA.text_strength": 0})):
        path = tmp_path / f"{len(pictures)}.json"
        path.write_text(json.dumps(prompt))
        host = HeadlessHost(OutputFiles(tmp_path / "out"))
        pictures.append(pixels(execute(load_workflow(path), settings, host=host).images[0]))
    assert np.array_equal(*pictures)


def test_a_sweep_over_strength_draws_a_grid(wuerstchen, styled):
    given = [*LESS, "--set", "Load LoRA.name=style.safetensors", "--no-cache"]
    outcome = wuerstchen("run", "lora", *given, "--sweep", "Load LoRA.strength=0,0.5,1", "--grid", "sheet.png")
    assert outcome.code == 0, outcome.err
    first, second, third = (pixels(f"output/wuerstchen_0000{index}_.png").astype(int) for index in (1, 2, 3))
    assert np.abs(first - second).mean() > 1 and np.abs(second - third).mean() > 1
    assert pixels("sheet.png").shape[1] > 3 * 256


def test_the_cache_knows_strength_and_content(wuerstchen, styled):
    given = [*LESS, "--set", "Load LoRA.name=style.safetensors", "--cache", "cache", "--json"]

    def drawn(*more):
        outcome = wuerstchen("run", "lora", *given, *more)
        assert outcome.code == 0, outcome.err
        (event,) = outcome.events("saved")[-1:]
        return pixels(event["path"])

    first = drawn()
    assert np.array_equal(first, drawn())
    assert not np.array_equal(first, drawn("--set", "Load LoRA.strength=0.5"))
    network = load_stage_c("cocktail")
    made = loras.pairs(network.state_dict(), loras.attention_layers(network.config.depth), seed=2)
    save_file(STYLES["kohya"][0](made), styled)
    assert not np.array_equal(first, drawn())


@pytest.mark.parametrize(
    ("state", "code", "says"),
    [
        ({"unet.down.lora_A.weight": torch.ones(1, 1)}, 1, "looks like no LoRA of Würstchen"),
        ({"blocks.2.attention.to_q.lora_A.weight": torch.ones(1, 128)}, 1, "has no counterpart"),
    ],
)
def test_files_that_do_not_fit_are_one_line(wuerstchen, styled, state, code, says):
    save_file(state, styled)
    outcome = wuerstchen("run", "lora", *LESS, "--set", "Load LoRA.name=style.safetensors")
    assert outcome.code == code and says in outcome.err and "Traceback" not in outcome.err
    outcome = wuerstchen("run", "lora", *LESS, "--set", "Load LoRA.name=gone.safetensors")
    assert outcome.code == 3 and "'gone.safetensors' not in" in outcome.err


def test_a_lora_in_the_model_folder_is_listed(wuerstchen, styled, monkeypatch):
    folder = styled.parent / "models" / "loras" / "mine"
    folder.mkdir(parents=True)
    styled.rename(folder / "style.safetensors")
    monkeypatch.setenv("WUERSTCHEN_MODELS", str(styled.parent / "models"))
    assert HeadlessHost().lora_names() == ["mine/style.safetensors"] and HeadlessHost().model_names() == []
    outcome = wuerstchen("run", "lora", *LESS, "--set", "Load LoRA.name=mine/style.safetensors", "--quiet")
    assert outcome.code == 0, outcome.err


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    Image.new("RGB", (256, 256), (150, 225, 40)).save(folder / "1.png")
    (folder / "1.txt").write_text("a lime background")
    return folder


def test_training_prints_its_result(wuerstchen, pictures, tmp_path):
    given = ["--steps", "2", "--batch", "1", "--rank", "2", "--validate-every", "0"]
    outcome = wuerstchen("train", "lora", "--pictures", pictures, "--out", tmp_path / "out", *given, "--json")
    assert outcome.code == 0, outcome.err
    (event,) = outcome.events("trained")
    assert event["path"] == str(tmp_path / "out/lora.safetensors")
    (*_, last) = outcome.events("step")
    assert (last["step"], last["of"], last["seconds_left"]) == (2, 2, 0) and last["loss"] > 0


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["lora", "--pictures", "nowhere", "--out", "o"], 2, "nowhere does not exist; expected a folder of pictures"),
        (["lora", "--pictures", ".", "--out", "o"], 2, "holds no captioned image"),
        (
            ["lora", "--pictures", "pictures", "--out", "o", "--lr", "3"],
            2,
            "--lr: expected a number above 0",
        ),
        (["lora", "--pictures", "pictures", "--out", "o", "--model", "nope"], 4, "'nope' does not exist"),
        (["stage-d", "--pictures", "pictures", "--out", "o"], 2, "expected one of lora, stage-c, got stage-d"),
        (["lora", "--pictures", "pictures"], 2, "--out"),
    ],
)
def test_bad_starts_are_one_line(wuerstchen, tmp_path, monkeypatch, arguments, code, says):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    if "pictures" in arguments:
        (tmp_path / "empty/pictures").mkdir()
        Image.new("RGB", (256, 256)).save("pictures/1.png")
        (tmp_path / "empty/pictures/1.txt").write_text("black")
    outcome = wuerstchen("train", *arguments)
    assert outcome.code == code and says in outcome.err and len(outcome.err.strip().splitlines()) == 1
