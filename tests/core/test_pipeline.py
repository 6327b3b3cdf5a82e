"""Test `generate`, from a text prompt to images, on tiny networks in the place of the published ones."""

import gc
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch

from support import tiny
from wuerstchen_core import (
    InputError,
    WeightsMissingError,
    decode_stage_a,
    generate,
    linear_timesteps,
    load_text_encoder,
    sample_stage_b,
    sample_stage_c,
    v2_timesteps,
)
from wuerstchen_core.checkpoints.saving import save_stage_c
from wuerstchen_core.pipeline import run
from wuerstchen_core.text.chunks import Embedding

SMALL = "Würstchen v2 was trained on sides of 1024 to 1536 pixels"
pytestmark = pytest.mark.filterwarnings(f"ignore:{SMALL}")
QUICK = {"model": "v2-base", "width": 128, "height": 128, "steps": 3, "stage_b_steps": 2}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    tiny.save_pipelines(folder / "warp-ai")
    save_stage_c(tiny.stage_c(), folder / "warp-ai" / "wuerstchen-prior-model-base")
    return folder


@pytest.fixture(autouse=True)
def _models(monkeypatch, models):
    monkeypatch.setenv("WUERSTCHEN_MODELS", str(models))


def _pixels(picture) -> np.ndarray:
    return np.asarray(picture).astype(int)


def test_it_does_what_the_verbs_do(models):
    [picture] = generate("a red circle", negative_prompt="blur", seed=4, stage_b_guidance_scale=2.0, **QUICK)
    prior = load_text_encoder(models / "warp-ai" / "wuerstchen-prior")
    decoder = load_text_encoder(models / "warp-ai" / "wuerstchen")
    embeddings = sample_stage_c(
        tiny.stage_c(),
        prior.encode(["a red circle"]),
        prior.encode(["blur"]),
        width=128,
        height=128,
        seeds=[4],
        timesteps=v2_timesteps(3),
    )
    latents = sample_stage_b(
        tiny.stage_b(),
        embeddings,
        decoder.encode(["a red circle"]),
        seeds=[4],
        timesteps=linear_timesteps(2),
        guidance_scale=2.0,
    )
    expected = decode_stage_a(tiny.stage_a(), latents)[0].permute(1, 2, 0) * 255
    assert picture.mode == "RGB" and picture.size == (128, 128)
    # Weights from a file have another memory alignment than those built here, so products round differently.
    assert np.abs(_pixels(picture).astype(int) - expected.round().int().numpy()).max() <= 1
    assert _pixels(picture).std() > 5


def test_picture_i_has_seed_plus_i_alone_and_in_a_batch():
    batch = generate("a star", seed=7, batch_size=3, **QUICK)
    alone = generate("a star", seed=8, **QUICK)
    assert len(batch) == 3
    assert abs(_pixels(batch[1]) - _pixels(alone[0])).max() <= 1
    assert abs(_pixels(batch[0]) - _pixels(batch[1])).max() > 20


def test_sizes_between_the_steps_are_cropped():
    options = {**QUICK, "width": 200, "height": 100}
    with pytest.warns(UserWarning, match="200x100 is drawn as 256x128 and cropped at the right and the bottom"):
        [picture] = generate("a star", **options)
    [whole] = generate("a star", **{**options, "width": 256, "height": 128})
    assert picture.size == (200, 100)
    assert np.array_equal(_pixels(picture), _pixels(whole)[:100, :200])


def test_the_prompt_and_the_negative_prompt_matter():
    pictures = [
        generate(text, negative_prompt=without, **QUICK)[0] for text, without in [("a", ""), ("b", ""), ("a", "b")]
    ]
    assert len({picture.tobytes() for picture in pictures}) == 3


def test_weights_and_embeddings_are_read_where_that_is_asked_for():
    embeddings = {"cat": Embedding({32: torch.randn(2, 32, generator=torch.Generator().manual_seed(0))}, {})}
    plain = _pixels(generate("a red circle", **QUICK)[0])
    assert np.array_equal(_pixels(generate("a red circle", weights=True, **QUICK)[0]), plain)
    for prompt in ("a (red:1.5) circle", "a red circle " * 20, "a red embedding:cat circle"):
        drawn = _pixels(generate(prompt, weights=True, embeddings=embeddings, **QUICK)[0])
        assert not np.array_equal(drawn, plain), prompt
        assert not np.array_equal(drawn, _pixels(generate(prompt, **QUICK)[0])), prompt


def test_callback_hears_both_stages():
    told = []
    generate("a star", callback=lambda stage, step: told.append((stage, step.index, step.count)), **QUICK)
    assert told == [("C", 0, 3), ("C", 1, 3), ("C", 2, 3), ("B", 0, 2), ("B", 1, 2)]


def test_each_stage_is_freed_before_the_next_is_loaded(monkeypatch):
    alive = []

    def watched(load):
        def wrapper(*arguments, **options):
            gc.collect()
            assert not [reference for reference in alive if reference() is not None], "an earlier stage is in memory"
            network = load(*arguments, **options)
            alive.append(weakref.ref(network))
            return network

        return wrapper

    for name in ("load_text_encoder", "load_stage_c", "load_stage_b", "load_stage_a"):
        monkeypatch.setattr(run, name, watched(getattr(run, name)))
    generate("a star", **QUICK)
    assert len(alive) == 5


def test_a_size_that_the_model_was_not_trained_on_is_warned_of_once_where_it_is_asked_for():
    with pytest.warns(UserWarning, match=SMALL) as seen:
        generate("a star", **QUICK)
    ours = [each for each in seen if each.category is UserWarning]
    assert [Path(each.filename).name for each in ours] == [Path(__file__).name]


def test_the_natural_size_is_drawn_unless_told(monkeypatch):
    seen = {}

    def stop(*_, width, height, **__):
        seen.update(width=width, height=height)
        raise InterruptedError

    monkeypatch.setattr(run, "sample_stage_c", stop)
    for asked, drawn in [({}, (1024, 1024)), ({"height": 128}, (1024, 128))]:
        with pytest.raises(InterruptedError):
            generate("a star", model="v2-base", **asked)
        assert (seen["width"], seen["height"]) == drawn


@pytest.mark.parametrize(
    "options, message",
    [
        ({"model": "v9"}, "model is 'v9'; expected one of cocktail"),
        ({"width": 0}, "width is 0"),
        ({"height": 100000}, "height is 100000"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"seed": 1.5}, "seed is 1.5"),
        ({"steps": 0}, "steps is 0"),
        ({"stage_b_steps": -2}, "steps is -2"),
        ({"dtype": torch.int16}, "dtype is torch.int16"),
        ({"device": "abacus"}, "device is 'abacus'"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(InputError, match=message):
        generate("a star", **{**QUICK, **options})


def test_prompt_that_is_no_text():
    with pytest.raises(InputError, match="expected a list of one or more strings"):
        generate(None, **QUICK)  # pyright: ignore[reportArgumentType]


def test_missing_weights_are_told_before_any_work(monkeypatch, tmp_path):
    import huggingface_hub

    monkeypatch.setenv("WUERSTCHEN_MODELS", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(run, "load_text_encoder", lambda *_, **__: pytest.fail("work was begun"))
    with pytest.raises(WeightsMissingError, match="wuerstchen download v2-base"):
        generate("a star", **QUICK)
