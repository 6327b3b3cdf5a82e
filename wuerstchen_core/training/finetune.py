# pyright: reportUnknownMemberType=false, reportMissingTypeStubs=false
# torch types from_numpy and manual_seed in part only, and accelerate is not typed.
"""Finetuning of Stage C on captioned pictures: a LoRA, or the whole network. Resumable after a kill at any moment.

Pictures and captions are encoded first; then only Stage C is in memory, but for the moments in which validation
pictures are decoded.
"""

import gc
import logging
from collections.abc import Callable, Sequence
from functools import cache, cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
from torch import Tensor

from ..checkpoints.loading import load_image_encoder, load_stage_c, load_text_encoder
from ..checkpoints.presets import DEFAULT_MODEL, PRESETS, family
from ..checkpoints.saving import save_stage_c
from ..checkpoints.sources import locate
from ..errors import WuerstchenError
from ..geometry import EMBEDDING_SCALE, EMBEDDING_SHIFT, STEP
from ..networks.stage_c import StageC
from ..stages import encode_stage_c, sample_stage_c
from ..text.encoder import TextEncoder
from .authors_loss import noise_loss, random_timesteps
from .captions import captioned_pictures, read_prompts
from .encoded import Cache, Example, buckets, check_picture, digest, digest_of, draw, read, write
from .journal import Journal
from .loop import LoopConfig, make_accelerator, train
from .lora import add_lora, save_lora, without_lora
from .losses import diffusion_loss, random_ratios
from .settings import ENCODED, Finetuning, check, claim
from .validation import Validation

if TYPE_CHECKING:
    from accelerate import Accelerator

log = logging.getLogger(__name__)

Value = TypeVar("Value")

LORA_FILE, STAGE_C_FOLDER = "lora.safetensors", "stage_c"
DROP_CAPTION = 0.05
"""Share of captions that are replaced by the empty one, as guidance needs; the authors' own."""
LARGE_WIDTH = 1280
"""Width of the text that the published networks read."""


class Run:
    """One finetuning: checks its settings, encodes the pictures, trains, and writes the result.

    Args:
        settings: Its settings.
        told: Called with the number of steps done, the loss of the last one, and the seconds left.
    Raises:
        InputError: A setting is out of range, or there are no captioned pictures, or `out` holds another training.
        WeightsMissingError, CheckpointError: A network is not on this machine, or damaged.
    """

    def __init__(self, settings: Finetuning, told: Callable[[int, float, float], None] | None = None) -> None:
        self.settings = settings
        self._told = told
        check(settings)
        self._given = captioned_pictures(settings.pictures)
        self._kept = () if settings.keep is None else read_prompts(settings.keep)
        claim(settings, pictures=digest_of(self._given), keep=digest(*self._kept) if self._kept else None)

    @property
    def result(self) -> Path:
        """The LoRA's file, or the folder of Stage C."""
        return self.settings.out / (LORA_FILE if self.settings.kind == "lora" else STAGE_C_FOLDER)

    def run(self) -> Path:
        """Train, or go on with a training that was interrupted, and return `result`.

        Raises:
            InputError: A picture cannot be read, the progress is damaged, or the loss is no longer a number.
            WuerstchenError: A file cannot be read or written, such as on a full disk.
        """
        try:
            return self._run()
        except OSError as error:
            raise WuerstchenError(
                f"{error.filename or self.settings.out} cannot be read or written: {error.strerror or error}. Mend "
                "that, and run the same command again: it goes on where it was."
            ) from error

    def _run(self) -> Path:
        accelerator = make_accelerator()
        examples = self._encoded(accelerator)
        stage_c = self._loaded().to(accelerator.device)
        self._cache.check_texts(self._texts, stage_c.config.c_cond)
        with accelerator.local_main_process_first():
            kept = self._drawn(stage_c, accelerator.device)
        self._prepare(stage_c)
        self._train(stage_c, examples, kept, accelerator)
        if accelerator.is_main_process:
            self._write(stage_c)
        return self.result

    @cached_property
    def encoders(self) -> str:
        """Preset of the encoders and the decoder."""
        settings = self.settings
        if settings.encoders is not None:
            return settings.encoders
        if settings.model in PRESETS:
            return settings.model
        return "v2-base" if self._config_width >= LARGE_WIDTH else DEFAULT_MODEL

    @property
    def loss(self) -> str:
        """Loss of the training, one of `settings.LOSSES`."""
        return self.settings.loss or ("signal" if family(self.encoders) == family(DEFAULT_MODEL) else "noise")

    @cached_property
    def _config_width(self) -> int:
        from ..checkpoints.recipes import Stored

        return Stored(self.settings.model).config.c_cond

    @cached_property
    def prompts(self) -> tuple[str, ...]:
        """Prompts of the validation pictures."""
        captions = dict.fromkeys(each.caption for each in self._given)
        return self.settings.prompts or tuple(caption for caption in captions if caption)[:4]

    @cached_property
    def words(self) -> tuple[str, ...]:
        """Words of the captions that the text encoder does not know, where it lists those that it does."""
        if not self.encoders.startswith(DEFAULT_MODEL):
            return ()  # the published ones list none
        encoder = load_text_encoder(self.encoders, for_stage="C")
        return tuple(sorted({word for each in self._given for word in encoder.unknown_words(each.caption)}))

    @cached_property
    def _cache(self) -> Cache:
        def files(part: str) -> str:
            return digest(*locate(self.encoders, part).paths)

        return Cache(self.settings.out / ENCODED, files("image_encoder"), files("text_encoder_c"))

    @property
    def _texts(self) -> list[str]:
        """Every text that is encoded."""
        return ["", *(each.caption for each in self._given), *self.prompts, *self._kept]

    @property
    def _loop(self) -> LoopConfig:
        settings = self.settings
        return LoopConfig(
            settings.steps,
            settings.learning_rate,
            warmup=min(100, settings.steps // 10),
            final_rate=1.0 if settings.schedule == "constant" else 0.02,
            ema_decay=None,
            betas=(0.9, 0.999),
            optimizer=settings.optimizer,
            autocast=settings.precision == "mixed",
            save_every=settings.save_every,
        )

    def _encoded(self, accelerator: "Accelerator") -> list[Example]:
        """Return the encoded pictures; every caption and validation prompt is encoded, too."""
        suits, device = family(self.encoders), accelerator.device
        sizes = buckets(self.settings.resolution or suits.natural_size)
        with accelerator.local_main_process_first():
            examples = self._encoded_pictures(sizes, device)
            self._encode_texts(self._texts, device)
        gc.collect()
        log.info("%d pictures in %d sizes", len(examples), len({example.size for example in examples}))
        return examples

    def _encoded_pictures(self, sizes: list[tuple[int, int]], device: torch.device) -> list[Example]:
        """Encode the pictures that are not in the cache. The encoder is loaded if there are any, and let go."""
        encoder = cache(partial(load_image_encoder, self.encoders, device=device))
        return self._cache.encode_pictures(
            self._given, sizes, lambda pixels: encode_stage_c(encoder(), pixels.to(device))
        )

    def _encode_texts(self, texts: list[str], device: torch.device) -> None:
        """Encode the texts that are not in the cache, in the same way."""

        @cache
        def encoder() -> TextEncoder:
            loaded = load_text_encoder(self.encoders, for_stage="C", device=device)
            loaded.added_words = self.words  # they are what is taught, so nothing warns of them
            return loaded

        self._cache.encode_texts(texts, lambda given: encoder().encode(given))

    def _loaded(self) -> StageC:
        settings = self.settings
        kept = torch.bfloat16 if settings.precision == "bfloat16" else torch.float32
        if settings.kind == "lora" and settings.precision == "mixed":
            kept = None  # frozen weights need no more than they are used with
        return load_stage_c(settings.model, dtype=kept)

    def _drawn(self, stage_c: StageC, device: torch.device) -> list[Example]:
        """Return what the network draws for the prompts to keep, from the cache where it has drawn them before."""
        side = self.settings.resolution or family(self.encoders).natural_size
        side = max(STEP, round(side / STEP) * STEP)
        scale = family(self.encoders).stage_c_guidance_scale
        network = digest(*locate(self.settings.model, "C").paths)
        examples: list[Example] = []
        for seed, prompt in enumerate(self._kept):
            target = self._cache.drawn(network, prompt, seed, side)
            if not target.is_file():
                embeddings = sample_stage_c(
                    stage_c,
                    read(self._cache.text(prompt))[None],
                    read(self._cache.text(""))[None],
                    width=side,
                    height=side,
                    seeds=[seed],
                    guidance_scale=scale,
                    device=device,
                )
                write(target, {"value": embeddings[0]})
            check_picture(target, (side, side))
            examples.append(Example((side, side), target, self._cache.text(prompt)))
        if examples:
            log.info("%d prompts are to be drawn as before", len(examples))
        return examples

    def _prepare(self, stage_c: StageC) -> None:
        """Give the network what is to be trained."""
        torch.manual_seed(self.settings.seed)
        if self.settings.kind == "lora":
            add_lora(stage_c, self.settings.rank, self.settings.layers)
        else:
            stage_c.requires_grad_(True)

    def _train(
        self, stage_c: StageC, examples: Sequence[Example], kept: Sequence[Example], accelerator: "Accelerator"
    ) -> None:
        settings, device = self.settings, accelerator.device
        held: dict[Path, Tensor] = {}  # small beside the network: a caption of the published size takes 0.4 MB

        def encoded(path: Path) -> Tensor:
            if path not in held:
                held[path] = read(path)
            return held[path]

        def loss_of(given: Sequence[Example], rng: np.random.Generator, *, as_before: bool) -> Tensor:
            batch = draw(given, rng, settings.batch)
            clean = torch.stack([encoded(example.picture) for example in batch]).to(device)
            clean = (clean + EMBEDDING_SHIFT) / EMBEDDING_SCALE
            empty = self._cache.text("")
            texts = [empty if rng.random() < DROP_CAPTION else example.text for example in batch]
            text = torch.stack([encoded(path) for path in texts]).to(device)

            def predict(x: Tensor, t: Tensor) -> Tensor:
                return stage_c(x, t, text)

            def signal_and_scale(x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
                return stage_c.signal_and_scale(x, t, text)

            if self.loss == "signal":
                teacher = without(signal_and_scale) if as_before else None
                return diffusion_loss(signal_and_scale, clean, random_ratios(rng, len(batch)).to(device), teacher)
            noise = torch.from_numpy(rng.standard_normal(clean.shape).astype(np.float32)).to(device)
            teacher = without(predict) if as_before else None
            return noise_loss(predict, clean, random_timesteps(rng, len(batch)).to(device), noise, teacher)

        def without(function: Callable[[Tensor, Tensor], Value]) -> Callable[[Tensor, Tensor], Value]:
            def called(x: Tensor, t: Tensor) -> Value:
                with without_lora(stage_c):
                    return function(x, t)

            return called

        def loss(rng: np.random.Generator) -> Tensor:
            learned = loss_of(examples, rng, as_before=False)
            return (learned + loss_of(kept, rng, as_before=settings.kind == "lora")) / 2 if kept else learned

        journal = Journal(settings.out, settings.steps, self._told) if accelerator.is_main_process else None
        validation = self._validation(stage_c) if accelerator.is_main_process else None

        def on_step(step: int, value: float | None) -> None:
            if journal is not None and value is not None:
                journal.add(step, value, self._loop.rate(step - 1))
            every = settings.validate_every
            if validation is not None and every and (step % every == 0 or step == settings.steps):
                validation.draw(step, again=value is not None)  # a run may have died before it drew the row

        train(
            "progress", stage_c, loss, self._loop, settings.out,
            seed=settings.seed, accelerator=accelerator, on_step=on_step,
        )  # fmt: skip

    def _validation(self, stage_c: StageC) -> Validation:
        width, height = (self.settings.resolution or family(self.encoders).natural_size,) * 2
        texts = [read(self._cache.text(prompt)) for prompt in self.prompts]
        return Validation(
            self.settings.out,
            stage_c,
            self.encoders,
            self.prompts,
            texts,
            read(self._cache.text("")),
            (width, height),
            self.words,
        )

    def _write(self, stage_c: StageC) -> None:
        if self.settings.kind == "stage-c":
            save_stage_c(stage_c, self.result)
            return
        save_lora(stage_c, self.result, self.words)
