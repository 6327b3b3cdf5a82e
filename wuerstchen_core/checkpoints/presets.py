"""Table of the presets: named models, the place of each of their parts, and the settings that suit them."""

from dataclasses import dataclass

from ..errors import InputError
from ..geometry import STEP, Size
from .components import COMPONENTS, IMAGE_ENCODER, STAGE_A, STAGE_B, STAGE_C, TEXT_ENCODER_B, TEXT_ENCODER_C


@dataclass(frozen=True)
class Place:
    """Repository and folder of a part. Its string is the path below a model folder.

    Attributes:
        repo: Hugging Face repository, "owner/name"; None for the weights inside this package.
        folder: Folder in the repository; empty for the whole. A text encoder's holds text_encoder/ and tokenizer/.
        gigabytes: Size of the weights, as published.
        otherwise: Place that has the same weights, where that is on the machine already.
    """

    repo: str | None
    folder: str
    gigabytes: float = 0.0
    otherwise: "Place | None" = None

    def __str__(self) -> str:
        return "/".join(part for part in (self.repo or "wuerstchen_core/cocktail", self.folder) if part)


@dataclass(frozen=True)
class Family:
    """Settings that suit the models of one family.

    Attributes:
        name: Name for people.
        natural_size: Side of an image in pixels, for callers that name none.
        smallest: Shortest side that the models were trained on, in pixels.
        largest: Longest side that the models were trained on, in pixels.
        stage_c_guidance_scale: Guidance of Stage C.
        stage_b_guidance_scale: Guidance of Stage B.
        stage_b_steps: Steps of Stage B.
        stage_b_schedule: Their schedule, a key of `schedule.SCHEDULES`.
        context: Timestep ratio from which Stage C sees what a mask keeps; see `sample_stage_c`.
        image_strength: Share of Stage C's schedule that redraws a picture after a prompt and keeps its arrangement.
        vary_strength: Share of it that varies a picture and keeps what it shows.
    """

    name: str
    natural_size: int
    smallest: int
    largest: int
    stage_c_guidance_scale: float
    stage_b_guidance_scale: float = 0.0
    stage_b_steps: int = 12
    stage_b_schedule: str = "linear"
    context: float = 1.0
    image_strength: float = 0.4
    vary_strength: float = 0.3


COCKTAIL = Family(
    "cocktail",
    natural_size=256,
    smallest=256,
    largest=512,
    stage_c_guidance_scale=2.0,
    stage_b_steps=3,
    stage_b_schedule="early",
    context=0.0,
    image_strength=0.03,
    vary_strength=0.07,
)
V2 = Family("Würstchen v2", natural_size=1024, smallest=1024, largest=1536, stage_c_guidance_scale=4.0)

DEFAULT_MODEL = "cocktail"
DEFAULT_SEED = 0
DEFAULT_STEPS = 29
"""Steps of Stage C."""


def _cocktail(stage_c: str) -> dict[str, Place]:
    return {
        STAGE_C.part: Place(None, stage_c),
        STAGE_B.part: Place(None, f"wuerstchen/{STAGE_B.folder}"),
        STAGE_A.part: Place(None, f"wuerstchen/{STAGE_A.folder}"),
        TEXT_ENCODER_C.part: Place(None, "wuerstchen-prior"),
        TEXT_ENCODER_B.part: Place(None, "wuerstchen"),
        IMAGE_ENCODER.part: Place(None, "image-encoder"),
    }


def _v2(stage_c: str, otherwise: Place | None = None) -> dict[str, Place]:
    return {
        STAGE_C.part: Place(stage_c, "", 3.97, otherwise),
        STAGE_B.part: Place("warp-ai/wuerstchen", STAGE_B.folder, 4.22),
        STAGE_A.part: Place("warp-ai/wuerstchen", STAGE_A.folder, 0.07),
        TEXT_ENCODER_C.part: Place("warp-ai/wuerstchen-prior", "", 2.77),
        TEXT_ENCODER_B.part: Place("warp-ai/wuerstchen", "", 1.41),
        IMAGE_ENCODER.part: Place(
            "warp-ai/EfficientNetEncoder", "", 0.08, Place("dome272/wuerstchen", "model_v2_stage_b.pt")
        ),
    }


PRESETS: dict[str, dict[str, Place]] = {
    "cocktail": _cocktail(f"wuerstchen-prior/{STAGE_C.folder}"),
    "cocktail-base": _cocktail("prior-base"),
    "cocktail-aesthetic": _cocktail("prior-aesthetic"),
    "v2-base": _v2("warp-ai/wuerstchen-prior-model-base"),
    "v2-aesthetic": _v2("warp-ai/wuerstchen-prior-model-finetuned"),
    "v2-interpolated": _v2(
        "warp-ai/wuerstchen-prior-model-interpolated", Place("warp-ai/wuerstchen-prior", STAGE_C.folder)
    ),
}
"""Preset -> part -> place, for every part of `components.COMPONENTS`."""

FAMILIES: dict[str, Family] = {
    "cocktail": COCKTAIL,
    "cocktail-base": COCKTAIL,
    "cocktail-aesthetic": COCKTAIL,
    "v2-base": V2,
    "v2-aesthetic": V2,
    "v2-interpolated": V2,
}
"""Preset -> family."""


def published_file(place: Place, part: str) -> str:
    """Return the weights file of a published part, as a path in its repository."""
    name = (
        "text_encoder/model.safetensors" if COMPONENTS[part].is_text_encoder else "diffusion_pytorch_model.safetensors"
    )
    return f"{place.folder}/{name}".lstrip("/")


def preset_names(part: str = "") -> list[str]:
    """List the presets that have a part whose name begins with `part`, such as "C" or "text_encoder"."""
    return [name for name, places in PRESETS.items() if any(each.startswith(part) for each in places)]


def preset(name: str) -> dict[str, Place]:
    """Return the place of each part of a preset.

    Raises:
        InputError: There is no such preset.
    """
    if name not in PRESETS:
        raise InputError(f"model is {name!r}; expected one of {', '.join(PRESETS)}.")
    return PRESETS[name]


def family(name: str) -> Family:
    """Return the settings that suit a preset.

    Raises:
        InputError: There is no such preset.
    """
    preset(name)
    return FAMILIES[name]


def size_warnings(size: Size, model: str = "") -> list[str]:
    """List the reasons why images of a size may not come out as asked for, one line each.

    Args:
        size: Size that was asked for.
        model: Name of a preset; any other text for a model whose sizes are not known.
    """
    found: list[str] = []
    drawn = size.rounded
    known = FAMILIES.get(model)
    if known is not None and not all(known.smallest <= side <= known.largest for side in (drawn.width, drawn.height)):
        found.append(
            f"{known.name} was trained on sides of {known.smallest} to {known.largest} pixels; an image of {drawn} may "
            "not match the prompt."
        )
    if drawn != size:
        found.append(
            f"An image of {size} is drawn as {drawn} and cropped at the right and the bottom, so figures may be cut; "
            f"multiples of {STEP} are not cropped."
        )
    return found
