"""A host for the tests of the node classes."""

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wuerstchen_nodes import embeddings, models


@dataclass(frozen=True)
class Kept:
    """Value of a socket that holds a network; it is not a module, so a node that uses it as one fails.

    Attributes:
        network: The network.
        compiled: Whether a node has asked to compile it.
    """

    network: nn.Module
    compiled: bool = False


@dataclass
class FakeHost:
    """A host on the CPU that records calls.

    Attributes:
        folder: Folder of the models, with the output folder in it.
        reported: (label, step, steps) of every progress report.
        cancel_at: Step at which a report raises KeyboardInterrupt; None for never.
        previews: Previews that were reported; None makes the host show no previews.
        notices: Texts that nodes asked to show.
        downloads: Bytes that are there and bytes in all, as a download reports them; None where nothing may download.
        place: Place on disk of every Keep on Disk; None for a host that keeps results by itself.
    """

    folder: Path
    reported: list[tuple[str, int, int]] = field(default_factory=list)
    cancel_at: int | None = None
    previews: list[Tensor | None] | None = None
    notices: list[str] = field(default_factory=list)
    downloads: list[tuple[int, int]] | None = None
    place: Any = None

    def model_names(self) -> list[str]:
        files = [str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if path.is_file()]
        return models.names_in(files)

    def find_model(self, name: str) -> Path | None:
        return models.find_in([self.folder], name)

    def embedding_names(self) -> list[str]:
        return embeddings.names_in([path.name for path in (self.folder / "embeddings").glob("*")])

    def find_embedding(self, name: str) -> Path | None:
        return embeddings.find([self.folder / "embeddings"], name)

    def lora_names(self) -> list[str]:
        return sorted(path.name for path in (self.folder / "loras").glob("*"))

    def find_lora(self, name: str) -> Path | None:
        path = self.folder / "loras" / name
        return path if path.is_file() else None

    def download_advice(self, preset: str, repo: str, file: str) -> str | None:
        return f"Get {file} for {preset} into {self.folder}/{repo}."

    def download_folder(self) -> Path | None:
        return self.folder if self.downloads is not None else None

    def download(self, preset: str) -> Generator[tuple[int, int]]:
        assert self.downloads is not None
        yield from self.downloads

    def device(self) -> torch.device:
        return torch.device("cpu")

    def dtype(self, stage: str) -> torch.dtype:
        return {"C": torch.bfloat16, "B": torch.float32, "A": torch.float32}[stage]

    def operations(self, dtype: torch.dtype | None) -> Any:
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

    def kept(self, prompt: Any, node_id: str) -> Any:
        return self.place

    def notice(self, text: str) -> None:
        self.notices.append(text)

    def output_folder(self) -> Path:
        return self.folder / "output"


def conditioning(dim: int, seed: int = 0, tokens: int = 5) -> list[list[Any]]:
    """Return a ComfyUI conditioning with an embedding of noise, [1, tokens, dim]."""
    noise = torch.randn(1, tokens, dim, generator=torch.Generator().manual_seed(seed))
    return [[noise, {"pooled_output": noise.mean(dim=1)}]]
