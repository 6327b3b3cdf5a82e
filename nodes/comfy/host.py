# pyright: reportMissingImports=false
"""The host inside ComfyUI: its memory management, progress, previews, interruption and folders."""

import html
import sys
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import comfy.model_management as management
import comfy.ops
import folder_paths
import torch
from comfy.cli_args import LatentPreviewMethod, args
from comfy.model_patcher import ModelPatcher
from comfy.utils import ProgressBar
from comfy_execution.utils import get_executing_context
from PIL import Image
from server import PromptServer
from torch import nn

from wuerstchen_core import ImageEncoder, StageA, StageB, StageC
from wuerstchen_core.networks.compiling import compiled
from wuerstchen_core.networks.eight_bits import operations_for
from wuerstchen_core.networks.float8 import FLOAT8
from wuerstchen_core.networks.int8 import INT8
from wuerstchen_core.networks.operations import Operations, compute_dtype

from .. import embeddings, models
from . import keeping
from .downloads import PACK, download
from .keeping import KeptValue

FOLDER_KEY = "wuerstchen"
"""Name of the model folders: `models/wuerstchen/` and those under this key in extra_model_paths.yaml."""
PREVIEW_SIDE = 256
"""Approximate longer side in pixels that smaller previews are enlarged to."""
COMPILED = "wuerstchen_compiled"
"""Attachment of a `ModelPatcher` whose network runs through torch.compile. Its clones keep the attachment."""
_COMPUTABLE = [torch.float16, torch.bfloat16, torch.float32]
"""Dtypes that networks compute in."""


@dataclass(frozen=True)
class ComfyOperations:
    """Layers of ComfyUI, which it can move and patch, with the rules that a network reads when it is built.

    Attributes:
        Conv2d: ComfyUI's convolution.
        ConvTranspose2d: ComfyUI's transposed convolution.
        Linear: ComfyUI's linear layer.
        compute_dtype: Dtype to compute in; None for that of the weights.
    """

    Conv2d: type[nn.Conv2d]
    ConvTranspose2d: type[nn.ConvTranspose2d]
    Linear: type[nn.Linear]
    compute_dtype: torch.dtype | None

    @staticmethod
    def reads_weights(layer: nn.Module) -> bool:
        """Return whether a layer of ComfyUI computes with its weights as they are: not cast, fetched or patched."""
        cast = getattr(layer, "comfy_cast_weights", True)
        return not (cast or getattr(layer, "weight_function", ()) or getattr(layer, "bias_function", ()))


class ComfyHost:
    """Host that runs nodes with ComfyUI's services.

    A kept network is a `ModelPatcher`, so ComfyUI decides when it is unloaded.
    """

    def __init__(self) -> None:
        self._noticed: set[str] = set()  # ids of nodes that show a notice
        folder_paths.add_model_folder_path(FOLDER_KEY, str(self.download_folder()))

    def model_names(self) -> list[str]:
        return models.names_in(folder_paths.get_filename_list(FOLDER_KEY))

    def find_model(self, name: str) -> Path | None:
        return models.find_in(folder_paths.get_folder_paths(FOLDER_KEY), name)

    def embedding_names(self) -> list[str]:
        return embeddings.names_in(folder_paths.get_filename_list("embeddings"))

    def find_embedding(self, name: str) -> Path | None:
        return embeddings.find(folder_paths.get_folder_paths("embeddings"), name)

    def lora_names(self) -> list[str]:
        return folder_paths.get_filename_list("loras")

    def find_lora(self, name: str) -> Path | None:
        return models.find_in(folder_paths.get_folder_paths("loras"), name)

    def download_advice(self, preset: str, repo: str, file: str) -> str:
        folder = self.download_folder()
        return (
            f"Add the node Download Weights, which gets all of {preset}; or put "
            f"https://huggingface.co/{repo}/resolve/main/{file} there as {folder / repo / file}; or, in a "
            f"terminal, go to {PACK} and run `{sys.executable} -m nodes download {preset} --to {folder}`."
        )

    def download_folder(self) -> Path:
        return Path(folder_paths.models_dir) / FOLDER_KEY

    def download(self, preset: str) -> Generator[tuple[int, int]]:
        return download(preset, self.download_folder())

    def device(self) -> torch.device:
        return management.get_torch_device()

    def dtype(self, stage: str) -> torch.dtype:
        if stage == "A":
            return management.vae_dtype(management.vae_device(), [torch.float16, torch.bfloat16])
        dtype = management.unet_dtype(self.device(), supported_dtypes=_COMPUTABLE)
        # A command line may ask for more, such as 64 bits, but checkpoints are read into these dtypes only.
        return dtype if dtype in (*_COMPUTABLE, FLOAT8) else torch.float32

    def operations(self, dtype: torch.dtype | None) -> Operations:
        if dtype == INT8:
            return operations_for(dtype, management.get_torch_device())
        compute_dtype = None if dtype is None else _compute_dtype(dtype)
        layers = comfy.ops.pick_operations(dtype, compute_dtype)
        return ComfyOperations(layers.Conv2d, layers.ConvTranspose2d, layers.Linear, compute_dtype)

    def keep(self, network: nn.Module) -> ModelPatcher:
        load_device, offload_device = _devices(network)
        return ModelPatcher(network.to(offload_device), load_device=load_device, offload_device=offload_device)

    def compiled(self, kept: ModelPatcher) -> ModelPatcher:
        clone = kept.clone()
        clone.set_attachments(COMPILED, True)
        return clone

    def network_of(self, kept: ModelPatcher) -> nn.Module:
        return kept.model

    @contextmanager
    def resident(self, kept: ModelPatcher, *, working_memory: int = 0) -> Generator[nn.Module]:
        network: nn.Module = kept.model
        piecemeal = isinstance(network, (StageB, StageC))
        management.load_models_gpu([kept], memory_required=working_memory, force_full_load=not piecemeal)
        if kept.get_attachment(COMPILED):
            with compiled(network):
                yield network
            return
        if piecemeal or all(weight.device.type == kept.load_device.type for weight in network.parameters()):
            yield network
            return
        # --novram leaves weights where they are. Stage A and text encoders are small, so they move whole for this call.
        network.to(kept.load_device)
        try:
            yield network
        finally:
            network.to(kept.offload_device)

    def intermediate_device(self) -> torch.device:
        return management.intermediate_device()

    def shows_previews(self) -> bool:
        return args.preview_method != LatentPreviewMethod.NoPreviews

    def progress(self, steps: int, label: str) -> Callable[[int, torch.Tensor | None], None]:
        bar = ProgressBar(steps)

        def update(done: int, preview: torch.Tensor | None) -> None:
            management.throw_exception_if_processing_interrupted()
            bar.update_absolute(done, steps, None if preview is None else _preview_image(preview))

        return update

    def kept(self, prompt: Mapping[str, Any], node_id: str) -> KeptValue:
        return keeping.kept(prompt, node_id)

    def notice(self, text: str) -> None:
        running = get_executing_context()
        if running is None or not (text or running.node_id in self._noticed):
            return
        (self._noticed.add if text else self._noticed.discard)(running.node_id)
        server = PromptServer.instance
        # The page shows it as HTML, makes links of double brackets, and ignores an empty text.
        escaped = html.escape(text).replace("[", "&#91;") or " "
        server.send_progress_text(escaped, running.node_id, server.client_id)

    def output_folder(self) -> Path:
        return Path(folder_paths.get_output_directory())


def _devices(network: nn.Module) -> tuple[torch.device, torch.device]:
    """Return the device to compute on and the device to wait on, as ComfyUI's options set them for that network."""
    if isinstance(network, (StageB, StageC)):
        return management.get_torch_device(), management.unet_offload_device()
    if isinstance(network, (StageA, ImageEncoder)):
        return management.vae_device(), management.vae_offload_device()
    return management.text_encoder_device(), management.text_encoder_offload_device()


def _compute_dtype(weights: torch.dtype) -> torch.dtype:
    """Return the dtype that the device computes in for weights of a dtype."""
    device = management.get_torch_device()
    if weights == FLOAT8:
        return compute_dtype(device)
    if device.type == "cpu":  # ComfyUI would pick float32 always; a processor can compute in the dtype asked for
        return weights
    return management.unet_manual_cast(weights, device, _COMPUTABLE) or weights


def _preview_image(preview: torch.Tensor) -> tuple[str, Any, int]:
    """Return a preview in the form that ComfyUI sends: format, image, longest side. Small previews are enlarged."""
    pixels = preview.detach().clamp(0, 1).mul(255).round().to("cpu", torch.uint8)
    image = Image.fromarray(pixels.numpy())
    enlarged = PREVIEW_SIDE // max(image.size)
    if enlarged > 1:
        image = image.resize((image.width * enlarged, image.height * enlarged), Image.Resampling.BICUBIC)
    return "JPEG", image, args.preview_size
