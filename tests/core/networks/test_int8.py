"""Layers that multiply in eight bits: exact sums, small errors, and networks that keep to them wherever they go."""

import copy
import logging

import pytest
import torch
from safetensors.torch import load_file, save_file

from support import tiny
from wuerstchen_core import (
    InputError,
    StageB,
    StageC,
    generate,
    interpolate,
    load_stage_a,
    load_stage_b,
    load_stage_c,
    load_text_encoder,
    save_stage_c,
)
from wuerstchen_core.checkpoints import int8_files, loading, opening, reading
from wuerstchen_core.networks import int8
from wuerstchen_core.networks.compiling import compiled
from wuerstchen_core.networks.eight_bits import kept_dtype, operations_for
from wuerstchen_core.networks.operations import compute_dtype

INT8, CPU = torch.int8, torch.device("cpu")


def _layer(inputs: int, outputs: int, bias: bool = True) -> tuple[torch.nn.Linear, int8.Linear]:
    torch.manual_seed(0)
    plain, layer = torch.nn.Linear(inputs, outputs, bias), int8.Linear(inputs, outputs, bias)
    whole, factor = int8.quantized(plain.weight.detach())
    state = {"weight": whole, "factor": factor, **({"bias": plain.bias.detach()} if bias else {})}
    layer.load_state_dict(state, assign=True)
    return plain.requires_grad_(False), layer.requires_grad_(False)


@pytest.mark.parametrize("rows", [1, 7, 255, 257, 600])
@pytest.mark.parametrize("inputs, outputs", [(128, 8), (200, 33), (512, 256)])
def test_sums_are_exact(rows, inputs, outputs):
    """No sum overflows, whatever the processor: the largest whole numbers give the same as 64-bit arithmetic."""
    weight = torch.randint(-int8.LARGEST_WEIGHT, int8.LARGEST_WEIGHT + 1, (outputs, inputs), dtype=INT8)
    weight[0] = int8.LARGEST_WEIGHT
    x = torch.randint(-127, 128, (rows, inputs), dtype=INT8)
    x[0] = 127
    for width in (inputs, inputs // 2):
        product = int8._multiply(x[:, :width].contiguous(), weight, torch.ones(outputs), torch.float32)
        assert torch.equal(product.double(), x[:, :width].double() @ weight[:, :width].double().T)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(3, 256), (2, 20, 256), (1, 30, 20, 256)])
def test_a_layer_is_close_to_the_one_it_was_made_from(shape, bias):
    plain, layer = _layer(256, 96, bias)
    x = torch.randn(shape) * torch.rand(*shape[:-1], 1) * 100
    ours, reference = layer(x), plain(x)
    assert ours.shape == reference.shape
    assert float((ours - reference).norm() / reference.norm()) < 0.03
    rows = torch.cat([layer(row[None]) for row in x.flatten(0, -2)])
    assert torch.equal(rows, ours.flatten(0, -2)), "a row does not depend on the others"


def test_rows_of_zeros_and_of_what_is_no_number():
    _, layer = _layer(128, 8)
    x = torch.zeros(3, 128)
    x[1, 5] = float("nan")
    result = layer(x)
    assert torch.equal(result[0], layer.bias) and torch.equal(result[2], layer.bias)
    assert bool(result[1].isnan().all())


@pytest.fixture(scope="module")
def networks():
    with torch.inference_mode():
        return {
            kind: (load("cocktail"), load("cocktail", dtype=INT8))
            for kind, load in ((StageC, load_stage_c), (StageB, load_stage_b))
        }


def _inputs(kind: type, network: StageB | StageC) -> tuple[torch.Tensor, ...]:
    torch.manual_seed(1)
    if isinstance(network, StageC):
        return torch.randn(2, 16, 6, 6), torch.full((2,), 0.5), torch.randn(2, 9, network.config.c_cond)
    text = torch.randn(2, 9, network.config.clip_embd)
    return torch.randn(2, 4, 64, 64), torch.full((2,), 0.5), torch.randn(2, 16, 6, 6), text


@pytest.mark.parametrize("kind", [StageC, StageB])
def test_networks_are_close_to_those_in_float32(networks, kind):
    plain, small = networks[kind]
    given = _inputs(kind, plain)
    with torch.inference_mode():
        ours, reference = small(*given).float(), plain(*given)
    assert ours.dtype == torch.float32
    # cocktail is narrow, so its errors are larger than those of networks of the published size.
    assert float((ours - reference).norm() / reference.norm()) < 0.05
    assert kept_dtype(small) == INT8 and kept_dtype(plain) == torch.float32
    bytes_of = [sum(weight.nbytes for weight in network.parameters()) for network in (small, plain)]
    assert bytes_of[0] < 0.45 * bytes_of[1]


def test_folding_changes_the_rounding_only(networks):
    _, small = networks[StageB]
    given = _inputs(StageB, small)
    with torch.inference_mode():
        folded = small(*given)
        small.reads_weights = lambda layer: False
        plain = small(*given)
        small.reads_weights = int8.Int8Operations.reads_weights
    assert not torch.equal(folded, plain)
    assert float((folded - plain).norm() / plain.norm()) < 0.05


@pytest.mark.long
@pytest.mark.parametrize("kind", [StageC, StageB])
def test_compiled_is_the_same(networks, kind):
    _, small = networks[kind]
    given = _inputs(kind, small)
    with torch.inference_mode():
        eager = small(*given)
        with compiled(small):
            assert tiny.relative_error(small(*given), eager) < 0.05


def test_a_text_encoder_in_eight_bits():
    plain, small = load_text_encoder("cocktail"), load_text_encoder("cocktail", dtype=INT8)
    prompts = ["a red heart on a white background", ""]
    assert float((small.encode(prompts) - plain.encode(prompts)).norm() / plain.encode(prompts).norm()) < 0.03


def test_a_picture_in_eight_bits():
    prompt = "a large green star on a black background"
    exact, small = (torch.tensor(list(generate(prompt, dtype=dtype)[0].tobytes())) for dtype in (None, INT8))
    assert float((exact - small).abs().float().mean()) < 2


def test_saved_and_mixed_as_they_run(networks, tmp_path):
    plain, small = networks[StageC]
    save_stage_c(small, tmp_path / "saved")
    read = load_stage_c(tmp_path / "saved")
    key = "blocks.0.channelwise.0.weight"
    layer = small.get_submodule(key.removesuffix(".weight"))
    kept = compute_dtype(CPU)
    assert torch.equal(read.state_dict()[key].to(kept), int8.floating(layer, slice(None), kept))
    mix = interpolate(small, load_stage_c("cocktail-aesthetic"), 0.5)
    assert kept_dtype(mix) == INT8
    given = _inputs(StageC, plain)
    with torch.inference_mode():
        reference = interpolate(plain, load_stage_c("cocktail-aesthetic"), 0.5)(*given)
        assert float((mix(*given) - reference).norm() / reference.norm()) < 0.06
        assert torch.equal(copy.deepcopy(small)(*given), small(*given))


def test_other_networks_and_dtypes():
    with pytest.raises(InputError, match=r"torch.int8; expected one of"):
        load_stage_a("cocktail", dtype=INT8)
    assert operations_for(torch.bfloat16, CPU) is torch.nn


@pytest.fixture
def kept_on_disk(tmp_path, monkeypatch):
    """Networks of cocktail's size are kept on disk, too; returns the folder."""
    monkeypatch.setenv("WUERSTCHEN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(loading, "LARGE", 1000)
    return tmp_path / "cache" / "int8"


def _same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    return all(torch.equal(one.state_dict()[key], value) for key, value in other.state_dict().items())


def test_the_next_start_reads_what_was_kept(kept_on_disk, tmp_path, monkeypatch):
    plain = load_stage_c("cocktail", dtype=torch.float32)
    save_stage_c(plain, tmp_path / "prior")
    first = load_stage_c(tmp_path / "prior", dtype=INT8)
    [file] = kept_on_disk.iterdir()
    assert file.stat().st_size < 0.45 * (tmp_path / "prior" / "diffusion_pytorch_model.safetensors").stat().st_size
    assert load_file(file).keys() == first.state_dict().keys()
    with monkeypatch.context() as patch:
        patch.setattr(loading, "quantized", lambda weight: pytest.fail("rounded again"))
        assert _same(load_stage_c(tmp_path / "prior", dtype=INT8), first)
    save_stage_c(load_stage_c("cocktail-base"), tmp_path / "prior")
    assert not _same(load_stage_c(tmp_path / "prior", dtype=INT8), first), "the checkpoint has changed"
    assert len(list(kept_on_disk.iterdir())) == 1, "and what was kept of the older one is gone"
    for load in (load_stage_b, load_text_encoder):
        network = load("cocktail", dtype=INT8)
        assert _same(load("cocktail", dtype=INT8), network)


@pytest.mark.parametrize("damage", ["cut", "other"])
def test_a_damaged_file_is_made_anew(kept_on_disk, damage, caplog):
    first = load_stage_c("cocktail", dtype=INT8)
    [file] = kept_on_disk.iterdir()
    if damage == "cut":
        content = file.read_bytes()
        file.unlink()  # the network is mapped into memory from it
        file.write_bytes(content[:-9])
    else:
        int8_files.write(file, {"weight": torch.zeros(2)})
    with caplog.at_level(logging.WARNING):
        assert _same(load_stage_c("cocktail", dtype=INT8), first)
    assert "made anew" in caplog.text
    assert load_file(file).keys() == first.state_dict().keys()


def test_a_folder_that_cannot_be_written_is_a_warning(tmp_path, monkeypatch, caplog):
    (tmp_path / "cache").write_text("a file")
    monkeypatch.setenv("WUERSTCHEN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(loading, "LARGE", 1000)
    with caplog.at_level(logging.WARNING):
        load_stage_c("cocktail", dtype=INT8)
    assert "cannot be written" in caplog.text


@pytest.mark.parametrize("form", ["safetensors", "zip", "old pickle"])
def test_files_of_every_form_are_read(kept_on_disk, tmp_path, form, monkeypatch):
    """Files that can be mapped are opened again and again, so that little of them is in memory; others once."""
    plain, opened = load_stage_b("cocktail"), []
    file = tmp_path / ("b.safetensors" if form == "safetensors" else "b.pt")
    if form == "safetensors":
        save_file(plain.state_dict(), file)
    else:
        torch.save({"state_dict": plain.state_dict()}, file, _use_new_zipfile_serialization=form == "zip")
    read = opening.read_checkpoint
    monkeypatch.setattr(reading, "READ_AT_ONCE", 500_000)
    monkeypatch.setattr(opening, "read_checkpoint", lambda *given: opened.append(given) or read(*given))
    assert _same(load_stage_b(file), plain)
    assert len(opened) == 1 if form == "old pickle" else len(opened) > 3
