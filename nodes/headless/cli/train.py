"""`wuerstchen train lora|stage-c`: finetune Stage C on captioned pictures."""

import argparse
import logging
import math
import shlex
import sys
import time
from typing import TYPE_CHECKING

from wuerstchen_core.checkpoints.presets import DEFAULT_MODEL, PRESETS
from wuerstchen_core.errors import InputError
from wuerstchen_core.files.places import expanded

from ..errors import UsageError
from ..extras import require
from .arguments import Parser, count, whole_number

if TYPE_CHECKING:
    from ..report import Report

EXAMPLES = """\
examples:
  wuerstchen train lora --pictures my_pictures --out my_lora
  wuerstchen train lora --model v2-base --pictures captions.csv --rank 8 --steps 2000 --out style
  wuerstchen train stage-c --model v2-base --pictures my_pictures --precision bfloat16 --out finetune"""

_PICTURES = (
    "a folder of pictures, each beside a .txt file of the same name with its caption; or a .jsonl or .csv table with "
    "the columns file_name and caption"
)
_OUT = "folder of the result, the progress and the validation sheet; the same command continues an interrupted training"
_MODEL = "a preset, or a Stage C checkpoint (default: %(default)s)"
_ENCODERS = "preset whose image encoder, text encoder and decoder go with --model (default: by its width)"
_LAYERS = "layers of the LoRA: attention, as in diffusers, or all linear ones (default: %(default)s)"
_RESOLUTION = "pictures are scaled to about N x N pixels, in 128-pixel steps (default: the model's own)"
_PRECISION = (
    "mixed computes in bfloat16 where the device can; bfloat16 keeps the trained weights in it, too, which takes half "
    "the memory and learns small steps less exactly (default: %(default)s)"
)
_OPTIMIZER = "adamw8bit of bitsandbytes takes a quarter of the memory (default: %(default)s)"
_LOSS = "noise, as the authors train, or signal, as cocktail was trained (default: signal for cocktail, else noise)"
_KEEP = (
    "a text file of prompts, one a line, that are to be drawn as before; the network draws them first, and learns from "
    "these pictures, too"
)
_VALIDATE = "prompt of a validation picture; may be given several times (default: the first four captions)"
_EVERY = "steps between two rows of validation pictures; 0 for none (default: %(default)s)"
_LOG_EVERY = 15.0
"""Seconds between two lines about the progress."""


def add_options(parser: Parser) -> None:
    """Add the options of the verb."""
    parser.add_argument("kind", metavar="KIND", choices=["lora", "stage-c"], help="lora, or stage-c for every weight")
    parser.add_argument("--pictures", metavar="FOLDER|TABLE", required=True, help=_PICTURES)
    parser.add_argument("--out", metavar="DIR", required=True, help=_OUT)
    parser.add_argument("--model", metavar="NAME", default=DEFAULT_MODEL, help=_MODEL)
    parser.add_argument("--encoders", metavar="PRESET", choices=list(PRESETS), help=_ENCODERS)
    parser.add_argument("--rank", type=count, metavar="N", default=16, help="rank of the LoRA (default: %(default)s)")
    parser.add_argument("--layers", choices=["attention", "all"], default="attention", help=_LAYERS)
    parser.add_argument("--steps", type=count, metavar="N", default=1000, help="steps (default: %(default)s)")
    parser.add_argument("--lr", type=_rate, metavar="X", default=1e-4, help="learning rate (default: %(default)s)")
    parser.add_argument(
        "--schedule",
        choices=["constant", "cosine"],
        default="constant",
        help="constant keeps the learning rate, cosine lowers it to the end (default: %(default)s)",
    )
    parser.add_argument("--loss", choices=["noise", "signal"], help=_LOSS)
    parser.add_argument("--batch", type=count, metavar="N", default=4, help="pictures of a step (default: %(default)s)")
    parser.add_argument("--resolution", type=count, metavar="N", help=_RESOLUTION)
    parser.add_argument("--precision", choices=["float32", "mixed", "bfloat16"], default="mixed", help=_PRECISION)
    parser.add_argument("--optimizer", choices=["adamw", "adamw8bit"], default="adamw", help=_OPTIMIZER)
    parser.add_argument("--seed", type=whole_number(0), metavar="N", default=0, help="seed of batches and noise")
    parser.add_argument("--keep", metavar="PROMPTS.txt", help=_KEEP)
    parser.add_argument("--validate", action="append", default=[], metavar="PROMPT", help=_VALIDATE)
    parser.add_argument("--validate-every", type=whole_number(0), metavar="N", default=250, help=_EVERY)
    parser.add_argument(
        "--save-every", type=count, metavar="N", default=100, help="steps between two saves (default: %(default)s)"
    )


def run(options: argparse.Namespace, report: "Report") -> int:
    """Train, and print the path of the result."""
    for library in ("accelerate", "peft"):
        require(library, "train")
    from wuerstchen_core.training.finetune import Finetuning, Run

    logging.getLogger("wuerstchen_core.training.loop").setLevel(logging.WARNING)  # the lines below say the same
    settings = Finetuning(
        options.kind,
        options.model,
        expanded(options.pictures),
        expanded(options.out),
        encoders=options.encoders,
        rank=options.rank,
        layers=options.layers,
        steps=options.steps,
        learning_rate=options.lr,
        schedule=options.schedule,
        loss=options.loss,
        batch=options.batch,
        resolution=options.resolution,
        precision=options.precision,
        optimizer=options.optimizer,
        seed=options.seed,
        keep=None if options.keep is None else expanded(options.keep),
        prompts=tuple(options.validate),
        validate_every=options.validate_every,
        save_every=options.save_every,
    )
    try:
        training = Run(settings, _Progress(settings.steps, report).told)
    except InputError as error:
        raise UsageError(str(error)) from error
    path = str(training.run())
    report.result(path, event="trained", kind=options.kind, path=path)
    return 0


class _Progress:
    """Says from time to time how far a training is."""

    def __init__(self, steps: int, report: "Report") -> None:
        self._steps, self._report = steps, report
        self._said = -math.inf

    def told(self, step: int, loss: float, left: float) -> None:
        now = time.monotonic()
        if step < self._steps and now - self._said < (_LOG_EVERY if sys.stderr.isatty() else 2 * _LOG_EVERY):
            return
        self._said = now
        self._report.event(event="step", step=step, of=self._steps, loss=loss, seconds_left=round(left))
        self._report.note(f"step {step} of {self._steps}, loss {loss:.4f}, {_time(left)} left")


def _time(seconds: float) -> str:
    minutes, hours = divmod(round(seconds), 60)[0], round(seconds) // 3600
    return f"{hours} h {minutes % 60} min" if hours else f"{minutes} min" if minutes else f"{round(seconds)} s"


def _rate(text: str) -> float:
    """Read a learning rate, above 0 and below 1."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < 1:
        raise argparse.ArgumentTypeError(f"expected a number above 0 and below 1, got {shlex.quote(text)}")
    return number
