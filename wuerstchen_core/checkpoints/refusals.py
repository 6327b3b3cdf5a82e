"""Errors of files of torch.save that are damaged, or that hold more than tensors."""

import pickle
import re
from pathlib import Path
from typing import NoReturn

from ..errors import CheckpointError


def damaged(path: Path, kind: str, error: Exception) -> CheckpointError:
    """Return the error of a file that the library for its kind cannot read."""
    reason = re.split(r"\n|\. ", str(error).strip())[0][:300] or type(error).__name__
    return CheckpointError(f"{path} is a damaged or incomplete {kind} file ({reason}). Download it again.")


def refuse(path: Path, reason: str) -> NoReturn:
    """Raise the error of a file that is built as no checkpoint is. Raises: CheckpointError."""
    raise CheckpointError(
        f"{path} was refused: {reason}. Expected a dictionary of tensors as torch.save writes it; ask whoever made it "
        "for a .safetensors file."
    )


def refuse_code(path: Path, name: str) -> NoReturn:
    """Raise the error of a file that names something else than tensors need. Raises: CheckpointError."""
    raise CheckpointError(
        f"{path} was refused: it contains code or Python objects ({name[:200]}), which loading would run. "
        "Expected tensors only. If you trust whoever made it, ask them for a .safetensors file."
    )


def refused(path: Path, error: pickle.UnpicklingError) -> CheckpointError:
    """Return the error for a pickle that torch itself refused."""
    told = re.search(r"WeightsUnpickler error:\s*(.+)", str(error))
    reason = told[1].strip()[:300] if told else type(error).__name__
    return CheckpointError(
        f"{path} was refused: it is damaged or holds more than tensors ({reason}). "
        "Download it again, or ask whoever made it for a .safetensors file."
    )
