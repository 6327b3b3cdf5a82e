"""ComfyUI's own samplers refuse by name what does not fit Würstchen's stages, and draw with every scheduler."""

import numpy as np
import pytest
import torch

from support.comfyui_graphs import TEXT, add, ksampler, ran, saved, stage_c_graph
from support.comfyui_server import Prompt, Server
from support.judge import judge
from wuerstchen_core.training.world import Scene

SCENE = Scene(colour="red", shape="heart", background="white", size="large")


def stage_b_graph() -> tuple[Prompt, str, str, str, str, str]:
    """A graph up to Stage B as a MODEL; ids of the model, the prompt with embeddings, without, the empty latents and
    Stage C's result."""
    prompt, model, positive, negative, empty = stage_c_graph()
    stage_c = ksampler(prompt, model, positive, negative, [empty, 0], cfg=2.0)
    loader = add(prompt, "WuerstchenLoadStageB", model="cocktail", dtype="default")
    model_b = add(prompt, "WuerstchenStageBToModel", stage_b=[loader, 0])
    encoder = add(prompt, "WuerstchenLoadTextEncoder", model="cocktail", for_stage="B")
    text = add(prompt, "WuerstchenTextEncode", text_encoder=[encoder, 0], text=TEXT)
    with_embeddings = add(prompt, "StableCascade_StageB_Conditioning", conditioning=[text, 0], stage_c=[stage_c, 0])
    return prompt, model_b, with_embeddings, text, empty, stage_c


def message(server: Server, prompt: Prompt, node: str) -> str:
    """The error of a graph that ends in a node's latent."""
    add(prompt, "SaveLatent", samples=[node, 0], filename_prefix="latents/refused")
    run = server.run(prompt)
    assert run.error is not None, run
    return run.error["exception_message"]


@pytest.mark.parametrize("kind", ["empty", "stage_b", "encoded"])
def test_a_latent_of_another_kind_at_stage_c(server: Server, kind):
    prompt, model, positive, negative, empty = stage_c_graph()
    if kind == "empty":
        latent, expected = (
            [add(prompt, "EmptyLatentImage", width=256, height=256, batch_size=1), 0],
            "32 x 32 positions",
        )
    elif kind == "stage_b":
        latent, expected = [empty, 1], "64 x 64 positions"
    else:
        loader = add(prompt, "WuerstchenLoadStageA", model="cocktail", dtype="default")
        vae = add(prompt, "WuerstchenStageAToVAE", stage_a=[loader, 0])
        picture = add(prompt, "EmptyImage", width=256, height=256, batch_size=1, color=255)
        latent, expected = [add(prompt, "VAEEncode", pixels=[picture, 0], vae=[vae, 0]), 0], "has 4 channels"
    said = message(server, prompt, ksampler(prompt, model, positive, negative, latent))
    assert expected in said and "stage_c output of Empty Würstchen Latent" in said


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("empty", "expects 64 x 64, 4 pixels each"),
        ("upscaled", "expects 64 x 64, 4 pixels each"),
        ("stage_c", "has 16 channels"),
        ("cropped", "multiples of 3"),
        ("no embeddings", "StableCascade_StageB_Conditioning"),
        ("text of stage C", "a prompt for Stage C; Stage B expects its own"),
        ("area", "carries an area"),
    ],
)
def test_what_stage_b_cannot_use(server: Server, change, expected):
    prompt, model, positive, text, empty, stage_c = stage_b_graph()
    latent = [empty, 1]
    if change == "empty":
        latent = [add(prompt, "EmptyLatentImage", width=256, height=256, batch_size=1), 0]
    elif change == "upscaled":
        options = {"upscale_method": "bilinear", "width": 256, "height": 256, "crop": "disabled"}
        latent = [add(prompt, "LatentUpscale", samples=latent, **options), 0]
    elif change == "stage_c":
        latent = [stage_c, 0]
    elif change == "cropped":
        prompt[empty]["inputs"] |= {"width": 384, "height": 384}
        cropped = add(prompt, "LatentCrop", samples=[stage_c, 0], width=64, height=64, x=0, y=0)
        prompt[positive]["inputs"]["stage_c"] = [cropped, 0]
    elif change == "no embeddings":
        positive = text
    elif change == "text of stage C":
        encoder = add(prompt, "WuerstchenLoadTextEncoder", model="cocktail", for_stage="C")
        other = add(prompt, "WuerstchenTextEncode", text_encoder=[encoder, 0], text=TEXT)
        prompt[positive]["inputs"]["conditioning"] = [other, 0]
    else:
        area = {"width": 128, "height": 128, "x": 0, "y": 0, "strength": 1.0}
        positive = add(prompt, "ConditioningSetArea", conditioning=[positive, 0], **area)
    assert expected in message(server, prompt, ksampler(prompt, model, positive, text, latent, cfg=1.0, steps=2))


def test_text_of_the_wrong_stage_at_stage_c(server: Server):
    prompt, model, _, negative, empty = stage_c_graph()
    encoder = add(prompt, "WuerstchenLoadTextEncoder", model="cocktail", for_stage="B")
    other = add(prompt, "WuerstchenTextEncode", text_encoder=[encoder, 0], text=TEXT)
    said = message(server, prompt, ksampler(prompt, model, other, negative, [empty, 0]))
    assert "positive is a prompt for Stage B; Stage C expects its own" in said


@pytest.mark.parametrize(
    ("node", "settings"),
    [
        ("FreeU_V2", {"b1": 1.3, "b2": 1.4, "s1": 0.9, "s2": 0.2}),
        ("SelfAttentionGuidance", {"scale": 0.5, "blur_sigma": 2.0}),
        ("PerturbedAttentionGuidance", {"scale": 3.0}),
        ("HyperTile", {"tile_size": 256, "swap_size": 2, "max_depth": 0, "scale_depth": False}),
        ("TomePatchModel", {"ratio": 0.3}),
    ],
)
def test_nodes_for_a_unet_say_that_they_do_not_apply(server: Server, node, settings):
    prompt, model, positive, negative, empty = stage_c_graph()
    patched = add(prompt, node, model=[model, 0], **settings)
    said = message(server, prompt, ksampler(prompt, patched, positive, negative, [empty, 0]))
    assert "made for other networks" in said and "Bypass" in said


def test_merging_stage_c_with_stage_b_is_refused(server: Server):
    prompt, model, positive, negative, empty = stage_c_graph()
    loader = add(prompt, "WuerstchenLoadStageB", model="cocktail", dtype="default")
    model_b = add(prompt, "WuerstchenStageBToModel", stage_b=[loader, 0])
    merged = add(prompt, "ModelMergeSimple", model1=[model, 0], model2=[model_b, 0], ratio=0.5)
    said = message(server, prompt, ksampler(prompt, merged, positive, negative, [empty, 0]))
    assert "Only networks of one stage and shape can be merged" in said


def test_easycache_skips_steps(server: Server):
    prompt, model, positive, negative, empty = stage_c_graph()
    options = {"reuse_threshold": 0.2, "start_percent": 0.15, "end_percent": 0.95, "verbose": False}
    cached = add(prompt, "EasyCache", model=[model, 0], **options)
    steps = {"steps": 29, "cfg": 2.0, "sampler_name": "euler"}
    fast = saved(server, prompt, ksampler(prompt, cached, positive, negative, [empty, 0], **steps))
    assert "EasyCache - skipped" in server.log
    plain = saved(server, prompt, ksampler(prompt, model, positive, negative, [empty, 0], **steps))
    assert 0 < float((fast - plain).abs().mean() / plain.abs().mean()) < 0.1


def test_an_area_in_pixels_is_the_same_share_of_the_picture(server: Server):
    prompt, model, positive, negative, empty = stage_c_graph()
    everywhere = add(prompt, "WuerstchenTextEncode", text_encoder=prompt[positive]["inputs"]["text_encoder"], text="")

    def sampled(node: str, **area: float) -> torch.Tensor:
        there = add(prompt, node, conditioning=[positive, 0], strength=1.0, **area)
        both = add(prompt, "ConditioningCombine", conditioning_1=[everywhere, 0], conditioning_2=[there, 0])
        return saved(server, prompt, ksampler(prompt, model, both, negative, [empty, 0]))

    in_pixels = sampled("ConditioningSetArea", width=128, height=256, x=128, y=0)
    assert torch.equal(in_pixels, sampled("ConditioningSetAreaPercentage", width=0.5, height=1.0, x=0.5, y=0.0))


def test_every_scheduler_draws_what_was_asked_for_or_is_refused(server: Server):
    prompt, model, positive, negative, empty = stage_c_graph()
    choices = server.get("/object_info/KSampler")["KSampler"]["input"]["required"]["scheduler"][0]
    loaders = {stage: add(prompt, f"WuerstchenLoadStage{stage}", model="cocktail", dtype="default") for stage in "BA"}
    for scheduler in choices:
        settings = {"scheduler": scheduler, "steps": 12, "cfg": 2.0, "sampler_name": "dpmpp_2m_sde"}
        graph = dict(prompt)
        sampled = ksampler(graph, model, positive, negative, [empty, 0], **settings)
        if scheduler == "linear_quadratic":
            assert "linear_quadratic does so" in message(server, graph, sampled)
            continue
        decode = {"seed": 1, "steps": 3, "cfg": 0.0, "schedule": "early"}
        latents = add(graph, "WuerstchenStageBDecode", stage_b=[loaders["B"], 0], latent=[sampled, 0], **decode)
        image = add(graph, "WuerstchenStageADecode", stage_a=[loaders["A"], 0], latent=[latents, 0])
        add(graph, "PreviewImage", images=[image, 0])
        (picture,) = server.images(ran(server, graph))
        verdict = judge(picture.astype(np.float32) / 255, SCENE)
        assert verdict.colour and verdict.background and verdict.shape, scheduler


@pytest.mark.parametrize(
    ("sampler_name", "scheduler", "steps", "expected"),
    [
        ("dpm_adaptive", "simple", 12, "stops at the schedule's last noise, here a timestep ratio of 0.08"),
        ("dpm_fast", "sgm_uniform", 12, "Choose a scheduler that ends lower"),
        ("dpmpp_3m_sde", "karras", 12, "with 12 of them; expected at least 24"),
        ("dpmpp_3m_sde_gpu", "karras", 12, "dpmpp_3m_sde takes steps that are too coarse"),
        ("dpm_2_ancestral", "exponential", 12, "expected at least 16"),
    ],
)
def test_a_sampler_that_needs_more_steps_or_another_scheduler(server: Server, sampler_name, scheduler, steps, expected):
    prompt, model, positive, negative, empty = stage_c_graph()
    settings = {"sampler_name": sampler_name, "scheduler": scheduler, "steps": steps}
    said = message(server, prompt, ksampler(prompt, model, positive, negative, [empty, 0], **settings))
    assert expected in said


@pytest.mark.parametrize(
    ("sampler_name", "scheduler", "steps", "denoise"),
    [
        ("dpm_fast", "karras", 12, 1.0),
        ("dpmpp_3m_sde", "karras", 24, 1.0),
        ("dpmpp_3m_sde", "karras", 12, 0.5),
        ("dpmpp_2m", "beta", 60, 1.0),  # has two steps between equal levels of noise
    ],
)
def test_such_samplers_with_enough_of_both(server: Server, sampler_name, scheduler, steps, denoise):
    prompt, model, positive, negative, empty = stage_c_graph()
    settings = {"sampler_name": sampler_name, "scheduler": scheduler, "steps": steps, "denoise": denoise}
    assert torch.isfinite(
        saved(server, prompt, ksampler(prompt, model, positive, negative, [empty, 0], **settings))
    ).all()


def test_a_model_becomes_stage_c_again(server: Server):
    prompt, base, positive, negative, empty = stage_c_graph("cocktail-base")
    loader = add(prompt, "WuerstchenLoadStageC", model="cocktail-aesthetic", dtype="default")
    aesthetic = add(prompt, "WuerstchenStageCToModel", stage_c=[loader, 0])
    merged = add(prompt, "ModelMergeSimple", model1=[base, 0], model2=[aesthetic, 0], ratio=0.3)
    under_ksampler = saved(server, prompt, ksampler(prompt, merged, positive, negative, [empty, 0]))

    back = add(prompt, "WuerstchenModelToStageC", model=[merged, 0])
    again = add(prompt, "WuerstchenStageCToModel", stage_c=[back, 0])
    assert torch.equal(saved(server, prompt, ksampler(prompt, again, positive, negative, [empty, 0])), under_ksampler)

    loader_b = add(prompt, "WuerstchenLoadStageB", model="cocktail", dtype="default")
    model_b = add(prompt, "WuerstchenStageBToModel", stage_b=[loader_b, 0])
    wrong = add(prompt, "WuerstchenModelToStageC", model=[model_b, 0])
    add(prompt, "WuerstchenSaveStageC", stage_c=[wrong, 0], filename_prefix="x")
    run = server.run(prompt)
    assert run.error is not None and "expected a Stage C" in run.error["exception_message"]
