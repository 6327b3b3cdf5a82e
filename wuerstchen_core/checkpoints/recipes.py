"""Recipes of Stage C: where each of its weights comes from, so that a network is made when it is needed.

A recipe reads one weight at a time. Making or saving a network from it takes the memory of that network and of the
weights in hand, however many checkpoints it mixes.
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ..errors import CheckpointError
from ..networks.previewer import Previewer
from ..networks.stage_c import StageC, StageCConfig
from .architectures import STAGE_C
from .colours import load_previewer
from .layouts import StageFiles
from .opening import open_checkpoint, stored_dtype
from .reading import read_checkpoint

READ_AT_ONCE = 64 * 2**20
"""Bytes of a file after which it is opened anew, so that what was read no longer counts as memory in use."""


class Recipe(ABC):
    """Weights of a Stage C, each made when it is asked for.

    Attributes:
        config (StageCConfig): Shape of the network.
        dtype (torch.dtype): Dtype of most of the weights where they are stored.
        shapes (Mapping[str, torch.Size]): Key -> shape, for every weight.
        latent_rgb (Tensor | None): Colours of previews; see `StageC`.
        previewer (Previewer | None): Decoder of previews; see `StageC`.
    """

    config: StageCConfig
    dtype: torch.dtype
    shapes: Mapping[str, torch.Size]
    latent_rgb: Tensor | None = None
    previewer: Previewer | None = None

    @abstractmethod
    def tensor(self, key: str) -> Tensor:
        """Return a weight: float32, on the CPU, not to be changed in place."""

    @abstractmethod
    def release(self) -> None:
        """Close the files that `tensor` has opened; it opens them again where it needs them."""

    def take_shape_of(self, recipe: "Recipe") -> None:
        """Take the attributes of another recipe, which this one changes the weights of."""
        self.config, self.dtype, self.shapes = recipe.config, recipe.dtype, recipe.shapes
        self.latent_rgb, self.previewer = recipe.latent_rgb, recipe.previewer

    @property
    def weights(self) -> int:
        """Number of weights."""
        return sum(shape.numel() for shape in self.shapes.values())


class Stored(Recipe):
    """A checkpoint on the disk, checked but not yet read.

    Args:
        source: As for `load_stage_c`.
        download: Download files that are not on this machine.
    Raises:
        WeightsMissingError, CheckpointError: As for `load_stage_c`.
    """

    def __init__(self, source: str | Path, *, download: bool = False) -> None:
        opened = open_checkpoint((STAGE_C,), source, download=download)
        self.files: StageFiles = opened.checkpoint.files
        self.config = opened.network.config
        self.shapes = {key: tensor.shape for key, tensor in opened.network.state_dict().items()}
        self.dtype = stored_dtype(opened.checkpoint.state)
        self.latent_rgb = opened.latent_rgb
        if self.files.previewer:
            self.previewer = load_previewer(self.files.previewer, self.config.c_in)
        self._stats = self._stats_now()
        self._state: dict[str, Tensor] | None = opened.checkpoint.state
        self._read = 0

    def tensor(self, key: str) -> Tensor:
        if self._read > READ_AT_ONCE:
            self.release()
        if self._state is None:
            if self._stats != self._stats_now():
                raise CheckpointError(f"{self.files.weights} has changed since it was opened. Load it again.")
            self._state = read_checkpoint(self.files, STAGE_C.component.part).state
        found = self._state[key]
        self._read += found.nbytes
        return found.float()

    def release(self) -> None:
        self._state, self._read = None, 0

    def _stats_now(self) -> list[tuple[int, int]]:
        try:
            stats = [os.stat(path) for path in self.files.tensors]
        except OSError as error:
            raise CheckpointError(
                f"{self.files.weights} was there when it was opened and is gone ({error.strerror}). Put it back, or "
                "load another checkpoint."
            ) from error
        return [(stat.st_size, stat.st_mtime_ns) for stat in stats]


class InMemory(Recipe):
    """A network that is loaded already.

    Args:
        network: The network. Its weights are read when the recipe is made into another one.
    """

    def __init__(self, network: StageC) -> None:
        self.network = network
        self.config = network.config
        self.dtype = network.projection.weight.dtype
        self.shapes = {key: tensor.shape for key, tensor in network.state_dict().items()}
        self.latent_rgb, self.previewer = network.latent_rgb, network.previewer
        self._state: dict[str, Tensor] = network.state_dict()

    def tensor(self, key: str) -> Tensor:
        return self._state[key].detach().to("cpu", torch.float32)

    def release(self) -> None:
        pass


Source = Recipe | StageC | str | Path
"""A recipe, a network that stands for one, or the source of a checkpoint as for `load_stage_c`."""


def recipe_of(source: Source) -> Recipe:
    """Return a recipe as it is, or that of a network or of a checkpoint.

    Raises:
        WeightsMissingError, CheckpointError: As for `load_stage_c`.
    """
    if isinstance(source, Recipe):
        return source
    return InMemory(source) if isinstance(source, StageC) else Stored(source)
