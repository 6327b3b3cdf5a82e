"""Textual inversions in the host's folders, by the names that prompts call them by."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from wuerstchen_core.text.prompts import embedding_names, found_name

from .host import host
from .models import find_in

if TYPE_CHECKING:
    from wuerstchen_core.text.chunks import Embedding

SUFFIXES = (".safetensors", ".pt", ".bin")
"""Suffixes that a name may lack."""


class Embeddings(Mapping[str, "Embedding"]):
    """Embeddings of the host, each of which is loaded once, when it is asked for."""

    def __init__(self) -> None:
        self._loaded: dict[str, Embedding] = {}
        self._there: dict[str, bool] = {}

    def __getitem__(self, name: str) -> Embedding:
        if name in self._loaded:
            return self._loaded[name]
        path = host().find_embedding(name)
        if path is None:
            raise KeyError(name)
        from wuerstchen_core.checkpoints.embeddings import load_embedding

        return self._loaded.setdefault(name, load_embedding(path))

    def __contains__(self, name: object) -> bool:
        if not isinstance(name, str):
            return False
        if name not in self._there:
            self._there[name] = host().find_embedding(name) is not None
        return self._there[name]

    def __iter__(self) -> Iterator[str]:
        return iter(host().embedding_names())

    def __len__(self) -> int:
        return len(host().embedding_names())


def files_of(text: str | None) -> list[Path]:
    """Return the files of the embeddings in a text prompt; of all there are where the text is not known yet."""
    there = Embeddings()
    typed = there if text is None else embedding_names(text)
    names = (found_name(each, there.__contains__)[0] for each in typed)
    paths = (host().find_embedding(name) for name in names if name is not None)
    return [path for path in paths if path is not None]


def names_in(files: Iterable[str]) -> list[str]:
    """Return the names of the embeddings among some files, without their suffixes, sorted."""
    paths = [Path(file.replace("\\", "/")) for file in files]
    return sorted({path.with_suffix("").as_posix() for path in paths if path.suffix.lower() in SUFFIXES})


def find(folders: Iterable[str | Path], name: str) -> Path | None:
    """Return the file of an embedding in the first folder that has it, with or without its suffix; None for none."""
    folders = list(folders)
    found = (find_in(folders, name + suffix) for suffix in ("", *SUFFIXES))
    return next((path for path in found if path is not None and os.path.isfile(path)), None)
