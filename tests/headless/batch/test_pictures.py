"""Batches whose columns hold the paths of pictures and masks."""

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from wuerstchen_nodes.headless import HeadlessHost, cli, execute, load_workflow
from wuerstchen_nodes.headless.output_files import OutputFiles
from wuerstchen_nodes.headless.workflow import examples

COLUMNS = ["id", "Load Image.image", "Mask.image", "prompt", "seed"]
PROMPTS = ["a blue circle at the right on a yellow background", "a red star at the right on a yellow background"]


@pytest.fixture
def table(tmp_path) -> Path:
    """Return a table in a folder with its pictures, which it names as seen from there."""
    folder = tmp_path / "order"
    (folder / "pictures").mkdir(parents=True)
    for name in ("square", "mask"):
        Image.open(examples.folder() / f"wuerstchen_{name}.png").save(folder / "pictures" / f"{name}.png")
    path = folder / "rows.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for index, prompt in enumerate(PROMPTS):
            writer.writerow([f"row{index}", "pictures/square.png", "pictures/mask.png", prompt, index + 1])
    return path


def expected(table: Path, folder: Path, index: int) -> np.ndarray:
    host = HeadlessHost(OutputFiles(folder), device="cpu", input_folders=[table.parent])
    settings = {
        "Load Image.image": "pictures/square.png",
        "Mask.image": "pictures/mask.png",
        "Prompt.value": PROMPTS[index],
        "Stage C Sampler.steps": 3,
    }
    workflow = load_workflow(examples.locate("inpainting_by_mask_file"))
    (path,) = execute(workflow, settings, seed=index + 1, host=host).images
    return np.asarray(Image.open(path))


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Compute on one thread, as the batch does: sums over several are rounded otherwise."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("engine", ["local", pytest.param("ray", marks=pytest.mark.ray)])
def test_a_row_is_the_image_of_its_own_run_to_the_byte(table, tmp_path, engine):
    out = tmp_path / "out"
    arguments = ["batch", "inpainting_by_mask_file", str(table), f"--out={out}", f"--engine={engine}", "--quiet"]
    assert cli.main([*arguments, "--threads=1", "--set=Stage C Sampler.steps=3"]) == 0
    before = np.asarray(Image.open(table.parent / "pictures" / "square.png"))
    for index in range(len(PROMPTS)):
        image = np.asarray(Image.open(out / f"row{index}.png"))
        assert np.array_equal(image, expected(table, tmp_path / "alone", index))
        assert np.array_equal(image[:, :192], before[:, :192])


def test_a_row_whose_picture_is_missing_is_told_before_anything_runs(table, tmp_path, capsys):
    text = table.read_text(encoding="utf-8").replace("pictures/square.png", "pictures/none.png", 1)
    table.write_text(text, encoding="utf-8")
    code = cli.main(["batch", "inpainting_by_mask_file", str(table), f"--out={tmp_path / 'out'}"])
    told = capsys.readouterr().err
    assert code == 2 and "pictures/none.png" in told and "line 2" in told
