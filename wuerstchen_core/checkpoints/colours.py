"""Colours of previews that come with a stage's weights: a small network, or a linear map to RGB."""

from pathlib import Path

from torch import Tensor

from ..errors import CheckpointError
from ..networks.previewer import Previewer
from .components import STAGES
from .layouts import StageFiles
from .reading import read_preview, read_tensors
from .sources import locate_stage


def load_colours(source: str | Path, stage: str, channels: int) -> Previewer | Tensor | None:
    """Load what `previews.preview_in` needs to show latents of a stage, without the stage's weights.

    Args:
        source: As for `load_stage_c`.
        stage: "C" or "B".
        channels: Channels of the latents.
    Returns:
        Previewer | Tensor | None: The previewer, else a map [channels + 1, 3], else None where there is neither.
    Raises:
        WeightsMissingError: The stage is not on this machine.
        CheckpointError: The files are damaged, or made for other latents.
    """
    files = locate_stage(source, STAGES[stage])
    if files.previewer:
        return load_previewer(files.previewer, channels)
    if files.preview is None:
        return None
    table = read_preview(files.preview)
    check_colours(table, channels, files)
    return table


def check_colours(table: Tensor, channels: int, files: StageFiles) -> None:
    """Raise CheckpointError where a map to RGB is not one for latents of so many channels."""
    if len(table) != channels + 1:
        raise CheckpointError(
            f"{files.preview}: latent_rgb has {len(table)} rows; expected {channels + 1}, one for each channel and one "
            "for the offset. It is used for previews only; delete the file."
        )


def load_previewer(path: Path, c_in: int) -> Previewer:
    """Load a previewer of latents with `c_in` channels. Raises: CheckpointError."""
    state = read_tensors(path)
    first = state.get("blocks.0.weight")
    c_hidden = len(first) if first is not None and first.ndim else 4
    previewer = Previewer(c_in, max(4, c_hidden - c_hidden % 4))
    try:
        previewer.layers.load_state_dict({key.removeprefix("blocks."): value for key, value in state.items()})
    except RuntimeError as error:
        reason = " ".join(str(error).split("\n\t")[1:2]) or str(error)
        raise CheckpointError(
            f"{path} is not the previewer of a Stage C with {c_in} channels: {reason} It is used for previews only; "
            "delete the file."
        ) from error
    previewer.layers.requires_grad_(False)
    return previewer
