"""Test finetuning of Stage C: resuming after kills, the files it writes, and settings that make no sense."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from support.reference import pipelines
from wuerstchen_core import (
    CheckpointError,
    InputError,
    WuerstchenError,
    apply_lora,
    load_lora,
    load_stage_c,
    load_text_encoder,
)
from wuerstchen_core.training import finetune
from wuerstchen_core.training.authors_loss import noise_loss, random_timesteps
from wuerstchen_core.training.cocktail import SHIPPED
from wuerstchen_core.training.encoded import read
from wuerstchen_core.training.finetune import Finetuning, Run
from wuerstchen_core.training.loop import train as real_train
from wuerstchen_core.training.world import Scene, draw, random_layout

LIME = {"lime": (150, 225, 40), "white": (250, 250, 250)}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    """A few captioned pictures of a colour that cocktail does not know, one of them of another shape."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for index, shape in enumerate(("circle", "star", "heart")):
        scene = Scene("lime", shape, "white")
        image = draw(scene, random_layout(scene, 256, 256, rng), colours=LIME)
        Image.fromarray((image * 255).round().astype(np.uint8)).save(folder / f"{index}.png")
        (folder / f"{index}.txt").write_text(scene.caption)
    with Image.open(folder / "0.png") as image:
        image.crop((0, 64, 256, 150)).save(folder / "wide.jpg")
    (folder / "wide.txt").write_text("a part of a lime circle")
    return folder


def settings(pictures: Path, out: Path, **changes) -> Finetuning:
    few = Finetuning("lora", "cocktail", pictures, out, steps=6, batch=2, rank=2, validate_every=0, save_every=2)
    return replace(few, **changes)


def weights(path: Path) -> dict[str, torch.Tensor]:
    return {key: change.delta() for key, change in load_lora(path).stage_c.items()}


class Killed(Exception):
    pass


def killing_at(step: int):
    """The real loop, but for a death at a step."""

    def train(*given, on_step, **more):
        def dying(done, loss):
            on_step(done, loss)
            if done == step:
                raise Killed

        return real_train(*given, on_step=dying, **more)

    return train


def test_a_run_that_dies_again_and_again_ends_with_the_same_weights(pictures, tmp_path, monkeypatch):
    whole = Run(settings(pictures, tmp_path / "whole")).run()
    for step in (1, 2, 3, 5, 5):
        monkeypatch.setattr(finetune, "train", killing_at(step))
        with pytest.raises(Killed):
            Run(settings(pictures, tmp_path / "broken")).run()
    monkeypatch.undo()
    broken = Run(settings(pictures, tmp_path / "broken")).run()
    assert broken.read_bytes() == whole.read_bytes()
    assert (tmp_path / "broken/loss.csv").read_text() == (tmp_path / "whole/loss.csv").read_text()


def test_another_seed_gives_other_weights(pictures, tmp_path):
    paths = [Run(settings(pictures, tmp_path / str(seed), seed=seed, steps=2)).run() for seed in (0, 1)]
    assert paths[0].read_bytes() != paths[1].read_bytes()


KILLER = """
import sys
from pathlib import Path
from wuerstchen_core.training.finetune import Finetuning, Run
Run(Finetuning("lora", "cocktail", Path(sys.argv[1]), Path(sys.argv[2]), steps=60, batch=2, rank=2, validate_every=20,
               save_every=5)).run()
"""


@pytest.mark.long
def test_five_kills_of_the_process_change_nothing(pictures, tmp_path):
    def command(out):
        return [sys.executable, "-c", KILLER, str(pictures), str(tmp_path / out)]

    subprocess.run(command("whole"), check=True)
    for part in (0.3, 0.5, 0.2, 0.7, 0.4):
        process = subprocess.Popen(command("broken"))
        before = progress(tmp_path / "broken")
        deadline = time.monotonic() + 120
        while progress(tmp_path / "broken") <= before and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(part)
        process.send_signal(signal.SIGKILL)
        process.wait()
    subprocess.run(command("broken"), check=True)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert (broken / "lora.safetensors").read_bytes() == (whole / "lora.safetensors").read_bytes()
    assert (broken / "validation/sheet.png").read_bytes() == (whole / "validation/sheet.png").read_bytes()


@pytest.mark.long
def test_two_processes_train_one_network(pictures, tmp_path):
    launch = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc_per_node",
        "2",
        "-m",
        "wuerstchen_nodes.headless.cli",
    ]
    places = ["--pictures", str(pictures), "--out", str(tmp_path / "out")]
    short = ["--steps", "3", "--batch", "1", "--rank", "2", "--validate-every", "0"]
    subprocess.run([*launch, "train", "lora", *places, *short], check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    alone = Run(settings(pictures, tmp_path / "alone", steps=3, batch=1, save_every=100)).run()
    both = tmp_path / "out/lora.safetensors"
    assert len(load_lora(both).stage_c) == len(load_lora(alone).stage_c)
    assert both.read_bytes() != alone.read_bytes(), "the second process has batches of its own"


def progress(out: Path) -> float:
    path = out / "progress.pt"
    return path.stat().st_mtime if path.is_file() else 0.0


def test_the_result_is_read_by_diffusers(pictures, tmp_path):
    path = Run(settings(pictures, tmp_path / "out", learning_rate=1e-2)).run()
    pipeline, _ = pipelines(SHIPPED)
    pipeline.load_lora_weights(str(path.parent), weight_name=path.name)
    ours = apply_lora(load_stage_c("cocktail"), load_lora(path))
    generator = torch.Generator().manual_seed(0)
    x, text = torch.randn(1, 16, 6, 6, generator=generator), torch.randn(1, 32, 128, generator=generator)
    ratio = torch.tensor([0.6])
    with torch.no_grad():
        expected, plain = pipeline.prior(x, ratio, text), load_stage_c("cocktail")(x, ratio, text)
        found = ours(x, ratio, text)
    assert float((found - expected).norm() / expected.norm()) < 1e-5
    assert float((plain - expected).norm() / expected.norm()) > 1e-3, "it has learned something"


def test_what_is_kept_beside_the_result(pictures, tmp_path):
    told = []
    run = Run(settings(pictures, tmp_path / "out", validate_every=3), lambda *step: told.append(step))
    path = run.run()
    assert [step for step, _, _ in told] == [1, 2, 3, 4, 5, 6]
    assert told[-1][2] == 0
    rows = list(csv.DictReader((tmp_path / "out/loss.csv").read_text().splitlines()))
    assert [int(row["step"]) for row in rows] == [1, 2, 3, 4, 5, 6] and all(float(row["loss"]) > 0 for row in rows)
    with Image.open(tmp_path / "out/loss.png") as plot, Image.open(tmp_path / "out/validation/sheet.png") as sheet:
        assert plot.width > 400
        assert sheet.size == (4 * 256, 72 + 3 * 280)
    lora = load_lora(path)
    assert lora.words == ("lime", "of", "part")
    encoder = load_text_encoder("cocktail")
    assert "lime" in encoder.unknown_words("a lime circle")
    assert not apply_lora(encoder, lora).unknown_words("a part of a lime circle")


def test_a_row_that_a_kill_left_out_is_drawn_when_the_run_goes_on(pictures, tmp_path, monkeypatch):
    whole = settings(pictures, tmp_path / "whole", validate_every=2)
    Run(whole).run()
    real = finetune.Validation.draw

    def draw(self, step, **more):
        if step == 4:
            raise Killed
        real(self, step, **more)

    broken = replace(whole, out=tmp_path / "broken")
    monkeypatch.setattr(finetune.Validation, "draw", draw)
    with pytest.raises(Killed):
        Run(broken).run()
    monkeypatch.undo()
    Run(broken).run()
    names = {path.name for path in (tmp_path / "whole/validation").iterdir()}
    assert names == {"sheet.png", *(f"step_00000{step}.png" for step in (0, 2, 4, 6))}
    for name in names:
        both = [(tmp_path / out / "validation" / name).read_bytes() for out in ("whole", "broken")]
        assert both[0] == both[1], name


def test_nothing_is_encoded_twice(pictures, tmp_path, monkeypatch):
    Run(settings(pictures, tmp_path / "out", steps=1)).run()
    monkeypatch.setattr(finetune, "load_image_encoder", lambda *given, **more: pytest.fail("it was loaded again"))
    assert Run(settings(pictures, tmp_path / "out", steps=1)).run().is_file()


def test_prompts_to_keep_are_drawn_first_and_only_once(pictures, tmp_path, monkeypatch):
    (tmp_path / "keep.txt").write_text("a red circle on a white background\n\na blue star on a black background\n")
    out = tmp_path / "out"
    path = Run(settings(pictures, out, keep=tmp_path / "keep.txt", steps=2)).run()
    drawn = sorted((out / "encoded/drawn").iterdir())
    assert len(drawn) == 2 and read(drawn[0]).shape == (16, 6, 6)
    without = Run(settings(pictures, tmp_path / "without", steps=2)).run()
    assert path.read_bytes() != without.read_bytes()
    monkeypatch.setattr(finetune, "sample_stage_c", lambda *given, **more: pytest.fail("it was drawn again"))
    Run(settings(pictures, out, keep=tmp_path / "keep.txt", steps=2)).run()
    with pytest.raises(InputError, match="holds another training, with another keep"):
        Run(settings(pictures, out, steps=2))
    (tmp_path / "keep.txt").write_text("\n")
    with pytest.raises(InputError, match=r"keep.txt holds no prompt; expected one a line"):
        Run(settings(pictures, tmp_path / "third", keep=tmp_path / "keep.txt"))


@pytest.mark.parametrize("loss", ["noise", "signal"])
def test_both_losses_learn(pictures, tmp_path, loss):
    told = []
    changes = {"loss": loss, "steps": 60, "learning_rate": 3e-3, "layers": "all", "rank": 4, "batch": 8}
    Run(settings(pictures, tmp_path / "out", **changes), lambda *step: told.append(step[1])).run()
    assert np.mean(told[-20:]) < 0.8 * np.mean(told[:20])


def test_the_whole_network(pictures, tmp_path):
    out = settings(pictures, tmp_path / "out", kind="stage-c", learning_rate=1e-3, steps=3)
    path = Run(out).run()
    trained, before = load_stage_c(path).state_dict(), load_stage_c("cocktail").state_dict()
    assert all(not torch.equal(trained[key], before[key]) for key in ("projection.weight", "out.1.bias"))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_precisions(pictures, tmp_path, precision):
    path = Run(settings(pictures, tmp_path / "out", precision=precision, layers="all")).run()
    assert len(weights(path)) > 40 and all(bool(delta.isfinite().all()) for delta in weights(path).values())


def test_timesteps_are_the_authors():
    ratios = random_timesteps(np.random.default_rng(0), 200_000)
    assert float(ratios.min()) >= 0.001 and float(ratios.max()) == 1
    assert float((ratios == 1).float().mean()) == pytest.approx(0.081 / 1.08, abs=0.003)
    assert float(ratios[ratios < 1].mean()) == pytest.approx(0.5, abs=0.003)


def test_the_loss_is_the_authors():
    generator = torch.Generator().manual_seed(0)
    clean, noise, wrong = (torch.randn(3, 16, 6, 6, generator=generator) for _ in range(3))
    ratios = torch.tensor([0.2, 0.6, 0.95])
    kept = torch.cos((ratios + 0.008) / 1.008 * torch.pi / 2) ** 2 / np.cos(0.008 / 1.008 * np.pi / 2) ** 2
    seen = []

    def predict(x, t):
        seen.append(x)
        return wrong

    loss = noise_loss(predict, clean, ratios, noise)
    weight = 1 / (1 + kept / (1 - kept))  # P2 with k = 1 and gamma = 1
    expected = ((wrong - noise).square().mean(dim=(1, 2, 3)) * weight).mean()
    assert float(loss) == pytest.approx(float(expected), rel=1e-4)
    column = kept.view(-1, 1, 1, 1)
    assert torch.allclose(seen[0], column.sqrt() * clean + (1 - column).sqrt() * noise, atol=1e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rank": 0}, "rank is 0; expected 1 or more"),
        ({"steps": 0}, "steps is 0"),
        ({"learning_rate": 2.0}, "learning_rate is 2.0; expected above 0"),
        ({"layers": "none"}, "layers is 'none'; expected one of attention, all"),
        ({"precision": "half"}, "precision is 'half'"),
        ({"encoders": "sd"}, "encoders is 'sd'; expected one of cocktail"),
        ({"kind": "stage-b"}, "kind is 'stage-b'"),
        ({"loss": "l1"}, "loss is 'l1'; expected one of noise, signal"),
        ({"schedule": "step"}, "schedule is 'step'"),
        ({"optimizer": "sgd"}, "optimizer is 'sgd'; expected one of adamw, adamw8bit"),
        ({"resolution": 64}, "resolution is 64; expected 128 pixels or more"),
    ],
)
def test_settings_that_make_no_sense(pictures, tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        Run(settings(pictures, tmp_path / "out", **changes))
    assert not (tmp_path / "out").exists()


def test_another_training_in_the_folder_is_not_touched(pictures, tmp_path):
    Run(settings(pictures, tmp_path / "out"))
    (tmp_path / "out/progress.pt").touch()
    with pytest.raises(InputError, match=r"holds another training, with another rank, learning_rate. Expected"):
        Run(settings(pictures, tmp_path / "out", rank=3, learning_rate=1e-3))
    Run(settings(pictures, tmp_path / "out", validate_every=7))
    (tmp_path / "out/settings.json").write_text("{")
    with pytest.raises(InputError, match="holds another training"):
        Run(settings(pictures, tmp_path / "out"))


def test_a_training_that_never_began_leaves_the_folder_free(pictures, tmp_path):
    Run(settings(pictures, tmp_path / "out"))
    (tmp_path / "out/encoded").mkdir()
    Run(settings(pictures, tmp_path / "out", rank=3))
    assert json.loads((tmp_path / "out/settings.json").read_text())["rank"] == 3


def test_progress_that_is_damaged(pictures, tmp_path):
    few = settings(pictures, tmp_path / "out", steps=2)
    path = tmp_path / "out/progress.pt"
    Run(few).run()
    whole = path.read_bytes()
    for damage in (b"", b"hello", whole[:-1000], {"x": 1}, {"step": 2, "network": {}, "optimizer": {}}):
        if isinstance(damage, dict):
            torch.save(damage, path)
        else:
            path.write_bytes(damage)
        with pytest.raises(InputError, match=r"progress.pt is not the progress of this training, or is damaged"):
            Run(few).run()


def test_an_encoded_picture_that_is_damaged(pictures, tmp_path):
    Run(settings(pictures, tmp_path / "out", steps=1)).run()
    next((tmp_path / "out/encoded/pictures").iterdir()).write_bytes(b"cut")
    with pytest.raises(InputError, match=r"is damaged .* Delete it, and it is made anew"):
        Run(settings(pictures, tmp_path / "out", steps=1)).run()


@pytest.mark.parametrize("room", [100, 10_000, 100_000])
def test_a_full_disk_is_told_and_the_run_goes_on(pictures, tmp_path, room):
    resource = pytest.importorskip("resource", reason="there are no limits of file sizes here")
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    few = settings(pictures, tmp_path / "out", steps=2)
    training = Run(few)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        with pytest.raises(WuerstchenError, match=r"cannot be .*: .*run the same command again"):
            training.run()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    assert not list((tmp_path / "out").rglob("*.part"))
    whole = Run(replace(few, out=tmp_path / "whole")).run()
    assert Run(few).run().read_bytes() == whole.read_bytes()


def test_models_that_are_not_there(pictures, tmp_path):
    with pytest.raises(CheckpointError, match="'nothing' does not exist"):
        Run(settings(pictures, tmp_path / "out", model="nothing"))


def test_a_loss_that_is_no_number_stops_with_its_step(pictures, tmp_path):
    with pytest.raises(InputError, match=r"progress: the loss of step \d+ is .*; expected a number. Train at a lower"):
        Run(settings(pictures, tmp_path / "out", kind="stage-c", learning_rate=0.9, steps=400)).run()


def test_settings_are_kept_as_they_were(pictures, tmp_path):
    Run(settings(pictures, tmp_path / "out"))
    kept = json.loads((tmp_path / "out/settings.json").read_text())
    assert kept["rank"] == 2 and kept["model"] == "cocktail" and len(kept["pictures"]) == 32
