"""`image_to_image`, `inpaint` and `vary`: from a picture to pictures, on tiny networks and on cocktail."""

import inspect
import shutil
import warnings

import numpy as np
import pytest
from PIL import Image

from support import tiny
from wuerstchen_core import InputError, WeightsMissingError, generate, image_to_image, inpaint, vary
from wuerstchen_core.checkpoints.saving import save_stage_c
from wuerstchen_core.pipeline.pictures import Settings

SMALL = "Würstchen v2 was trained on sides of 1024 to 1536 pixels"
CROPPED = "An image of .* is drawn as"
pytestmark = [pytest.mark.filterwarnings(f"ignore:{SMALL}"), pytest.mark.filterwarnings(f"ignore:{CROPPED}")]
QUICK = {"model": "v2-base", "steps": 3, "stage_b_steps": 2}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    tiny.save_pipelines(folder / "warp-ai")
    save_stage_c(tiny.stage_c(), folder / "warp-ai" / "wuerstchen-prior-model-base")
    return folder


@pytest.fixture(autouse=True)
def _models(monkeypatch, models):
    monkeypatch.setenv("WUERSTCHEN_MODELS", str(models))


def picture(width: int = 256, height: int = 256, mode: str = "RGB") -> Image.Image:
    values = np.random.default_rng(3).integers(0, 256, (height, width, 4), np.uint8)
    image = Image.fromarray(values)
    return image if mode == "RGBA" else image.convert("RGB").convert(mode)


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image)


def test_full_strength_and_a_white_mask_are_generate():
    [plain] = generate("a star", seed=3, width=256, height=256, **QUICK)
    [redrawn] = image_to_image(picture(), "a star", strength=1.0, seed=3, **QUICK)
    [painted] = inpaint(picture(), Image.new("L", (256, 256), 255), "a star", seed=3, **QUICK)
    assert redrawn.tobytes() == plain.tobytes() == painted.tobytes()
    [weaker] = image_to_image(picture(), "a star", strength=0.4, seed=3, **QUICK)
    assert weaker.tobytes() != plain.tobytes()


# 43 and 128 pixels are a position of Stage C and a whole step: masks begin and end before, on and after both.
@pytest.mark.parametrize("edge", [1, 42, 43, 44, 85, 86, 127, 128, 129, 170, 255])
@pytest.mark.parametrize("upright", [True, False])
def test_pixels_outside_of_the_mask_keep_their_bytes(edge, upright):
    before = picture(256, 384)
    mask = np.zeros((384, 256), np.uint8)
    area = (slice(edge, None), slice(None)) if upright else (slice(None), slice(edge, None))
    mask[area] = 255
    [after] = inpaint(before, Image.fromarray(mask), "a star", **QUICK)
    kept, drawn = (pixels(after)[where] == pixels(before)[where] for where in (mask == 0, mask > 0))
    assert kept.all()
    assert drawn.mean() < 0.2


def test_gray_in_a_mask_blends():
    before, flat = picture(), Image.new("L", (256, 256), 255)
    half = Image.new("L", (256, 256), 128)
    [whole], [mixed] = (inpaint(before, mask, "a star", **QUICK) for mask in (flat, half))
    assert pixels(mixed).tobytes() not in (pixels(before).tobytes(), pixels(whole).tobytes())


@pytest.mark.parametrize(("width", "height"), [(1, 1), (200, 100), (130, 257)])
def test_the_result_has_the_pictures_size(width, height):
    for [result] in (
        image_to_image(picture(width, height), "a star", **QUICK),
        inpaint(picture(width, height), Image.new("L", (width, height), 255), "a star", **QUICK),
    ):
        assert result.size == (width, height) and result.mode == "RGB"


def test_variations_differ_and_take_a_path(tmp_path):
    picture().save(tmp_path / "in.png")
    several = vary(tmp_path / "in.png", seed=5, batch_size=3, **QUICK)
    assert len({each.tobytes() for each in several}) == 3
    [alone] = vary(str(tmp_path / "in.png"), seed=6, **QUICK)
    assert np.abs(pixels(alone).astype(int) - pixels(several[1])).max() <= 1
    [told] = vary(picture(), seed=5, prompt="a star", **QUICK)
    [as_image] = image_to_image(picture(), "a star", strength=0.3, seed=5, **QUICK)
    assert told.tobytes() == as_image.tobytes()


@pytest.mark.parametrize("mode", ["L", "P", "CMYK", "1", "I;16"])
def test_every_mode_of_a_picture_is_read(mode):
    [result] = image_to_image(picture(mode="L").convert("I;16") if mode == "I;16" else picture(mode=mode), "a", **QUICK)
    assert result.size == (256, 256)


def test_transparency_and_masks_of_another_size_are_warned_of_at_the_callers_line():
    with pytest.warns(UserWarning, match="transparent in places") as seen:
        image_to_image(picture(mode="RGBA"), "a star", **QUICK)
    assert seen[0].filename == __file__
    opaque = Image.merge("RGBA", (*picture().split(), Image.new("L", (256, 256), 255)))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.filterwarnings("ignore", SMALL)
        image_to_image(opaque, "a star", **QUICK)
    with pytest.warns(UserWarning, match="The mask is 64x32, the picture 256x256; it is stretched to fit"):
        inpaint(picture(), Image.new("L", (64, 32), 255), "a star", **QUICK)


def test_a_black_mask_gives_the_picture_back():
    with pytest.warns(UserWarning, match="black all over"):
        [same] = inpaint(picture(), Image.new("1", (256, 256), 0), "a star", **QUICK)
    assert same.tobytes() == picture().tobytes()


def test_a_turned_photograph_is_read_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    picture(200, 100).save(tmp_path / "turned.jpg", exif=exif)
    [result] = image_to_image(tmp_path / "turned.jpg", "a star", **QUICK)
    assert result.size == (100, 200)


def _inpaint(image, **more):
    return inpaint(image, image, "a", **more)


@pytest.mark.parametrize("call", [image_to_image, vary, _inpaint])
def test_what_is_no_picture_is_said(call, tmp_path):
    (tmp_path / "text.png").write_text("not a picture")
    Image.new("1", (20000, 20000)).save(tmp_path / "huge.png")
    more = {"prompt": "a", **QUICK}
    if call is _inpaint:
        more.pop("prompt")
    for given, message in (
        (tmp_path / "none.png", "cannot be read as a picture"),
        (tmp_path / "text.png", "cannot be read as a picture"),
        (7, "cannot be read as a picture"),
        (tmp_path / "huge.png", "is too large: it has .* expected at most .* in all. Make it smaller"),
        (Image.new("1", (20000, 20000)), "image has 20000 x 20000 pixels; expected at most 8192"),
    ):
        with pytest.raises(InputError, match=message):
            call(given, **more)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strength": 0.0}, "strength is 0.0"),
        ({"strength": 1.1}, "strength is 1.1"),
        ({"strength": 1e-9}, "strength is 1e-09"),  # or its schedule would not fit into memory
        ({"strength": float("nan")}, "strength is nan"),
        ({"steps": 0}, "steps is 0"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"seed": 1.5}, "seed is 1.5"),
        ({"model": "v9"}, "model is 'v9'"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(InputError, match=message):
        image_to_image(picture(), "a star", **{**QUICK, **options})
    with pytest.raises(TypeError, match="wdith"):
        image_to_image(picture(), "a star", wdith=3)  # pyright: ignore[reportCallIssue]


def test_a_missing_image_encoder_is_told_before_any_work(models, monkeypatch, tmp_path):
    folder = tmp_path / "models"
    shutil.copytree(models, folder)
    shutil.rmtree(folder / "warp-ai" / "EfficientNetEncoder")
    monkeypatch.setenv("WUERSTCHEN_MODELS", str(folder))
    assert generate("a star", width=128, height=128, **QUICK)
    with pytest.raises(WeightsMissingError, match="wuerstchen download v2-base"):
        image_to_image(picture(), "a star", **QUICK)


def test_the_shared_arguments_are_those_of_generate():
    expected = set(inspect.signature(generate).parameters) - {"prompt", "width", "height", "negative_prompt", "seed"}
    assert set(Settings.__annotations__) == expected
