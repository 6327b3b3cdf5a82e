"""Tiny random networks and a host for them, for the tests of the node classes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wuerstchen_core import StageA, StageAConfig, StageB, StageBConfig, StageC, StageCConfig
from wuerstchen_nodes import models

STAGE_C_TEXT = 24
STAGE_B_TEXT = 20


def _random(build: Callable[[], Any], seed: int) -> Any:
    """A network whose every weight is small noise, so that no part of it is silent."""
    network = build().eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    for weight in network.parameters():
        weight.copy_(torch.randn(weight.shape, generator=generator) * 0.1)
    return network


def tiny_stage_c(seed: int = 0, c: int = 16) -> StageC:
    network = _random(lambda: StageC(StageCConfig(c=c, c_cond=STAGE_C_TEXT, depth=1, nhead=2)), seed)
    network.out[1].bias[16:] = -1  # keeps the divisor |1 - b| away from 0, where rounding is amplified
    return network


def tiny_stage_b(seed: int = 0) -> StageB:
    config = StageBConfig(
        c_cond=16,
        c_hidden=(8, 16),
        nhead=(-1, 2),
        blocks=(1, 1),
        level_config=("CT", "CTA"),
        inject_effnet=(False, True),
        clip_embd=STAGE_B_TEXT,
    )
    return _random(lambda: StageB(config), seed)


def tiny_stage_a(seed: int = 0, embed_dim: int = 8) -> StageA:
    return _random(lambda: StageA(StageAConfig(bottleneck_blocks=1, embed_dim=embed_dim, num_vq_embeddings=16)), seed)


@dataclass(frozen=True)
class Kept:
    """What travels through the sockets here: no network, so that a node that takes it for one fails."""

    network: nn.Module
    compiled: bool = False


@dataclass
class FakeHost:
    """A host on the CPU that remembers what it was told."""

    folder: Path
    reported: list[tuple[str, int, int]] = field(default_factory=list)
    cancel_at: int | None = None
    previews: list[Tensor | None] | None = None

    def model_names(self) -> list[str]:
        files = [str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if path.is_file()]
        return models.names_in(files)

    def find_model(self, name: str) -> Path | None:
        return models.find_in([self.folder], name)

    def device(self) -> torch.device:
        return torch.device("cpu")

    def dtype(self, stage: str) -> torch.dtype:
        return {"C": torch.bfloat16, "B": torch.float32, "A": torch.float32}[stage]

    def operations(self, dtype: torch.dtype) -> Any:
        return nn

    def keep(self, network: nn.Module) -> Kept:
        return Kept(network)

    def compiled(self, kept: Kept) -> Kept:
        return Kept(kept.network, compiled=True)

    def network_of(self, kept: Kept) -> nn.Module:
        return kept.network

    @contextmanager
    def resident(self, kept: Kept, *, working_memory: int = 0) -> Iterator[nn.Module]:
        yield kept.network

    def intermediate_device(self) -> torch.device:
        return torch.device("cpu")

    def shows_previews(self) -> bool:
        return self.previews is not None

    def progress(self, steps: int, label: str) -> Callable[[int, Tensor | None], None]:
        def update(done: int, preview: Tensor | None) -> None:
            self.reported.append((label, done, steps))
            if self.previews is not None:
                self.previews.append(preview)
            if done == self.cancel_at:
                raise KeyboardInterrupt

        return update

    def output_folder(self) -> Path:
        return self.folder / "output"


def conditioning(dim: int, seed: int = 0, tokens: int = 5) -> list[list[Any]]:
    """A CONDITIONING of noise."""
    noise = torch.randn(1, tokens, dim, generator=torch.Generator().manual_seed(seed))
    return [[noise, {"pooled_output": noise.mean(dim=1)}]]
