"""Check the records of a journal, which may be damaged or somebody else's: their files are moved and deleted."""

import math
import reprlib
from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any

from wuerstchen_core.files.untrusted import check_text

ROW_EVENTS = frozenset({"started", "done", "failed", "died", "quarantined", "again"})
STATUSES = frozenset({"pending", "done", "failed", "quarantined"})
_MOST = 2**31 - 1
_OF_A_BATCH = dict.fromkeys(("workflow", "table", "cells"))
"""Fields of a batch that early versions lack: digests."""
_OF_A_ROW = frozenset({"event", "time", "id", "row", "attempt", "worker", "seconds", "error", "files"})

_Check = Callable[[Any], bool]


def check_record(record: Any, version: int) -> None:
    """Check that a record has all fields that the journal reads, with values of their types.

    Args:
        record: Parsed line of a journal.
        version: Newest version of the format; the fields of a later one are not known.
    Raises:
        ValueError: It does not; the text names the field.
    """
    if not isinstance(record, dict):
        raise ValueError("it is no object")
    if record.get("event") == "batch":
        _check_fields(record, {"version": _is_count})
        if record["version"] <= version:
            _check_names(record, _OF_A_BATCH.keys() | {"event", "time", "version", "rows", "moved"})
            _check_fields({**_OF_A_BATCH, **record}, dict.fromkeys(_OF_A_BATCH, _or_none(_is_text)))
        if record["version"] == 1:
            _check_fields(record, {"rows": _is_count})
        elif record["version"] <= version:
            _check_fields(record, {"rows": _are(_is_content), "moved": _are(_is_move)})
        return
    _check_names(record, _OF_A_ROW)
    _check_fields(record, {"event": lambda event: isinstance(event, str) and event in ROW_EVENTS})
    _check_fields(record, {"id": _is_text} if "id" in record else {"row": _is_count})
    if record["event"] == "again":
        return
    _check_fields(record, {"attempt": _is_count, "worker": _or_none(_is_text), "time": _is_time})
    if record["event"] != "started":
        _check_fields(record, {"seconds": _or_none(_is_number)})
        _check_fields({"error": None, "files": [], **record}, {"error": _or_none(_is_text), "files": _are(_is_file)})


def _check_names(record: Mapping[str, Any], known: Collection[str]) -> None:
    for name in record:
        if name not in known:
            raise ValueError(f"{name[:40]!r} is no field of a record")


def _check_fields(record: Mapping[str, Any], checks: Mapping[str, _Check]) -> None:
    for name, fits in checks.items():
        if name not in record:
            raise ValueError(f"{name} is missing")
        if not fits(record[name]):
            raise ValueError(f"{name} is wrong: {reprlib.repr(record[name])}")


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= _MOST


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _is_text(value: Any) -> bool:
    if isinstance(value, str):
        check_text(value)
    return isinstance(value, str)


def _is_time(value: Any) -> bool:
    return isinstance(value, str) and datetime.fromisoformat(value) is not None


def _or_none(fits: _Check) -> _Check:
    return lambda value: value is None or fits(value)


def _are(fits: _Check) -> _Check:
    return lambda value: isinstance(value, list) and all(map(fits, value))


def _is_content(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(_is_text, value))


def _is_file(value: Any) -> bool:
    if not (
        isinstance(value, dict) and value.keys() == {"staged", "name", "sha256"} and all(map(_is_text, value.values()))
    ):
        return False
    return _stays(value["name"]) and _stays(value["staged"]) and len(PurePosixPath(value["staged"]).parts) <= 2


def _stays(path: str) -> bool:
    """Return whether a path stays in the folder that it is relative to."""
    parts = path.replace("\\", "/").split("/")
    return "\0" not in path and ":" not in parts[0] and all(part not in ("", ".", "..") for part in parts)


def _is_move(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    _check_fields(value, {"id": _is_text, "state": _is_state, "old": _are(_is_file)})
    return True


_STATE: dict[str, _Check] = {
    "digest": _is_text,
    "status": lambda value: isinstance(value, str) and value in STATUSES,
    "attempts": _is_count,
    "deaths": _is_count,
    "open": lambda value: isinstance(value, bool),
    "cut_short": _is_count,
    "seconds": _or_none(_is_number),
    "worker": _or_none(_is_text),
    "error": _or_none(_is_text),
    "started": _or_none(_is_time),
    "finished": _or_none(_is_time),
    "files": _are(_is_file),
}


def _is_state(value: Any) -> bool:
    if not isinstance(value, dict) or not value.keys() <= _STATE.keys():
        return False
    _check_fields(value, {name: _STATE[name] for name in value})
    return True
