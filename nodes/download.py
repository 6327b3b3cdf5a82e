"""Download Weights: the files of a published model, into the model folder of ComfyUI."""

import shutil
import time
from contextlib import closing
from pathlib import Path
from typing import Any, ClassVar

from wuerstchen_core.checkpoints.components import COMPONENTS
from wuerstchen_core.checkpoints.presets import PRESETS, preset
from wuerstchen_core.errors import WeightsMissingError

from . import models
from .arguments import checked
from .host import host

PUBLISHED = [name for name, places in PRESETS.items() if any(place.repo for place in places.values())]
"""Presets whose weights do not come with the pack."""
GET = "get them"
"""Label of the choice to download."""
MEGABYTE = 1_000_000


@checked
class DownloadWeights:
    """Gets the files of a published model that are missing, once it is told to."""

    CATEGORY = "wuerstchen/loaders"
    DESCRIPTION = (
        "Says which files of a published model are missing and how large they are; with download on, it gets them from "
        "Hugging Face into models/wuerstchen. Stop it with Cancel; files that are complete stay."
    )
    SEARCH_ALIASES: ClassVar = ["wuerstchen download", "würstchen weights", "missing models", "get checkpoint"]
    FUNCTION = "run"
    RETURN_TYPES = ()
    RETURN_NAMES = ()
    OUTPUT_TOOLTIPS = ()
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "model": (PUBLISHED, {"default": PUBLISHED[-1], "tooltip": "The published model."}),
                "download": (
                    "BOOLEAN",
                    {
                        "default": False,
                        "label_on": GET,
                        "label_off": "say the size",
                        "tooltip": "On: get what is missing. The page turns it off again after each run, so that a "
                        "workflow never downloads unasked.",
                    },
                ),
            }
        }

    @classmethod
    def IS_CHANGED(cls, model: str, download: bool) -> float:
        """Return NaN, so that it looks at the files each time."""
        return float("nan")

    def run(self, model: str, download: bool) -> dict[str, Any]:
        missing = models.missing_parts(model)
        if not missing:
            return _told(f"{model} is complete: nothing to download.")
        folder, size = host().download_folder(), sum(preset(model)[part].gigabytes for part in missing)
        needs = f"{model} needs {size:.1f} GB more"
        if folder is None:
            raise WeightsMissingError(
                f"{needs}, and a workflow downloads nothing outside ComfyUI. Run `wuerstchen download {model}`."
            )
        if download:
            _download(model, folder)
            return _told(f"{model} is complete.")
        parts = ", ".join(f"{COMPONENTS[part].title} {preset(model)[part].gigabytes:.2f}" for part in missing)
        return _told(
            f"{needs}: {parts}.\n{_free(folder) / 1e9:.1f} GB are free in {folder}.\n"
            f'To get the files from Hugging Face, set download to "{GET}" and run again.'
        )


def _download(model: str, folder: Path) -> None:
    """Download with progress on the node."""
    there, started, state = host(), time.monotonic(), "the start"
    update, known = there.progress(1, "Download"), 0
    try:
        with closing(there.download(model)) as states:
            for done, total in states:
                if total != known:
                    _check_room(model, folder, total)
                    update, known = there.progress(max(1, total // MEGABYTE), "Download"), total
                if total:
                    state = f"{done / 1e9:.2f} of {total / 1e9:.2f} GB"
                    there.notice(f"{state}, {_pace(done, total, time.monotonic() - started)}")
                else:
                    there.notice("Asking Hugging Face for the files ...")
                update(done // MEGABYTE, None)
    except BaseException:
        there.notice(f"Stopped at {state}. Files that are complete stay; run again to get the rest.")
        raise


def _check_room(model: str, folder: Path, total: int) -> None:
    free = _free(folder)
    if total > free:
        raise WeightsMissingError(
            f"{model} needs {total / 1e9:.2f} GB more, and {folder} has room for {free / 1e9:.2f} GB. Make room, or "
            "put ComfyUI's models folder on a larger disk."
        )


def _pace(done: int, total: int, seconds: float) -> str:
    """Return the speed and the time left."""
    speed = done / max(seconds, 1e-3)
    if not speed:
        return "waiting for the first bytes"
    minutes = (total - done) / speed / 60
    left = f"{minutes:.0f} minutes" if minutes >= 1.5 else f"{minutes * 60:.0f} seconds"
    return f"{speed / MEGABYTE:.1f} MB/s, {left} left"


def _free(folder: Path) -> int:
    """Return the bytes that are free where a folder is, or will be."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    return shutil.disk_usage(existing).free


def _told(text: str) -> dict[str, Any]:
    """Return the result of the node, and show it there."""
    host().notice(text)
    return {"ui": {"text": [text]}}
