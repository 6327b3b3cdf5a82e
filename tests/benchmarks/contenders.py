"""Work that is timed: the same on the same weights, by this project and by diffusers.

Weights are random, of the published shapes, and the same on both sides: both know them by the same keys.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from support import tiny
from wuerstchen_core import (
    StageA,
    StageAConfig,
    StageB,
    StageBConfig,
    StageC,
    StageCConfig,
    decode_stage_a,
    load_stage_a,
    load_stage_b,
    load_stage_c,
    sample_stage_b,
    sample_stage_c,
)
from wuerstchen_core.geometry import Size, stage_b_size
from wuerstchen_core.networks.compiling import compile_blocks
from wuerstchen_core.networks.eight_bits import operations_for
from wuerstchen_core.networks.int8 import floating_state, quantized
from wuerstchen_core.networks.operations import compute_dtype
from wuerstchen_core.sampling import with_guidance
from wuerstchen_core.schedule import linear_timesteps

Side = Literal["ours", "plain", "diffusers"]
"""This project, this project in the dtype that int8 computes in beside its products, and diffusers."""
Work = Callable[[], Tensor]
"""Does it once and returns its result."""

ROOT = Path(__file__).parents[2]
TOKENS = 77
GUIDANCE = 4.0
T = 0.7


@dataclass(frozen=True)
class Settings:
    """size: of a square picture, in pixels. batch: pictures at once. tiny: networks of a few thousand weights.

    folder: where the networks lie as files, for what is timed from files. steps: (Stage C's, Stage B's) of a picture.
    dtype: torch.int8 for this project alone; the others then run in its `plain` one. spins: whether threads that wait
    for work keep their core busy, as torch's do by themselves. cpu_clock: whether a side's own processor time is taken,
    which others on the machine do not lengthen.
    """

    dtype: torch.dtype = torch.bfloat16
    spins: bool = False
    device: str = "cpu"
    size: int = 1024
    batch: int = 1
    tiny: bool = False
    compile: bool = False
    folder: str = ""
    steps: tuple[int, int] = (1, 1)
    cpu_clock: bool = False

    @property
    def sides(self) -> tuple[Side, ...]:
        """Those that are compared."""
        return ("ours", "plain", "diffusers") if self.dtype == torch.int8 else ("ours", "diffusers")

    @property
    def plain(self) -> torch.dtype:
        """Dtype of the sides that do not run in int8."""
        return compute_dtype(torch.device(self.device)) if self.dtype == torch.int8 else self.dtype

    def config(self, kind: type) -> Any:
        small = {StageA: tiny.STAGE_A, StageB: tiny.STAGE_B, StageC: tiny.STAGE_C}
        published = {StageA: StageAConfig.v2, StageB: StageBConfig.v2, StageC: StageCConfig.v2}
        return small[kind] if self.tiny else published[kind]()


def network(kind: type, settings: Settings, side: Side) -> Any:
    """A network with its random weights, in this project's form or in diffusers'."""
    with torch.device("meta"):
        own = side != "diffusers"
        built = kind(settings.config(kind)) if own else tiny.diffusers_form(kind, settings.config(kind))
    built = fill(built.to(settings.plain), settings.device)
    if side == "ours" and settings.dtype == torch.int8 and kind is not StageA:
        built = in_eight_bits(built)
    if settings.compile:
        compile_blocks(built) if own else built.compile()
    return built


def in_eight_bits(built: Any) -> Any:
    """The same network with its linear layers in int8."""
    with torch.device("meta"):
        result = type(built)(built.config, operations_for(torch.int8, torch.device("cpu")))
    own, state = built.state_dict(), {}
    for key, value in floating_state(result).items():
        if isinstance(value, Tensor):
            state[key] = own[key]
        else:
            state[key], state[key.removesuffix("weight") + "factor"] = quantized(own[key])
    result.load_state_dict(state, strict=True, assign=True)
    return result.eval().requires_grad_(False)


def fill(built: nn.Module, device: str) -> nn.Module:
    """Give a network on `meta` its weights, about 0.5 / sqrt(inputs): one pattern, begun elsewhere for every key."""
    pattern = torch.randn(1 << 20, generator=torch.Generator().manual_seed(0)) * 0.5
    state: dict[str, Tensor] = {}
    for position, (key, empty) in enumerate(sorted(built.state_dict().items())):
        if not empty.is_floating_point():
            state[key] = torch.zeros(empty.shape, dtype=empty.dtype, device=device)
            continue
        inputs = max(1, empty[0].numel()) if empty.ndim > 1 else 16
        scaled = (pattern.roll(position * 997) / inputs**0.5).to(empty.dtype)
        repeats = -(-empty.numel() // len(scaled))
        state[key] = scaled.repeat(repeats)[: empty.numel()].view(empty.shape).clone().to(device)
        if key.endswith("running_var"):
            state[key] = state[key].abs() + 0.5
        elif key in ("out.1.bias", "clf.1.bias"):  # the noise's scale stays away from 0, where rounding is amplified
            state[key][empty.numel() // 2 :] = -1 if key == "out.1.bias" else 2
        elif key in ("out.1.weight", "clf.1.weight"):
            state[key][len(empty) // 2 :] *= 0.1
    built.load_state_dict(state, strict=True, assign=True)
    return built.eval().requires_grad_(False)


def _noise(settings: Settings, *shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(settings.device)


def _ratio(settings: Settings, batch: int) -> Tensor:
    return torch.full((batch,), T, device=settings.device)


def stage_c(side: Side, settings: Settings) -> Work:
    """One guided step: the noise that is predicted for `batch` image embeddings."""
    built = network(StageC, settings, side)
    config = settings.config(StageC)
    x = _noise(settings, settings.batch, config.c_in, *Size(settings.size, settings.size).stage_c)
    positive, negative = _noise(settings, 2, settings.batch, TOKENS, config.c_cond, seed=2)
    if side != "diffusers":
        denoise = with_guidance(built.predict, (positive,), (negative,), GUIDANCE, built.condition)
        return lambda: denoise(x, _ratio(settings, settings.batch))
    text, x = torch.cat([positive, negative]).to(settings.plain), x.to(settings.plain)

    def step() -> Tensor:
        ratio = _ratio(settings, 2 * settings.batch).to(settings.plain)
        with_text, without = built(torch.cat([x, x]), r=ratio, c=text).chunk(2)
        return torch.lerp(without, with_text, GUIDANCE)

    return step


def stage_b(side: Side, settings: Settings) -> Work:
    """One step without guidance, as v2 is published: the noise that is predicted for `batch` latents."""
    built = network(StageB, settings, side)
    config = settings.config(StageB)
    small = Size(settings.size, settings.size).stage_c
    x = _noise(settings, settings.batch, config.c_in, *stage_b_size(*small))
    embeddings = _noise(settings, settings.batch, config.effnet_embd, *small, seed=3)
    text = _noise(settings, settings.batch, TOKENS, config.clip_embd, seed=4)
    ratio = _ratio(settings, settings.batch)
    if side != "diffusers":
        condition = built.condition(embeddings, text, x.shape[-2:])
        return lambda: built.predict(x, ratio, condition)
    x, ratio, embeddings, text = (each.to(settings.plain) for each in (x, ratio, embeddings, text))
    return lambda: built(x, ratio, embeddings, text)


def stage_a(side: Side, settings: Settings) -> Work:
    """Decoding `batch` latents, one picture after the other as this project's nodes do, at once as diffusers does."""
    built = network(StageA, settings, side)
    config = settings.config(StageA)
    size = stage_b_size(*Size(settings.size, settings.size).stage_c)
    latents = _noise(settings, settings.batch, config.latent_channels, *size)
    if side != "diffusers":
        return lambda: torch.cat([decode_stage_a(built, one) for one in latents.split(1)])
    scaled = (latents * config.scale_factor).to(settings.plain)
    return lambda: built.decode(scaled).sample.clamp(0, 1)


def load(side: Side, settings: Settings) -> Work:
    """Stage C from its file to a network whose every weight has been read once."""
    folder = Path(settings.folder) / "prior"
    dtype = settings.dtype if side == "ours" else settings.plain
    if side != "diffusers":

        def build() -> Any:
            return load_stage_c(folder, device=settings.device, dtype=dtype)

    else:
        kind = tiny.diffusers_class(StageC)

        def build() -> Any:
            return kind.from_pretrained(folder, torch_dtype=dtype).to(settings.device)

    # The biases are the same in every dtype, but for its rounding.
    return lambda: torch.stack([weight.float().sum() for key, weight in sorted(read(build())) if key.endswith("bias")])


def read(network: nn.Module) -> list[tuple[str, Tensor]]:
    """Weights by name, each of which is read once."""
    for weight in network.parameters():
        weight.sum()
    return list(network.named_parameters())


def picture(side: Side, settings: Settings) -> Work:
    """From text embeddings to pixels, from files. This project has one stage in memory at a time, as its pipeline and
    its nodes do; diffusers holds all three at once, as its pipelines do."""
    if side == "diffusers":
        return _picture_by_diffusers(settings)
    return _picture_by_ours(settings, settings.dtype if side == "ours" else settings.plain)


def _texts(settings: Settings) -> tuple[Tensor, Tensor]:
    widths = settings.config(StageC).c_cond, settings.config(StageB).clip_embd
    text_c, text_b = (_noise(settings, 1, TOKENS, width, seed=2) for width in widths)
    return text_c, text_b


def _picture_by_ours(settings: Settings, dtype: torch.dtype) -> Work:
    folder, seeds = Path(settings.folder), list(range(settings.batch))
    how: Any = {"device": settings.device, "dtype": dtype}
    plain: Any = {"device": settings.device, "dtype": settings.plain}
    c_timesteps, b_timesteps = (linear_timesteps(steps) for steps in settings.steps)
    text_c, text_b = _texts(settings)

    def draw() -> Tensor:
        embeddings = sample_stage_c(
            load_stage_c(folder / "prior", **how),
            text_c,
            width=settings.size,
            height=settings.size,
            seeds=seeds,
            timesteps=c_timesteps,
            guidance_scale=GUIDANCE,
        )
        stage_b = load_stage_b(folder / "decoder", **how)
        latents = sample_stage_b(stage_b, embeddings, text_b, seeds=seeds, timesteps=b_timesteps)
        del stage_b
        return decode_stage_a(load_stage_a(folder / "vqgan", **plain), latents)

    return draw


def _picture_by_diffusers(settings: Settings) -> Work:
    folder, count = Path(settings.folder), settings.batch
    prior, decoder, vqgan = (
        tiny.diffusers_class(kind).from_pretrained(folder / part, torch_dtype=settings.plain).to(settings.device)
        for kind, part in ((StageC, "prior"), (StageB, "decoder"), (StageA, "vqgan"))
    )
    scheduler = tiny.diffusers().DDPMWuerstchenScheduler()
    text_c, text_b = (text.to(settings.plain).expand(count, -1, -1) for text in _texts(settings))
    both = torch.cat([text_c, torch.zeros_like(text_c)])
    small = Size(settings.size, settings.size).stage_c

    def loop(predict: Callable[[Tensor, Tensor], Tensor], shape: tuple[int, ...], steps: int) -> Tensor:
        generators = [torch.Generator("cpu").manual_seed(seed) for seed in range(count)]
        x = torch.cat([torch.randn(1, *shape, generator=each) for each in generators])
        x = x.to(settings.device, settings.plain)
        scheduler.set_timesteps(steps)
        for t in scheduler.timesteps[:-1]:
            ratio = t.expand(count).to(settings.device, settings.plain)
            x = scheduler.step(predict(x, ratio), ratio, x, generator=generators).prev_sample
        return x

    def guided(x: Tensor, ratio: Tensor) -> Tensor:
        with_text, without = prior(torch.cat([x, x]), r=torch.cat([ratio, ratio]), c=both).chunk(2)
        return torch.lerp(without, with_text, GUIDANCE)

    def draw() -> Tensor:
        embeddings = loop(guided, (settings.config(StageC).c_in, *small), settings.steps[0]) * 42 - 1
        shape = (settings.config(StageB).c_in, *stage_b_size(*small))
        latents = loop(lambda x, ratio: decoder(x, ratio, embeddings, text_b), shape, settings.steps[1])
        return vqgan.decode(latents * vqgan.config.scale_factor).sample.float().clamp(0, 1)

    return draw


def cold(side: Side, settings: Settings) -> Work:
    """A process of its own that draws one picture with cocktail, 256x256 in 29 + 12 steps, the imports included."""
    if side != "diffusers":
        command = [sys.executable, "-m", "wuerstchen_nodes.headless.cli", "run", "text_to_image"]
        command += ["--no-cache", "--out", str(Path(settings.folder) / "cold.png")]
        command += ["--set", "Stage B Decode.steps=12", "--set", "Stage B Decode.schedule=linear"]
    else:
        command = [sys.executable, str(Path(__file__).with_name("cold_diffusers.py"))]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "tests")}

    def draw() -> Tensor:
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} failed: {done.stderr.strip()[-2000:]}")
        return torch.zeros(1)

    return draw


ROWS: dict[str, tuple[str, Callable[[Side, Settings], Work]]] = {
    "stage_c": ("Stage C, a guided step", stage_c),
    "stage_b": ("Stage B, a step", stage_b),
    "stage_a": ("Stage A decode", stage_a),
    "load": ("load Stage C and be ready", load),
    "picture": ("a picture from files, few steps", picture),
    "cold": ("a cold process, cocktail at 256x256", cold),
}


def save_networks(settings: Settings) -> None:
    """Write the networks of `settings` as files below its folder, in the diffusers layout."""
    from wuerstchen_core.checkpoints.saving import save_stage_a, save_stage_b, save_stage_c

    plain = replace(settings, compile=False, device="cpu")
    folder = Path(settings.folder)
    save_stage_c(network(StageC, plain, "ours"), folder / "prior")
    save_stage_b(network(StageB, plain, "ours"), folder / "decoder")
    save_stage_a(network(StageA, plain, "ours"), folder / "vqgan")
