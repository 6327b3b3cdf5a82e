"""Stages as ComfyUI's own MODEL and VAE, under its samplers, LoRAs and merges."""

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from support.comfyui_graphs import (
    SEED,
    TEXT,
    TheirNoise,
    add,
    apart,
    ksampler,
    ran,
    saved,
    stage_c_by_our_own,
    stage_c_graph,
)
from support.comfyui_server import Prompt, Server
from wuerstchen_core import (
    decode_stage_a,
    linear_timesteps,
    load_stage_a,
    load_stage_b,
    load_stage_c,
    load_text_encoder,
    sample_stage_c,
    v2_timesteps,
)
from wuerstchen_core.sampling import sample, with_guidance


def test_ksampler_agrees_with_our_own_sampler(server: Server):
    prompt, model, positive, negative, empty = stage_c_graph()
    theirs = saved(server, prompt, ksampler(prompt, model, positive, negative, [empty, 0]))
    assert apart(theirs, stage_c_by_our_own(linear_timesteps(8))) < 1e-3


def lora_file(server: Server, naming: str) -> str:
    """Write a random LoRA of one layer and return its name."""
    generator = torch.Generator().manual_seed(0)
    pair = {
        f"{naming}.lora_up.weight": torch.randn(512, 2, generator=generator) * 0.3,
        f"{naming}.lora_down.weight": torch.randn(2, 128, generator=generator) * 0.3,
    }
    name = f"{naming[:6]}.safetensors"
    folder = server.folder / "models/loras"
    folder.mkdir(parents=True, exist_ok=True)
    save_file(pair, folder / name)
    return name


def model_save(server: Server, prompt: Prompt, model: str, name: str) -> str:
    """Save a MODEL by ComfyUI's node into the model folder and return the file's name there."""
    add(prompt, "ModelSave", model=[model, 0], filename_prefix=name)
    ran(server, prompt)
    (written,) = (server.folder / "output").glob(f"{name}*.safetensors")
    written.rename(server.folder / "models" / "wuerstchen" / f"{name}.safetensors")
    return f"{name}.safetensors"


@pytest.mark.parametrize("changed", [False, True], ids=["as it is", "after a LoRA and a merge"])
def test_a_file_of_model_save_loads_as_stage_c(server: Server, changed):
    prompt, model, positive, negative, empty = stage_c_graph()
    if changed:
        name = lora_file(server, "lora_unet_blocks_0_channelwise_0")
        with_lora = add(prompt, "LoraLoaderModelOnly", model=[model, 0], lora_name=name, strength_model=0.7)
        loader = add(prompt, "WuerstchenLoadStageC", model="cocktail-base", dtype="default")
        other = add(prompt, "WuerstchenStageCToModel", stage_c=[loader, 0])
        model = add(prompt, "ModelMergeSimple", model1=[with_lora, 0], model2=[other, 0], ratio=0.6)
    before = saved(server, prompt, ksampler(prompt, model, positive, negative, [empty, 0]))
    file = model_save(server, prompt, model, f"kept_{changed}")
    prompt, model, positive, negative, empty = stage_c_graph(file)
    again = saved(server, prompt, ksampler(prompt, model, positive, negative, [empty, 0]))
    assert torch.equal(again, before)


def test_weights_in_eight_bits_by_both_samplers_and_through_a_file(server: Server):
    prompt, model, positive, negative, empty = stage_c_graph()
    prompt["1"]["inputs"]["dtype"] = "float8_e4m3fn"
    plain = saved(server, prompt, ksampler(prompt, model, positive, negative, [empty, 0]))
    own = add(
        prompt, "WuerstchenStageCSampler", stage_c=["1", 0], positive=[positive, 0], negative=[negative, 0],
        seed=SEED, steps=8, schedule="linear", cfg=4.0, width=256, height=256, batch_size=1,
    )  # fmt: skip
    network = load_stage_c("cocktail", dtype=torch.float8_e4m3fn)
    text = load_text_encoder("cocktail", for_stage="C")
    sampled = sample_stage_c(
        network, text.encode([TEXT]), text.encode([""]), width=256, height=256, seeds=[SEED],
        timesteps=linear_timesteps(8), guidance_scale=4.0,
    )  # fmt: skip
    tolerance = 1e-3 if network.compute_dtype == torch.float32 else 0.1
    assert apart(saved(server, prompt, own), sampled) < tolerance

    # ComfyUI rounds a patched weight at random, from a seed that the weight's name gives.
    merged = add(prompt, "ModelMergeSimple", model1=[model, 0], model2=[model, 0], ratio=0.5)
    patched = saved(server, prompt, ksampler(prompt, merged, positive, negative, [empty, 0]))
    assert apart(patched, plain) < 0.1
    back = add(prompt, "WuerstchenModelToStageC", model=[merged, 0])
    native = add(prompt, "WuerstchenStageCToModel", stage_c=[back, 0])
    assert torch.equal(saved(server, prompt, ksampler(prompt, native, positive, negative, [empty, 0])), patched)

    prompt, model, positive, negative, empty = stage_c_graph(model_save(server, prompt, model, "small"))
    prompt["1"]["inputs"]["dtype"] = "float8_e4m3fn"
    assert torch.equal(saved(server, prompt, ksampler(prompt, model, positive, negative, [empty, 0])), plain)


def test_the_published_schedule_as_sigmas(server: Server):
    prompt, model, positive, negative, empty = stage_c_graph()
    noise = add(prompt, "RandomNoise", noise_seed=SEED)
    guider = add(prompt, "CFGGuider", model=[model, 0], positive=[positive, 0], negative=[negative, 0], cfg=4.0)
    sampler = add(prompt, "KSamplerSelect", sampler_name="ddpm")
    sigmas = add(prompt, "WuerstchenSigmas", steps=12, schedule="v2", denoise=1.0)
    links = {"noise": noise, "guider": guider, "sampler": sampler, "sigmas": sigmas, "latent_image": empty}
    sampled = add(prompt, "SamplerCustomAdvanced", **{name: [node, 0] for name, node in links.items()})
    assert apart(saved(server, prompt, sampled), stage_c_by_our_own(v2_timesteps(12))) < 1e-3

    prompt[sampler]["inputs"]["sampler_name"] = "dpmpp_2m"
    assert torch.isfinite(saved(server, prompt, sampled)).all()


def test_all_three_stages_by_stock_nodes(server: Server):
    prompt, model, positive, negative, empty = stage_c_graph()
    stage_c = ksampler(prompt, model, positive, negative, [empty, 0])
    loader_b = add(prompt, "WuerstchenLoadStageB", model="cocktail", dtype="default")
    model_b = add(prompt, "WuerstchenStageBToModel", stage_b=[loader_b, 0])
    encoder_b = add(prompt, "WuerstchenLoadTextEncoder", model="cocktail", for_stage="B")
    text_b = add(prompt, "WuerstchenTextEncode", text_encoder=[encoder_b, 0], text=TEXT)
    with_embeddings = add(prompt, "StableCascade_StageB_Conditioning", conditioning=[text_b, 0], stage_c=[stage_c, 0])
    stage_b = ksampler(prompt, model_b, with_embeddings, text_b, [empty, 1], cfg=1.0, steps=4)
    loader_a = add(prompt, "WuerstchenLoadStageA", model="cocktail", dtype="default")
    vae = add(prompt, "WuerstchenStageAToVAE", stage_a=[loader_a, 0])
    image = add(prompt, "VAEDecode", samples=[stage_b, 0], vae=[vae, 0])
    add(prompt, "PreviewImage", images=[image, 0])
    (theirs,) = server.images(ran(server, prompt))
    assert "No VAE weights" not in server.log

    # The last bit of Stage C's result moves edges, so both decode the same one.
    embeddings = saved(server, prompt, stage_c)
    network, text = load_stage_b("cocktail"), load_text_encoder("cocktail", for_stage="B").encode([TEXT])
    start, noise = TheirNoise((4, 64, 64)).draw(), TheirNoise((4, 64, 64))
    latents = sample(with_guidance(network, (embeddings, text), None, 0), start, linear_timesteps(4), noise)
    ours = (decode_stage_a(load_stage_a("cocktail"), latents)[0].movedim(0, -1) * 255).round().numpy()
    assert np.abs(ours - theirs.astype(float)).max() <= 3


def test_merging_gives_the_interpolation(server: Server):
    prompt, base, positive, negative, empty = stage_c_graph("cocktail-base")
    loader = add(prompt, "WuerstchenLoadStageC", model="cocktail-aesthetic", dtype="default")
    aesthetic = add(prompt, "WuerstchenStageCToModel", stage_c=[loader, 0])
    merged = add(prompt, "ModelMergeSimple", model1=[base, 0], model2=[aesthetic, 0], ratio=0.5)
    theirs = saved(server, prompt, ksampler(prompt, merged, positive, negative, [empty, 0]))

    alone = saved(server, prompt, ksampler(prompt, base, positive, negative, [empty, 0]))
    expected = stage_c_by_our_own(linear_timesteps(8))
    # cocktail is the mix rounded to float16.
    assert apart(theirs, expected) < 0.05 < apart(alone, expected)


@pytest.mark.parametrize("naming", ["lora_unet_blocks_0_channelwise_0", "diffusion_model.blocks.0.channelwise.0"])
def test_a_lora_changes_the_weights_it_names(server: Server, naming):
    name = lora_file(server, naming)
    prompt, model, positive, negative, empty = stage_c_graph()
    own = add(
        prompt, "WuerstchenStageCSampler", stage_c=["1", 0], positive=[positive, 0], negative=[negative, 0],
        seed=1, steps=2, schedule="v2", cfg=4.0, width=256, height=256, batch_size=1,
    )  # fmt: skip
    before = saved(server, prompt, own)

    loaded = add(prompt, "LoraLoaderModelOnly", model=[model, 0], lora_name=name, strength_model=0.0)
    sampled = ksampler(prompt, loaded, positive, negative, [empty, 0])
    plain = stage_c_by_our_own(linear_timesteps(8))
    assert apart(saved(server, prompt, sampled), plain) < 1e-3
    prompt[loaded]["inputs"]["strength_model"] = 1.0
    assert apart(saved(server, prompt, sampled), plain) > 0.01

    # The pack's own network shares those weights, and is as it was.
    prompt[own]["inputs"]["seed"] = 2
    saved(server, prompt, own)
    prompt[own]["inputs"]["seed"] = 1
    assert torch.equal(saved(server, prompt, own), before)


def test_a_picture_through_the_vae_and_back(server: Server):
    picture = np.full((256, 256, 3), 250, np.uint8)
    picture[64:192, 64:192] = (40, 70, 220)
    Image.fromarray(picture).save(server.folder / "input/square.png")
    prompt: Prompt = {"1": {"class_type": "LoadImage", "inputs": {"image": "square.png"}}}
    loader = add(prompt, "WuerstchenLoadStageA", model="cocktail", dtype="default")
    vae = add(prompt, "WuerstchenStageAToVAE", stage_a=[loader, 0])
    encoded = add(prompt, "VAEEncode", pixels=["1", 0], vae=[vae, 0])
    add(prompt, "PreviewImage", images=[add(prompt, "VAEDecode", samples=[encoded, 0], vae=[vae, 0]), 0])
    tiled = add(
        prompt, "VAEDecodeTiled", samples=[encoded, 0], vae=[vae, 0], tile_size=128, overlap=32,
        temporal_size=64, temporal_overlap=8,
    )  # fmt: skip
    add(prompt, "PreviewImage", images=[tiled, 0])
    for shown in server.images(ran(server, prompt)):
        assert shown.shape == picture.shape
        assert np.abs(shown.astype(int) - picture.astype(int)).mean() < 4
