"""The image encoders: the published one against torchvision's network, its layouts, and cocktail's own."""

import json
import os
import subprocess

import pytest
import torch
from safetensors.torch import save_file

from support import tiny
from wuerstchen_core import CheckpointError, ImageEncoder, WeightsMissingError, encode_stage_c, load_image_encoder
from wuerstchen_core.checkpoints.saving import save_image_encoder
from wuerstchen_core.errors import InputError
from wuerstchen_core.networks.cocktail_encoder import CocktailEncoder
from wuerstchen_core.networks.efficientnet import EfficientNetEncoder, EfficientNetEncoderConfig

# Runs where torchvision is, which this project does not need: the published encoder is torchvision's network with a
# mapper behind it, and its preprocessing is torchvision's, too.
REFERENCE = """
import sys, torch
from torch import nn
from torchvision.models import efficientnet_v2_s
from torchvision.transforms.v2 import Normalize, Resize
from safetensors.torch import load_file, save_file

state, pixels = load_file(sys.argv[1]), load_file(sys.argv[2])
backbone = efficientnet_v2_s(weights=None).features
mapper = nn.Sequential(nn.Conv2d(1280, 16, 1, bias=False), nn.BatchNorm2d(16))
network = nn.ModuleDict({"backbone": backbone, "mapper": mapper})
network.load_state_dict(state, strict=True)
network.eval()
normalise = Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
with torch.inference_mode():
    found = {}
    for name, images in pixels.items():
        height, width = images.shape[-2:]
        x = normalise(Resize((height * 3 // 4, width * 3 // 4), antialias=True)(images))
        found[name] = mapper(backbone(x)).contiguous()
save_file(found, sys.argv[3])
"""


@pytest.fixture(scope="module")
def published() -> EfficientNetEncoder:
    """Return the published network with random weights and statistics."""
    return tiny.randomise(EfficientNetEncoder(EfficientNetEncoderConfig.v2()), 0, scale=1.0)


def _image(height: int, width: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 8, 8, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bicubic").clamp(0, 1)
    return (smooth + 0.05 * torch.rand(1, 3, height, width, generator=generator)).clamp(0, 1)


def test_it_has_the_published_tensors(published):
    state = published.state_dict()
    assert len(state) == 786
    assert sum(parameter.numel() for parameter in published.parameters()) == 20_198_000
    assert {key.split(".")[1] for key in state if key.startswith("backbone")} == {str(i) for i in range(8)}
    assert tuple(state["mapper.0.weight"].shape) == (16, 1280, 1, 1)
    norms = [module for module in published.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert [norm.eps for norm in norms] == [1e-3] * (len(norms) - 1) + [1e-5]


@pytest.mark.comfyui
def test_it_equals_torchvision(published, tmp_path):
    save_file(published.state_dict(), tmp_path / "weights.safetensors")
    images = {f"{h}x{w}": _image(h, w) for h, w in ((256, 256), (1024, 1024), (768, 1152))}
    save_file(images, tmp_path / "images.safetensors")
    names = [str(tmp_path / f"{name}.safetensors") for name in ("weights", "images", "found")]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    subprocess.run([os.environ["COMFYUI_PYTHON"], "-c", REFERENCE, *names], check=True, env=environment)
    from safetensors.torch import load_file

    reference = load_file(names[2])
    for name, image in images.items():
        ours = encode_stage_c(published, image)
        assert ours.shape == reference[name].shape and ours.dtype == torch.float32
        assert ours.std() > 0.05
        assert tiny.relative_error(ours, reference[name]) < 1e-5, name


def test_both_layouts_of_the_published_weights(published, tmp_path):
    save_image_encoder(published, tmp_path / "hub")
    config = json.loads((tmp_path / "hub" / "config.json").read_text())
    assert config == {
        "_class_name": "EfficientNetEncoder",
        "c_latent": 16,
        "c_cond": 1280,
        "effnet": "efficientnet_v2_s",
    }
    # diffusers' own file says its version, too
    (tmp_path / "hub" / "config.json").write_text(json.dumps({**config, "_diffusers_version": "0.21.0"}))
    state = published.state_dict()
    authors = {"state_dict": tiny.stage_b().state_dict(), "effnet_state_dict": state}
    torch.save(authors, tmp_path / "model_v2_stage_b.pt")
    save_file({f"module.{key}": value.half() for key, value in state.items()}, tmp_path / "half.safetensors")
    image = _image(128, 256)
    expected = encode_stage_c(published, image)
    for name in ("hub", "hub/diffusion_pytorch_model.safetensors", "model_v2_stage_b.pt"):
        loaded = load_image_encoder(tmp_path / name)
        assert isinstance(loaded, EfficientNetEncoder) and not loaded.training
        # Batch statistics counters aside, every tensor is as it was.
        assert torch.allclose(encode_stage_c(loaded, image), expected, rtol=1e-4, atol=1e-4)
    half = load_image_encoder(tmp_path / "half.safetensors")
    assert next(half.parameters()).dtype == torch.float32
    assert tiny.relative_error(encode_stage_c(half, image), expected) < 0.02


def test_the_file_of_stage_b_is_an_encoder_where_nothing_else_is(published, tmp_path, monkeypatch):
    monkeypatch.setenv("WUERSTCHEN_MODELS", str(tmp_path))
    with pytest.raises(WeightsMissingError, match="wuerstchen download v2-interpolated"):
        load_image_encoder("v2-interpolated")
    folder = tmp_path / "dome272" / "wuerstchen"
    folder.mkdir(parents=True)
    torch.save({"effnet_state_dict": published.state_dict()}, folder / "model_v2_stage_b.pt")
    assert isinstance(load_image_encoder("v2-interpolated"), EfficientNetEncoder)
    save_image_encoder(published, tmp_path / "warp-ai" / "EfficientNetEncoder")
    (folder / "model_v2_stage_b.pt").unlink()
    assert isinstance(load_image_encoder("v2-interpolated"), EfficientNetEncoder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("backbone.4.0.block.2.fc1.bias"), "is one of 1 missing"),
        (lambda state: state.update({"classifier.1.weight": torch.zeros(2, 2)}), "is one of 1 unexpected"),
        (lambda state: state.update({"backbone.7.1.bias": torch.zeros(7)}), r"has shape \[7\]; expected \[1280\]"),
        (lambda state: state.pop("mapper.0.weight"), "no stage of Würstchen"),
    ],
)
def test_loading_is_strict(published, tmp_path, change, message):
    state = dict(published.state_dict())
    change(state)
    save_file(state, tmp_path / "encoder.safetensors")
    with pytest.raises(CheckpointError, match=message):
        load_image_encoder(tmp_path / "encoder.safetensors")


def test_another_network_is_named(tmp_path):
    save_file(tiny.stage_a().state_dict(), tmp_path / "vqgan.safetensors")
    with pytest.raises(CheckpointError, match=r"looks like Stage A \(vqgan\); expected image encoder"):
        load_image_encoder(tmp_path / "vqgan.safetensors")
    save_image_encoder(tiny.image_encoder(), tmp_path / "small")
    from wuerstchen_core import load_stage_c

    with pytest.raises(CheckpointError, match="CocktailEncoder"):
        load_stage_c(tmp_path / "small")
    (tmp_path / "small" / "config.json").unlink()
    with pytest.raises(CheckpointError, match="looks like an image encoder; expected Stage C"):
        load_stage_c(tmp_path / "small")


def test_another_backbone_is_refused(published, tmp_path):
    save_image_encoder(tiny.image_encoder(), tmp_path)
    config = {"_class_name": "EfficientNetEncoder", "effnet": "efficientnet_v2_l"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="looks like an image encoder; expected image encoder"):
        load_image_encoder(tmp_path)


def test_cocktails_encoder_is_saved_and_inferred(tmp_path):
    encoder = tiny.image_encoder()
    save_image_encoder(encoder, tmp_path)
    loaded = load_image_encoder(tmp_path)
    bare = load_image_encoder(tmp_path / "diffusion_pytorch_model.safetensors")
    assert isinstance(loaded, CocktailEncoder) and isinstance(bare, CocktailEncoder)
    assert loaded.config == bare.config == encoder.config
    image = _image(256, 256)
    assert torch.allclose(encode_stage_c(loaded, image), encode_stage_c(encoder, image))
    embedded = load_image_encoder("cocktail")
    assert isinstance(embedded, ImageEncoder) and isinstance(embedded, CocktailEncoder)
    assert encode_stage_c(embedded, image).shape == (1, 16, 6, 6)


@pytest.mark.parametrize(("height", "width", "positions"), [(128, 128, (3, 3)), (1, 1, (3, 3)), (300, 200, (9, 6))])
def test_any_size_is_filled_up_with_its_edges(height, width, positions):
    encoder = tiny.image_encoder()
    image = _image(max(height, 2), max(width, 2))[..., :height, :width]
    embeddings = encode_stage_c(encoder, image)
    assert embeddings.shape == (1, 16, *positions)
    padded = torch.nn.functional.pad(
        image, (0, positions[1] * 128 // 3 - width, 0, positions[0] * 128 // 3 - height), mode="replicate"
    )
    assert torch.equal(embeddings, encode_stage_c(encoder, padded))


def test_an_image_is_encoded_alike_alone_and_in_a_batch():
    encoder = tiny.image_encoder()
    batch = torch.cat([_image(128, 256, seed) for seed in range(3)])
    together = encode_stage_c(encoder, batch)
    for index, image in enumerate(batch.split(1)):
        assert torch.equal(encode_stage_c(encoder, image)[0], together[index])


@pytest.mark.parametrize("shape", [(3, 64, 64), (1, 4, 64, 64), (0, 3, 64, 64), (1, 3, 0, 64), (1, 3, 8, 9000)])
def test_what_is_no_image_is_refused(shape):
    with pytest.raises(InputError, match=r"images has shape|width is|height is"):
        encode_stage_c(tiny.image_encoder(), torch.zeros(shape))
