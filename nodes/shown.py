"""Values in messages: short, in one line, whatever they are."""

from __future__ import annotations

import reprlib
import sys
from collections.abc import Mapping
from itertools import islice
from typing import Any

LONGEST = 80
"""Most characters of a text or a number that is shown."""
_KEYS = 5
"""Most keys of a dictionary that are shown."""
_DIGITS = 40
_short = reprlib.Repr()
_short.maxstring = _short.maxother = LONGEST


def shown(value: Any) -> str:
    """Describe a value, as in "latent is ...; expected ..."."""
    if value is None or isinstance(value, (bool, float, str)):
        return _short.repr(value)
    if isinstance(value, int):
        return str(value) if abs(value) < 10**_DIGITS else f"a whole number of more than {_DIGITS} digits"
    if isinstance(value, Mapping):
        keys = [_short.repr(key) for key in islice(value, _KEYS)]
        more = [f"{len(value) - _KEYS} more"] if len(value) > _KEYS else []
        return f"a dictionary with {', '.join(keys + more) or 'nothing in it'}"
    torch = sys.modules.get("torch")  # a tensor cannot be there before it is loaded
    if torch is not None and isinstance(value, torch.Tensor):
        kind = "" if value.layout == torch.strided else "sparse "
        device = "" if value.device.type != "meta" else " without values"
        return f"a {kind}tensor of shape {list(value.shape)} and {value.dtype}{device}"
    return "an empty list" if isinstance(value, list) and not value else f"a {type(value).__name__}"
