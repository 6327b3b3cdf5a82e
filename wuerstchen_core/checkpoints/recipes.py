"""Recipes of Stage C: where each of its weights comes from, so that a network is made when it is needed.

A recipe reads one weight at a time. Making or saving a network from it takes the memory of that network and of the
weights in hand, however many checkpoints it mixes.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ..networks.int8 import floating, floating_state
from ..networks.previewer import Previewer
from ..networks.stage_c import StageC, StageCConfig
from .architectures import STAGE_C
from .colours import load_previewer
from .layouts import StageFiles
from .opening import open_checkpoint, stored_dtype
from .reading import StoredTensors


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
        self.tensors: StoredTensors = opened.tensors()

    def tensor(self, key: str) -> Tensor:
        return self.tensors.tensor(key).float()

    def release(self) -> None:
        self.tensors.release()


class InMemory(Recipe):
    """A network that is loaded already.

    Args:
        network: The network. Its weights are read when the recipe is made into another one.
    """

    def __init__(self, network: StageC) -> None:
        self.network = network
        self.config = network.config
        self.dtype = network.projection.weight.dtype
        self._state = floating_state(network)
        own = network.state_dict()
        self.shapes = {key: own[key].shape for key in self._state}
        self.latent_rgb, self.previewer = network.latent_rgb, network.previewer

    def tensor(self, key: str) -> Tensor:
        found = self._state[key]
        if not isinstance(found, Tensor):
            found = floating(found, slice(None), torch.float32)
        return found.detach().to("cpu", torch.float32)

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
