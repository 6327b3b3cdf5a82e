"""Load LoRAs: changes of low rank to the weights of Stage C and of its text encoder, in every published key style."""

# safetensors does not type the files that safe_open opens
# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false, reportUnknownArgumentType=false

import hashlib
import logging
import re
import reprlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from ..errors import CheckpointError
from ..files.untrusted import parse_json
from ..text.words import listed_words
from .layouts import read_json
from .lora_files import ADAPTER_CONFIG, locate_lora
from .lora_keys import EMBEDDING, LoraKey, Part, Role, read_key
from .reading import LONGEST_NAME, MOST_TENSORS, WRAPPERS, read_tensors

logger = logging.getLogger(__name__)

DIFFUSERS_METADATA = "lora_adapter_metadata"
"""Entry in a safetensors header in which diffusers keeps peft's settings, each with the name of its network."""
LARGEST_ALPHA = 1_000_000
"""Largest alpha that is still plausible."""
WORDS_METADATA = "wuerstchen_words"
"""Entry in a safetensors header: a JSON list of words that the LoRA adds to those that a small model knows."""


@dataclass(frozen=True, eq=False)
class Change:
    """Change of one weight: up @ down * scale.

    Attributes:
        up (Tensor): [out, rank] or [out, rank, 1, 1].
        down (Tensor): [rank, in] or [rank, in, kernel, kernel].
        scale: Factor, alpha / rank; 1 where the file has no alpha.
    """

    up: Tensor
    down: Tensor
    scale: float = 1.0

    @property
    def shape(self) -> torch.Size:
        """Shape of the weight that it fits."""
        return torch.Size([self.up.shape[0], *self.down.shape[1:]])

    def delta(self, device: torch.device | str = "cpu") -> Tensor:
        """Return the change at strength 1: a float32 tensor of `shape`."""
        up, down = (tensor.to(device, torch.float32).flatten(1) for tensor in (self.up, self.down))
        return (up @ down).mul_(self.scale).reshape(self.shape)


@dataclass(frozen=True, eq=False)
class Lora:
    """A LoRA file, read and checked as far as that goes without a network.

    Attributes:
        name: Name of the file, for messages.
        digest: Digest of its changes, by which several LoRAs are put in order.
        stage_c: Key of a weight of Stage C, such as "blocks.2.attention.to_q.weight" -> its change.
        text_encoder: The same for the text encoder of Stage C, such as "encoder.layers.0.mlp.fc1.weight".
        words: Words that it adds to those that the text encoder knows.
    """

    name: str
    digest: str
    stage_c: Mapping[str, Change] = field(default_factory=dict[str, Change])
    text_encoder: Mapping[str, Change] = field(default_factory=dict[str, Change])
    words: tuple[str, ...] = ()


def load_lora(source: str | Path) -> Lora:
    """Load a LoRA.

    Args:
        source: A .safetensors, .pt or .bin file; a folder of diffusers, peft or `wuerstchen train`; or the name of a
            LoRA that comes with the package, such as "cocktail-lime".
    Returns:
        Lora: For `apply_lora`.
    Raises:
        WeightsMissingError: There is no such file.
        CheckpointError: The file is damaged; a key in it fits no layer of Stage C or its text encoder; a pair is
            incomplete or its ranks differ; or it holds a LoHa, a LoKr or another method than LoRA.
    """
    path = locate_lora(source)
    tensors = _without_embeddings(read_tensors(path, WRAPPERS), path)
    settings = _settings(path)
    found: dict[Part, dict[str, dict[Role, tuple[str, Tensor]]]] = {"stage_c": {}, "text_encoder": {}}
    for key, tensor in tensors.items():
        known = _known(key, tensors, path)
        assert known.role is not None
        for layer, part in zip(known.layers, _parts(key, known, tensor, path), strict=True):
            roles = found[known.part].setdefault(f"{layer}.weight", {})
            if known.role in roles:
                raise CheckpointError(
                    f"{path} has two tensors for {layer!r}: {roles[known.role][0]!r} and {key!r}; expected one key "
                    "style. Keep one of the two and save the file again."
                )
            roles[known.role] = key, part
    changes: dict[Part, dict[str, Change]] = {
        part: {
            key: _change(key, roles, partial(settings.scale, part, key), path) for key, roles in sorted(layers.items())
        }
        for part, layers in found.items()
    }
    if not any(changes.values()):
        raise CheckpointError(f"{path} holds no tensors; expected a LoRA of Stage C. Download it again.")
    return Lora(path.name, _digest(changes), changes["stage_c"], changes["text_encoder"], settings.words)


def renamed_for(state: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """Rename the Stage C keys of a LoRA file to one style: prefix, published layer, suffix of kohya's trainer.

    Args:
        state: Tensors of a LoRA file, of any method.
        prefix: Prefix of the new keys.
    Returns:
        dict: The tensors under their new keys, packed ones split; keys that fit no layer of Stage C as they were.
    """
    suffixes: dict[Role | None, str] = {"down": "lora_down.weight", "up": "lora_up.weight", "alpha": "alpha"}
    result: dict[str, Any] = {}
    for key, tensor in state.items():
        known = read_key(key)
        if known is None or known.part != "stage_c":
            result[key] = tensor
            continue
        for layer, part in zip(known.layers, _parts(key, known, tensor, None), strict=True):
            result[f"{prefix}{layer}.{suffixes.get(known.role, known.suffix)}"] = part
    return result


@dataclass(frozen=True)
class _Settings:
    """Settings of peft by part, and added words, from a file's header and its neighbour."""

    peft: Mapping[Part, Mapping[str, Any]]
    words: tuple[str, ...] = ()

    def scale(self, part: Part, key: str, rank: int) -> float:
        """Return the factor that peft's settings give a layer; 1 without settings."""
        settings = self.peft.get(part)
        if not settings or not settings.get("lora_alpha"):
            return 1.0
        layer = key.removesuffix(".weight")
        ends = [layer, *(layer[dot.end() :] for dot in re.finditer(r"\.", layer))]
        named = [self._alphas[part][end] for end in ends if end in self._alphas[part]]
        alpha = min(named, key=lambda each: each[0])[1] if named else settings["lora_alpha"]
        if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not abs(alpha) <= LARGEST_ALPHA:
            raise CheckpointError(
                f"The alpha of {key!r} is {reprlib.repr(alpha)} in the LoRA's settings; expected a number up to "
                f"{LARGEST_ALPHA:,}. Train it again, or correct the settings."
            )
        return alpha / (rank**0.5 if settings.get("use_rslora") else rank)

    @cached_property
    def _alphas(self) -> Mapping[Part, Mapping[str, tuple[int, Any]]]:
        """Place and alpha in `alpha_pattern` by name: layers whose names end with it have it; the first one counts."""
        return {part: _alphas_of(settings.get("alpha_pattern")) for part, settings in self.peft.items()}


def _alphas_of(pattern: Any) -> dict[str, tuple[int, Any]]:
    names = cast("Mapping[str, Any]", pattern) if isinstance(pattern, Mapping) else {}
    if len(names) > MOST_TENSORS or any(len(name) > LONGEST_NAME for name in names):
        raise CheckpointError(
            f"The LoRA's settings have {len(names):,} alphas, or one of a long name; expected at most one a layer, "
            f"{MOST_TENSORS:,} of {LONGEST_NAME} characters. Correct the settings."
        )
    found: dict[str, tuple[int, Any]] = {}
    for place, (name, alpha) in enumerate(names.items()):
        found.setdefault(name.lstrip("^").removesuffix(".lora_B.weight"), (place, alpha))
    return found


def _settings(path: Path) -> _Settings:
    from safetensors import SafetensorError, safe_open

    beside = path.with_name(ADAPTER_CONFIG)
    peft: dict[Part, dict[str, Any]] = {}
    if beside.is_file():
        peft["stage_c"] = dict(read_json(beside))
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            metadata: dict[str, str] = file.metadata() or {}
        for key, value in cast("dict[str, Any]", parse_json(metadata.get(DIFFUSERS_METADATA, "{}"))).items():
            network, _, name = key.partition(".")
            part: Part = "text_encoder" if network == "text_encoder" else "stage_c"
            peft.setdefault(part, {})[name if network in ("prior", "unet", "text_encoder") else key] = value
        words: object = parse_json(metadata.get(WORDS_METADATA, "[]"))
    except (SafetensorError, OSError, ValueError, AttributeError):
        return _Settings(peft)  # not safetensors, or damaged, which reading the tensors says
    try:
        return _Settings(peft, tuple(listed_words(words)))
    except ValueError as error:
        raise CheckpointError(f"{path}: in {WORDS_METADATA}, {error}. Train the LoRA on fewer words.") from error


def _without_embeddings(tensors: Mapping[str, Tensor], path: Path) -> Mapping[str, Tensor]:
    """Return the tensors that are not of textual inversions; the log names those that are left out."""
    names = {found[1] for key in tensors if (found := EMBEDDING.fullmatch(key))}
    if not names:
        return tensors
    logger.warning(
        "%s also holds the textual inversions %s, which are left out. Save them as files of their own to use them.",
        path.name,
        ", ".join(sorted(names)),
    )
    return {key: tensor for key, tensor in tensors.items() if not EMBEDDING.fullmatch(key)}


def _known(key: str, tensors: Mapping[str, Tensor], path: Path) -> LoraKey:
    """Return the meaning of a key, or raise the error that names it."""
    known = read_key(key)
    if known is None:
        if not any(read_key(each) for each in tensors):
            raise CheckpointError(
                f"{path} looks like no LoRA of Würstchen (its first keys are {list(tensors)[:3]}); expected keys such "
                "as 'prior.blocks.2.attention.to_q.lora_A.weight'. Choose a LoRA that was trained on Stage C."
            )
        raise CheckpointError(
            f"{path}: {key!r} fits no layer of Stage C or its text encoder. A part of the LoRA would be left out, so "
            "none of it is used; ask whoever made it for a file of Stage C alone."
        )
    if known.role is None:
        raise CheckpointError(
            f"{path}: {key!r} belongs to a {known.method}; expected a LoRA, a pair of matrices for each layer. "
            "Convert it, or connect it through ComfyUI's own LoRA loader and Stage C to MODEL."
        )
    return known


def _parts(key: str, known: LoraKey, tensor: Tensor, path: Path | None) -> list[Tensor]:
    """Return a tensor for each layer of a key: `up` of a packed layer is split, all else is the same for each."""
    count = len(known.layers)
    if count == 1 or known.role != "up":
        return [tensor] * count
    if tensor.ndim == 0 or tensor.shape[0] % count:
        raise CheckpointError(
            f"{path or 'The LoRA'}: {key!r} has shape {list(tensor.shape)}; expected a first dimension that splits "
            f"into {count} equal parts. The file is damaged or of another model."
        )
    return list(tensor.chunk(count))


def _change(key: str, roles: Mapping[Role, tuple[str, Tensor]], scale_of: Callable[[int], float], path: Path) -> Change:
    pairs: tuple[tuple[Role, Role], ...] = (("up", "down"), ("down", "up"))
    for role, other in pairs:
        if role not in roles:
            there = roles[other][0] if other in roles else roles["alpha"][0]
            raise CheckpointError(
                f"{path}: {there!r} has no counterpart; expected a pair, down and up, for each layer. The file is cut "
                "short or damaged; download it again."
            )
    (up_key, up), (down_key, down) = roles["up"], roles["down"]
    if key.endswith("depthwise.weight") and down.shape[1:2] != (1,):
        raise CheckpointError(
            f"{path}: {down_key!r} has shape {list(down.shape)}; expected [rank, 1, 3, 3]. It mixes the channels of a "
            "depthwise convolution, so it cannot be added to its weights. Train the LoRA without those layers."
        )
    whole = min(up.ndim, down.ndim) >= 2 and up.numel() > 0 and down.numel() > 0
    if not whole or up[0].numel() != up.shape[1] or up.shape[1] != down.shape[0]:
        raise CheckpointError(
            f"{path}: {up_key!r} has shape {list(up.shape)} and {down_key!r} {list(down.shape)}; expected [out, rank] "
            "and [rank, in]. The file is damaged; download it again."
        )
    for name, tensor in roles.values():
        if not tensor.is_floating_point() or not bool(tensor.float().isfinite().all()):
            raise CheckpointError(
                f"{path}: {name!r} holds values that are not finite numbers; the LoRA of {key!r} is broken. "
                "Train it again at a lower learning rate, or choose an earlier one."
            )
    rank = down.shape[0]
    if "alpha" not in roles:
        return Change(up, down, scale_of(rank))
    alpha_key, alpha = roles["alpha"]
    if alpha.numel() != 1 or not abs(float(alpha)) <= LARGEST_ALPHA:
        raise CheckpointError(
            f"{path}: {alpha_key!r} has shape {list(alpha.shape)} or is too large; expected one number up to "
            f"{LARGEST_ALPHA:,}. The file is damaged; download it again."
        )
    return Change(up, down, float(alpha) / rank)


def _digest(changes: Mapping[Part, Mapping[str, Change]]) -> str:
    digest = hashlib.sha256()
    for part, layers in changes.items():
        for key, change in layers.items():
            digest.update(f"{part} {key} {change.shape} {change.scale!r}".encode())
            for tensor in (change.up, change.down):
                digest.update(tensor.detach().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
