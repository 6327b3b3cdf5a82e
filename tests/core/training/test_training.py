"""Test training on a very small model: it learns, continues after a kill, and writes checkpoints."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from support.reference import pipelines
from wuerstchen_core import load_stage_c
from wuerstchen_core.errors import InputError
from wuerstchen_core.networks.blocks import ResBlock
from wuerstchen_core.networks.cocktail_encoder import BOUND, CocktailEncoder, main_contrast
from wuerstchen_core.networks.stage_a import StageAConfig
from wuerstchen_core.networks.stage_b import StageB, StageBConfig
from wuerstchen_core.networks.stage_c import StageCConfig
from wuerstchen_core.training import cocktail
from wuerstchen_core.training.cocktail import Training
from wuerstchen_core.training.edges import begin_with_edges
from wuerstchen_core.training.fields import BACKGROUND, CODES, FIGURE, PLACE, SIZE, features
from wuerstchen_core.training.initialise import initialise_stage_b
from wuerstchen_core.training.loop import LoopConfig, train
from wuerstchen_core.training.losses import features_loss, plain_latents, worn
from wuerstchen_core.training.phrases import phrase
from wuerstchen_core.training.pictures import LEAST_CONTRAST, FolderPictures, WorldPictures, draw_batch, recoloured
from wuerstchen_core.training.recipe import Recipe
from wuerstchen_core.training.text import make_tokenizer
from wuerstchen_core.training.world import COLOURS, SHAPES, Layout, Scene, draw, random_layout

LOOP = LoopConfig(2, warmup=1, save_every=1, autocast=False)
TINY = Recipe(
    stage_a=StageAConfig(embed_dim=8, bottleneck_blocks=1, num_vq_embeddings=4),
    stage_b=StageBConfig(
        c_cond=16, c_hidden=(8, 16), nhead=(-1, 2), blocks=(1, 1), level_config=("CT", "CTA"),
        inject_effnet=(False, True), clip_embd=64, c_r=8,
    ),
    stage_c=StageCConfig(c=16, c_cond=64, depth=1, nhead=2, c_r=8),
    text_layers=1,
    stage_a_loop=LOOP, image_encoder_loop=LOOP, stage_b_loop=LOOP, stage_c_loop=LOOP, finetune_loop=LOOP,
    stage_a_batch=2, image_encoder_batch=2, stage_b_batch=2, stage_c_batch=2, stage_b_pool=16, stage_c_pool=16,
    previewer_width=4, previewer_steps=2,
)  # fmt: skip


class Line(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.zeros(()))


def _loss(line):
    def loss(rng):
        x = torch.from_numpy(rng.standard_normal(8).astype(np.float32))
        return (line.slope * x - 3 * x).square().mean()

    return loss


def test_the_loop_learns_and_keeps_the_average(tmp_path):
    line = Line()
    train("line", line, _loss(line), LoopConfig(300, 0.1, warmup=1, ema_decay=0.9, weight_decay=0), tmp_path)
    assert line.slope.item() == pytest.approx(3, abs=0.05)


def test_a_killed_run_ends_where_an_uninterrupted_one_does(tmp_path):
    config = LoopConfig(20, 0.1, warmup=1, ema_decay=0.9, save_every=5)
    whole, killed = Line(), Line()
    train("line", whole, _loss(whole), config, tmp_path / "whole")

    calls = 0

    def dies(rng):
        nonlocal calls
        calls += 1
        if calls == 13:
            raise KeyboardInterrupt
        return _loss(killed)(rng)

    with pytest.raises(KeyboardInterrupt):
        train("line", killed, dies, config, tmp_path / "killed")
    again = Line()
    train("line", again, _loss(again), config, tmp_path / "killed")
    assert torch.equal(whole.slope, again.slope)


def test_a_finished_run_is_loaded_and_not_trained_again(tmp_path):
    first, second = Line(), Line()
    config = LoopConfig(5, 0.1, warmup=1)
    train("line", first, _loss(first), config, tmp_path)

    def never(rng):
        raise AssertionError("trained again")

    train("line", second, never, config, tmp_path)
    assert torch.equal(first.slope, second.slope)


SCALAR = {"step": torch.tensor(2.0), "exp_avg": torch.tensor(0.0), "exp_avg_sq": torch.tensor(0.0)}
DAMAGES = [
    *({"network": each} for each in ([], None, 5, {"slope": 5}, {"slope": torch.zeros(3)}, {"slope": None})),
    *({"step": each} for each in (float("inf"), float("nan"), -5, "x", None, [], True, 2.5)),
    *({"average": each} for each in ([], None, {}, {"n_averaged": 5})),
    *({"optimizer": each} for each in ([], None, {}, {"state": 5}, {"state": [1]}, {"state": {0: 5}})),
    *({"optimizer": {"state": {0: {**SCALAR, "exp_avg": each}}}} for each in (torch.zeros(3), 5, None, [])),
    *(
        {"optimizer": {"state": {0: {**SCALAR, "step": torch.tensor(each)}}}}
        for each in (-1.0, float("nan"), [1.0, 2.0])
    ),
    {"optimizer": {"state": {0: {"step": torch.tensor(2.0)}}}},
    {"optimizer": {"state": {7: SCALAR}}},
]


@pytest.mark.parametrize("damage", DAMAGES, ids=str)
def test_progress_that_lies_is_refused(damage, tmp_path):
    path, config = tmp_path / "line.pt", LoopConfig(4, 0.1, warmup=1, save_every=2)
    train("line", Line(), _loss(Line()), LoopConfig(2, 0.1, warmup=1), tmp_path)
    torch.save({**torch.load(path, weights_only=True), **damage}, path)
    with pytest.raises(InputError, match=r"line.pt is not the progress of this training, or is damaged"):
        train("line", Line(), _loss(Line()), config, tmp_path)


def test_progress_is_looked_through_and_its_settings_are_not_taken(tmp_path):
    path, line = tmp_path / "line.pt", Line()
    train("line", line, _loss(line), LoopConfig(2, 0.1, warmup=1), tmp_path)
    state = torch.load(path, weights_only=True)
    state["optimizer"]["param_groups"] = [{"betas": "x", "params": [5]}]
    torch.save(state, path)
    train("line", line, _loss(line), LoopConfig(4, 0.1, warmup=1), tmp_path)
    torch.save({**state, "more": bytearray(5)}, path)
    with pytest.raises(InputError, match=r"line.pt is not the progress of this training.*bytearray"):
        train("line", line, _loss(line), LoopConfig(6, 0.1, warmup=1), tmp_path)


def test_the_whole_recipe_writes_what_diffusers_reads(tmp_path):
    world = WorldPictures("flat", "aesthetic")
    folder = tmp_path / "checkpoints"
    Training(tmp_path, world, world, world, TINY).export(folder)
    assert {str(path.parent.relative_to(folder)) for path in folder.rglob("*.safetensors")} == {
        "wuerstchen-prior/prior", "wuerstchen-prior/text_encoder", "wuerstchen/decoder", "wuerstchen/vqgan",
        "wuerstchen/text_encoder", "prior-base", "prior-aesthetic", "image-encoder",
    }  # fmt: skip

    seen = WorldPictures("flat", "aesthetic", by_formula=False)
    again = Training(tmp_path / "further", seen, seen, seen, TINY, start=folder)
    images = draw_batch(world, np.random.default_rng(0), 2, 256, 256).images
    first = Training(tmp_path, world, world, world, TINY).image_encoder
    assert torch.allclose(again.image_encoder(images), first(images), rtol=0.02, atol=0.5)
    again.export(tmp_path / "more")
    before, after = (load_stage_c(each / "prior-base").projection.weight for each in (folder, tmp_path / "more"))
    assert 0 < (before - after).abs().max() < 0.1

    prior, decoder = pipelines(folder)
    embeddings = prior("a red star", height=128, width=128, num_inference_steps=2).image_embeddings
    assert embeddings.shape == (1, 16, 3, 3)
    assert decoder(embeddings, "a red star", num_inference_steps=1).images[0].size == (128, 128)


def test_a_folder_of_captioned_pictures_is_a_source(tmp_path):
    rng = np.random.default_rng(0)
    scene = Scene("red", "star", "white")
    pixels = draw(scene, random_layout(scene, 300, 200, rng))
    Image.fromarray((pixels * 255).astype(np.uint8)).save(tmp_path / "star.png")
    (tmp_path / "star.txt").write_text("a red star\n", encoding="utf-8")
    Image.new("RGB", (8, 8)).save(tmp_path / "without_caption.png")
    pictures = FolderPictures(tmp_path)
    image, caption, known = pictures.sample(rng, 256, 384)
    assert known is None
    assert image.shape == (384, 256, 3)
    assert 0 <= image.min() <= image.max() <= 1
    assert caption == "a red star"
    assert pictures.captions() == ["a red star"]


def test_a_folder_without_captions_is_refused(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "picture.png")
    with pytest.raises(InputError, match=r"no captioned image.*\.txt"):
        FolderPictures(tmp_path)


@pytest.mark.parametrize(("option", "says"), [("--pictures", "holds no captioned image"), ("--start", "has no folder")])
def test_a_bad_start_of_the_command_is_one_line(tmp_path, monkeypatch, capsys, option, says):
    (tmp_path / "empty").mkdir()
    monkeypatch.setattr("sys.argv", ["cocktail", "--out", str(tmp_path / "out"), option, str(tmp_path / "empty")])
    with pytest.raises(SystemExit) as left:
        cocktail.main()
    told = capsys.readouterr().err
    assert left.value.code == 1 and told.startswith("error: ") and says in told and told.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_any_colour_may_be_drawn_and_has_an_invented_name():
    rng = np.random.default_rng(0)
    named, new = 0, 0
    for _ in range(200):
        scene, colours = recoloured(Scene("red", "star", "blue"), rng)
        pair = [colours[scene.colour], colours[scene.background]]
        assert max(abs(a - b) for a, b in zip(*pair, strict=True)) >= LEAST_CONTRAST
        known = [word in COLOURS for word in (scene.colour, scene.background)]
        assert known != [True, True]
        new += known == [False, False]
        named += known == [True, False]
    assert 40 < new < 95 and 40 < named < 95
    sample = WorldPictures("flat", any_colour=1.0).sample(rng, 256, 256)
    assert sample.features is not None
    seen = np.median(sample.image.reshape(-1, 3), axis=0)
    drawn = sample.features[FIGURE, 0, 0] / 3 + 0.5, sample.features[BACKGROUND, 0, 0] / 3 + 0.5
    assert min(np.abs(seen - colour).max() for colour in drawn) < 0.01, "the features tell the colours that were drawn"


def test_features_tell_the_place_size_and_colours_of_the_figure():
    layout = Layout(512, 256, x=300, y=100, radius=60, share=60 / 256)
    maps = features(Scene("white", "star", "black"), layout, "flat")
    assert maps.shape == (16, 6, 12)
    across, down, falling, rising = maps[PLACE]
    # Positions lie between the centres of the first and the last patch of 8 pixels.
    columns, rows = np.linspace(4, 508, 12), np.linspace(4, 252, 6)
    assert ((across[0] > 0) == (columns > 300)).all()
    assert ((down[:, 0] > 0) == (rows > 100)).all()
    assert np.allclose(across.clip(-1, 1), ((columns - 300) / 60 * 0.7).clip(-1, 1), atol=1e-6)
    near = np.abs(maps[PLACE]).max(axis=0) < 1.7
    assert np.allclose(falling[near], (across + down)[near] / 2**0.5, atol=1e-6)
    assert np.allclose(rising[near], (across - down)[near] / 2**0.5, atol=1e-6)
    assert np.allclose(maps[FIGURE], 1.5 * (250 / 127.5 - 1))
    smaller = replace(layout, radius=40, share=40 / 256)
    assert (features(Scene("white", "star", "black"), smaller, "flat")[SIZE] < maps[SIZE]).all()


def test_a_piece_of_an_image_has_the_features_of_its_place():
    rng = np.random.default_rng(0)
    layout = random_layout(Scene("red", "star", "white"), 256, 256, rng)
    piece = layout.crop(64, 32, 128, 128)
    assert (piece.x, piece.y) == (layout.x - 64, layout.y - 32)
    whole, part = (features(Scene("red", "star", "white"), each, "flat") for each in (layout, piece))
    assert np.allclose(whole[SIZE:, 0, 0], part[SIZE:, 0, 0])
    image, _, known = WorldPictures("flat").sample(rng, 128, 96)
    assert image.shape == (96, 128, 3)
    assert known is not None
    assert known.shape == (16, 3, 3)


def test_plain_latents_are_linear_in_the_image():
    first, second = torch.rand(2, 1, 3, 16, 16)
    mixed = plain_latents(0.3 * first + 0.7 * second)
    assert mixed.shape == (1, 4, 4, 4)
    assert torch.allclose(mixed, 0.3 * plain_latents(first) + 0.7 * plain_latents(second), atol=1e-6)
    assert torch.allclose(plain_latents(torch.full((1, 3, 8, 8), 0.5)), torch.zeros(1, 4, 2, 2), atol=1e-6)


def test_stage_b_begins_with_the_outlines_of_the_shapes():
    stage_b = StageB(replace(TINY.stage_b, c_hidden=(64, 16), inject_effnet=(True, True)))
    initialise_stage_b(stage_b)
    begin_with_edges(stage_b)
    block = next(each for each in stage_b.down_blocks[0].children() if isinstance(each, ResBlock))
    weight, bias = (block.channelwise[0].get_parameter(name) for name in ("weight", "bias"))

    def seen(shape, x):
        layout = Layout(8, 8, x=4 - x, y=4, radius=1, share=0.2)  # its one position is at x, in radii
        maps = torch.from_numpy(features(Scene("red", shape, "white"), layout, "flat")) * 42 - 1
        mapped = stage_b.effnet_mappers["0"](maps[None])[0, :, 0, 0]
        return (weight[:, -len(mapped) :] @ mapped + bias).detach() > 0

    # Of the units that are edges, those of a square change their sign where its sides are, others are never positive.
    units = torch.arange(192)
    square = units % len(SHAPES) == list(SHAPES).index("square")
    inside, outside = seen("square", 0.85)[:192], seen("square", 0.91)[:192]
    assert (inside ^ outside)[square].sum() >= 3
    assert not (inside | outside)[~square].any()


def test_shapes_have_codes_that_are_far_apart():
    codes = list(CODES.values())
    apart = [np.linalg.norm(a - b) for a, b in itertools.combinations(codes, 2)]
    assert min(apart) > 2.8


def test_captions_say_the_same_in_many_words():
    rng = np.random.default_rng(0)
    said = {phrase(Scene("gray", "star", "orange", "small", "top left"), rng) for _ in range(400)}
    words = {word for caption in said for word in caption.split()}
    assert {"gray", "grey", "small", "tiny", "corner", "in", "an", "a", "star"} <= words
    assert any("orange" not in caption for caption in said)
    assert all("top left" in caption for caption in said)


def test_every_other_image_is_worn_and_shows_the_same():
    images = draw_batch(WorldPictures("flat"), np.random.default_rng(1), 6, 256, 256).images
    torch.manual_seed(0)
    changed = worn(images)
    assert torch.equal(changed[1::2], images[1::2]) and changed.min() >= 0 and changed.max() <= 1
    differences = (changed - images)[::2].abs().mean(dim=(1, 2, 3))
    assert differences.min() > 0.001 and differences.max() < 0.05


def test_the_image_encoder_learns_known_features(tmp_path):
    torch.manual_seed(0)
    image_encoder = CocktailEncoder()
    batch = draw_batch(WorldPictures("flat"), np.random.default_rng(0), 4, 128, 128)
    assert batch.features is not None
    optimizer = torch.optim.Adam(image_encoder.parameters(), 1e-3)
    losses: list[float] = []
    for _ in range(10):
        loss = features_loss(image_encoder, batch.images, batch.features)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


def test_world_words_are_one_token_each(tmp_path):
    tokenizer = make_tokenizer(WorldPictures("flat").captions(), tmp_path)
    caption = "a large purple triangle at the bottom on a orange background"
    assert len(tokenizer(caption).input_ids) == len(caption.split()) + 2
    assert tokenizer.unk_token_id not in tokenizer("naïve Pizza!").input_ids[1:-1]


def test_embeddings_have_the_geometry_and_scale_of_stage_c():
    images = draw_batch(WorldPictures("flat", "aesthetic"), np.random.default_rng(0), 50, 128, 256).images
    image_encoder = CocktailEncoder()
    for module in image_encoder.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # one pass is enough to know the statistics
    image_encoder.features(images)
    embeddings = image_encoder.eval()(images)
    assert embeddings.shape == (50, 16, 6, 3)
    features = (embeddings + 1) / 42
    assert features.abs().max() <= BOUND
    assert 0.2 < features.std() < BOUND / 2


def test_main_contrast_is_the_same_whatever_the_colours():
    def contrast(colour, background):
        scene = Scene(colour, "heart", background)
        image = torch.from_numpy(draw(scene, random_layout(scene, 128, 128, np.random.default_rng(0)))).permute(2, 0, 1)
        return main_contrast(image[None])

    first = contrast("red", "white")
    assert first.shape == (1, 1, 128, 128)
    assert first.mean().abs() < 1e-4
    assert first.std() == pytest.approx(1, abs=0.01)
    for colours in (("white", "red"), ("black", "brown"), ("cyan", "pink")):
        assert torch.allclose(contrast(*colours), first, atol=0.02)
