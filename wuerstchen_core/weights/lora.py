"""LoRAs on Stage C and its text encoder: W + strength * up @ down * scale, in float32, then in the network's dtype."""

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from ..checkpoints.lora import Change, Lora
from ..checkpoints.recipes import InMemory, Recipe, Source, recipe_of
from ..errors import CheckpointError, InputError
from ..networks.stage_c import StageC
from ..text.encoder import TextEncoder
from .merging import like

Network = TypeVar("Network", StageC, TextEncoder)

Stack = Sequence[tuple[Lora, float]]
"""LoRAs with their strengths."""


class WithLoras(Recipe):
    """A Stage C with LoRAs. Their order does not matter: they are added in the order of their digests.

    Args:
        base: Recipe, network or source. LoRAs of another `WithLoras` are joined with these.
        loras: LoRAs with their strengths; any number, negative ones included.
    Raises:
        CheckpointError: A LoRA was made for a network of another shape.
        InputError: A strength is not a finite number.
    """

    def __init__(self, base: Source, loras: Stack) -> None:
        recipe = recipe_of(base)
        if isinstance(recipe, WithLoras):
            recipe, loras = recipe.base, [*recipe.loras, *loras]
        self.base: Recipe = recipe
        self.loras = in_order(loras)
        for lora, _ in self.loras:
            check_fits(lora.name, lora.stage_c, recipe.shapes, "Stage C")
        self.take_shape_of(recipe)

    def tensor(self, key: str) -> Tensor:
        changes = [(lora.stage_c[key], strength) for lora, strength in self.loras if key in lora.stage_c]
        return changed(self.base.tensor(key), changes)

    def release(self) -> None:
        self.base.release()


def apply_lora(network: Network, lora: Lora, strength: float = 1.0) -> Network:
    """Add a LoRA to a Stage C or to its text encoder.

    Args:
        network: Network to add it to. It is not changed.
        lora: Result of `load_lora`. Its part for the other network is left out.
        strength: Factor of the change; 0 gives the network as it is, negative ones take the change away.
    Returns:
        The same kind of network, with the LoRA in its weights, on the same device and in the same dtype.
    Raises:
        CheckpointError: The LoRA was made for a network of another shape, or has no part for this one.
        InputError: `strength` is not a finite number.
    """
    return apply_loras(network, [(lora, strength)])


def apply_loras(network: Network, loras: Stack) -> Network:
    """Add several LoRAs at once; the result does not depend on their order. Arguments and errors as for `apply_lora`.

    Args:
        network: Network to add them to. It is not changed.
        loras: LoRAs with their strengths.
    """
    is_stage_c = isinstance(network, StageC)
    for lora, _ in loras:
        if not (lora.stage_c if is_stage_c else lora.text_encoder or lora.words):
            kinds = ("Stage C", "the text encoder") if is_stage_c else ("the text encoder", "Stage C")
            raise CheckpointError(f"{lora.name} has no part for {kinds[0]}, only for {kinds[1]}. Apply it to that.")
    if not in_order(loras):
        return network
    if isinstance(network, StageC):
        return like(network, WithLoras(InMemory(network), loras))
    return _on_text_encoder(network, loras)


def in_order(loras: Stack) -> list[tuple[Lora, float]]:
    """Return LoRAs in the order of their digests, without those of strength 0.

    Raises:
        InputError: A strength is not a finite number.
    """
    for lora, strength in loras:
        if not -1e4 <= strength <= 1e4:
            raise InputError(f"The strength of {lora.name} is {strength!r}; expected a number, such as 0.8.")
    return sorted(
        ((lora, strength) for lora, strength in loras if strength), key=lambda each: (each[0].digest, each[1])
    )


def changed(weight: Tensor, changes: Iterable[tuple[Change, float]]) -> Tensor:
    """Return a float32 weight with changes added in float32; the weight itself where there are none."""
    for index, (change, strength) in enumerate(changes):
        delta = change.delta(weight.device)
        weight = torch.add(weight, delta, alpha=strength) if index == 0 else weight.add_(delta, alpha=strength)
    return weight


def check_fits(name: str, changes: Mapping[str, Change], shapes: Mapping[str, torch.Size], network: str) -> None:
    """Raise CheckpointError at the first change that does not fit the weights of a network.

    Args:
        name: Name of the LoRA, for messages.
        changes: Key -> change.
        shapes: Key -> shape of the weight.
        network: Name of the network, for messages.
    """
    for key, change in changes.items():
        if key not in shapes:
            raise CheckpointError(
                f"{name} changes {key!r}, which this {network} does not have. It was made for a larger network; choose "
                "a LoRA of the model that is loaded."
            )
        if change.shape != shapes[key]:
            raise CheckpointError(
                f"{name} changes {key!r} by {list(change.shape)}; expected {list(shapes[key])}. It was made for a "
                f"network of another width than this {network}; choose a LoRA of the model that is loaded."
            )


def _on_text_encoder(encoder: TextEncoder, loras: Stack) -> TextEncoder:
    """Return a text encoder with LoRAs. Weights that no LoRA changes share their memory with the other one's."""
    if encoder.made_from is not None:
        encoder, loras = encoder.made_from[0], [*encoder.made_from[1], *loras]
    own = dict(encoder.model.named_parameters())
    for lora, _ in loras:
        check_fits(lora.name, lora.text_encoder, {key: weight.shape for key, weight in own.items()}, "text encoder")
    # New parameters around the same memory: moving one network to a device leaves the other one where it is.
    shared: dict[int, object] = {id(each): nn.Parameter(each.detach(), requires_grad=False) for each in own.values()}
    model = copy.deepcopy(encoder.model, shared)
    ordered = in_order(loras)
    for key in own:
        changes = [(lora.text_encoder[key], strength) for lora, strength in ordered if key in lora.text_encoder]
        if changes:
            owner, _, name = key.rpartition(".")
            weight = changed(own[key].detach().float(), changes).to(own[key].dtype)
            setattr(model.get_submodule(owner), name, nn.Parameter(weight, requires_grad=False))
    result = TextEncoder(model, encoder.tokenizer)
    result.for_stage = encoder.for_stage
    result.made_from = encoder, tuple(ordered)
    result.added_words = tuple(word for lora, _ in ordered for word in lora.words)
    return result.eval()
