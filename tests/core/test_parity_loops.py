"""Compare the schedule and the whole loops with diffusers' pipelines, which get the same seeds as CPU generators."""

import pytest
import torch
from transformers import CLIPTextModel, CLIPTokenizer

from support import tiny
from wuerstchen_core import (
    DEFAULT_STAGE_B_TIMESTEPS,
    DEFAULT_STAGE_C_TIMESTEPS,
    StageAConfig,
    alpha_cumprod,
    decode_stage_a,
    geometry,
    linear_timesteps,
    load_text_encoder,
    sample_stage_b,
    sample_stage_c,
    stages,
)
from wuerstchen_core.sampling import ddpm_step

diffusers = tiny.diffusers()

ONE_STEP = 1e-5
WHOLE_LOOP = 1e-5
SEEDS = [11, 12, 13]
PROMPT, NEGATIVE = "a small red circle", "blurry"


@pytest.fixture(scope="module")
def text_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("text")
    tiny.save_text(folder)
    return folder


@pytest.fixture(scope="module")
def encoder(text_folder):
    return load_text_encoder(text_folder)


@pytest.fixture(scope="module")
def reference_text(text_folder):
    return {
        "tokenizer": CLIPTokenizer.from_pretrained(text_folder / "tokenizer"),
        "text_encoder": CLIPTextModel.from_pretrained(text_folder / "text_encoder").eval(),
        "scheduler": diffusers.DDPMWuerstchenScheduler(),
    }


def _generators(seeds):
    return [torch.Generator("cpu").manual_seed(seed) for seed in seeds]


def _prior(network, reference_text):
    pipeline = diffusers.WuerstchenPriorPipeline(prior=tiny.diffusers_twin(network), **reference_text)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _decoder(stage_b, stage_a, reference_text):
    pipeline = diffusers.WuerstchenDecoderPipeline(
        decoder=tiny.diffusers_twin(stage_b), vqgan=tiny.diffusers_twin(stage_a), **reference_text
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def test_default_timesteps_are_the_published_ones():
    published = tiny.diffusers_module("pipeline_wuerstchen_prior").DEFAULT_STAGE_C_TIMESTEPS
    assert torch.equal(torch.tensor(DEFAULT_STAGE_C_TIMESTEPS), torch.tensor([float(t) for t in published]))
    assert len(DEFAULT_STAGE_C_TIMESTEPS) == 30
    scheduler = diffusers.DDPMWuerstchenScheduler()
    scheduler.set_timesteps(12)
    assert torch.equal(torch.tensor(DEFAULT_STAGE_B_TIMESTEPS), scheduler.timesteps)


def test_scales_are_the_published_ones(reference_text):
    prior, decoder = (
        _prior(tiny.stage_c(), reference_text),
        _decoder(tiny.stage_b(), tiny.stage_a(), reference_text),
    )
    assert (prior.config.latent_mean, prior.config.latent_std) == (stages.EMBEDDING_SCALE, stages.EMBEDDING_SHIFT)
    assert prior.config.resolution_multiple == geometry.PIXELS_PER_STAGE_C
    assert decoder.config.latent_dim_scale == geometry.STAGE_B_PER_STAGE_C
    assert decoder.vqgan.config.scale_factor == StageAConfig.v2().scale_factor


def test_alpha_cumprod_equals_diffusers():
    t = torch.linspace(0, 1, 101)
    reference = diffusers.DDPMWuerstchenScheduler()._alpha_cumprod(t, torch.device("cpu"))
    assert ((alpha_cumprod(t) - reference).abs() / reference).max() < ONE_STEP


@pytest.mark.parametrize("index", [0, 5, 10])
def test_one_step_equals_diffusers(index):
    scheduler = diffusers.DDPMWuerstchenScheduler()
    scheduler.set_timesteps(11)
    t, t_next = scheduler.timesteps[index : index + 2]
    generator = torch.Generator().manual_seed(3)
    x, noise = torch.randn(2, 2, 4, 5, 6, generator=generator)
    fresh = torch.cat([torch.randn(1, 4, 5, 6, generator=each) for each in _generators([7, 8])])
    reference = scheduler.step(noise, t.expand(2), x, generator=_generators([7, 8])).prev_sample
    assert tiny.relative_error(ddpm_step(x, noise, float(t), float(t_next), fresh), reference) < ONE_STEP


@pytest.mark.parametrize("guidance", [1.0, 4.0])
@pytest.mark.parametrize("size", [(256, 256), (384, 256)])
@pytest.mark.parametrize("seed", [0, 1])
def test_stage_c_loop_equals_diffusers(encoder, reference_text, guidance, size, seed):
    network = tiny.stage_c(seed=seed)
    width, height = size
    ours = sample_stage_c(
        network,
        encoder.encode([PROMPT]),
        encoder.encode([NEGATIVE]),
        width=width,
        height=height,
        seeds=SEEDS,
        guidance_scale=guidance,
    )
    reference = _prior(network, reference_text)(
        prompt=[PROMPT] * len(SEEDS),
        negative_prompt=[NEGATIVE] * len(SEEDS),
        width=width,
        height=height,
        timesteps=DEFAULT_STAGE_C_TIMESTEPS,
        guidance_scale=guidance,
        generator=_generators(SEEDS),
    ).image_embeddings
    assert ours.shape == reference.shape
    assert tiny.relative_error(ours, reference) < WHOLE_LOOP


def test_stage_c_loop_takes_given_latents_and_long_text_as_diffusers_does(reference_text):
    network = tiny.stage_c()
    generator = torch.Generator().manual_seed(4)
    positive, negative = torch.randn(2, 2, 154, network.config.c_cond, generator=generator)
    latents = torch.randn(2, 16, 3, 3, generator=generator)
    shared = {"timesteps": linear_timesteps(6), "guidance_scale": 3.0, "width": 128, "height": 128, "latents": latents}
    ours = sample_stage_c(network, positive, negative, seeds=SEEDS[:2], **shared)
    reference = _prior(network, reference_text)(
        prompt_embeds=positive, negative_prompt_embeds=negative, generator=_generators(SEEDS[:2]), **shared
    ).image_embeddings
    assert tiny.relative_error(ours, reference) < WHOLE_LOOP


@pytest.mark.parametrize("guidance", [0.0, 2.5])
@pytest.mark.parametrize("size", [(3, 3), (3, 6)])
def test_stage_b_loop_and_decoding_equal_diffusers(encoder, reference_text, guidance, size):
    stage_b, stage_a = tiny.stage_b(), tiny.stage_a()
    embeddings = torch.randn(len(SEEDS), 16, *size, generator=torch.Generator().manual_seed(5))
    latents = sample_stage_b(
        stage_b,
        embeddings,
        encoder.encode([PROMPT]),
        encoder.encode([NEGATIVE]),
        seeds=SEEDS,
        guidance_scale=guidance,
    )
    images = decode_stage_a(stage_a, latents)
    pipeline = _decoder(stage_b, stage_a, reference_text)

    def run(output: str) -> torch.Tensor:
        return pipeline(
            embeddings,
            PROMPT,
            negative_prompt=NEGATIVE,
            guidance_scale=guidance,
            generator=_generators(SEEDS),
            output_type=output,
        ).images

    assert latents.shape[1:] == (4, int(size[0] * 10.67), int(size[1] * 10.67))
    assert tiny.relative_error(latents, run("latent")) < WHOLE_LOOP
    assert (images - run("pt")).abs().max() < WHOLE_LOOP
    assert images.std() > 0.05  # not all clamped to one colour


def test_stage_c_loop_in_bfloat16_errs_no_more_than_diffusers(encoder, reference_text):
    network = tiny.stage_c()
    positive, negative = encoder.encode([PROMPT]), encoder.encode([NEGATIVE])
    shared = {"width": 384, "height": 384, "guidance_scale": 4.0, "timesteps": DEFAULT_STAGE_C_TIMESTEPS}

    def reference(dtype: torch.dtype) -> torch.Tensor:
        pipeline = _prior(network, reference_text)
        pipeline.prior.to(dtype)
        original = pipeline.text_encoder.dtype
        pipeline.text_encoder.to(dtype)  # its dtype is the loop's
        try:
            return pipeline(
                prompt_embeds=positive.expand(3, -1, -1),
                negative_prompt_embeds=negative.expand(3, -1, -1),
                generator=_generators(SEEDS),
                **shared,
            ).image_embeddings.float()
        finally:
            pipeline.text_encoder.to(original)

    exact, theirs = reference(torch.float32), reference(torch.bfloat16)
    ours = sample_stage_c(network.to(torch.bfloat16), positive, negative, seeds=SEEDS, **shared)
    assert 0 < (ours - exact).square().mean() <= (theirs - exact).square().mean()


def test_a_prompt_of_two_chunks_draws_the_picture_of_the_pipelines(encoder, reference_text):
    """154 tokens go into the pipelines as prompt_embeds; the picture is theirs within 1/255."""
    prompt, negative = "a (small:1.3) red circle, " * 6, "blurry"
    positive, without = encoder.encode([prompt, negative], weights=True)[:, None]
    assert positive.shape[1] == without.shape[1] == 2 * tiny.MAX_TOKENS
    stage_c, stage_b, stage_a = tiny.stage_c(), tiny.stage_b(), tiny.stage_a()
    embeddings = sample_stage_c(stage_c, positive, without, width=256, height=256, seeds=[11])
    latents = sample_stage_b(stage_b, embeddings, positive, seeds=[12])
    ours = decode_stage_a(stage_a, latents)
    theirs = _prior(stage_c, reference_text)(
        prompt_embeds=positive,
        negative_prompt_embeds=without,
        width=256,
        height=256,
        timesteps=DEFAULT_STAGE_C_TIMESTEPS,
        guidance_scale=4.0,
        generator=_generators([11]),
    ).image_embeddings
    decoder = _decoder(stage_b, stage_a, reference_text)
    # The decoder's pipeline encodes its prompt itself; it gets the text embeddings through that step.
    decoder.encode_prompt = lambda *_, **__: (positive, None)
    image = decoder(
        theirs, prompt="", guidance_scale=0.0, num_inference_steps=12, generator=_generators([12]), output_type="pt"
    ).images
    assert (ours - torch.as_tensor(image)).abs().max() < 1 / 255
