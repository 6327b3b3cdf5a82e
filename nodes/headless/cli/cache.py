"""`wuerstchen cache`: list the results that are kept on disk, drop them, and set the limit for all together."""

import argparse
import shutil
import time

from wuerstchen_core.files.places import int8_folder, size_of

from ..errors import UsageError
from ..execution.disk_cache import DiskCache, Entry
from ..report import Report, size_text

_UNITS = (("day", 86400), ("hour", 3600), ("minute", 60))


def cache(options: argparse.Namespace, report: Report) -> int:
    """List the results on disk, or drop those that were asked for."""
    if options.clear and options.older is not None:
        raise UsageError("--clear drops every result, and --older the old ones; give one of them.")
    found = DiskCache(options.cache or None)
    drops = options.clear or options.older is not None
    count = 0
    try:
        if options.limit is not None:
            found.set_limit(options.limit)
        if drops:
            count = found.clear() if options.older is None else _drop_older(found, options.older)
        entries = found.entries()
    except OSError as error:
        raise UsageError(f"The cache in {found.folder} cannot be changed: {error.strerror or error}.") from error
    if options.clear and not options.cache:
        shutil.rmtree(int8_folder(), ignore_errors=True)
    if drops:
        report.result(f"Dropped {_counted(count)}", event="dropped", results=count)
    else:
        for entry in entries:
            report.result(_line(entry), event="result", key=entry.key, bytes=entry.size, made=entry.made, **entry.about)
    weights = [size_of(path) for path in int8_folder().glob("*.safetensors")]
    if weights and not options.cache:
        told = f"{_counted(len(weights), 'network')} rounded to int8, {size_text(sum(weights))}"
        report.result(told, event="int8", networks=len(weights), bytes=sum(weights))
    size = sum(entry.size for entry in entries)
    report.result(
        f"{_counted(len(entries))}, {size_text(size)} of at most {size_text(found.max_bytes)}, in {found.folder}",
        event="cache",
        folder=str(found.folder),
        results=len(entries),
        bytes=size,
        limit=found.max_bytes,
    )
    return 0


def _drop_older(found: DiskCache, seconds: float) -> int:
    """Drop the results that were made longer than so many seconds ago, and return how many."""
    before = time.time() - seconds
    return sum(found.forget(entry.key) for entry in found.entries() if entry.made < before)


def _line(entry: Entry) -> str:
    about = entry.about
    what = about.get("node") or "a result"
    kind = f" ({about['type']})" if about.get("type") else ""
    text = f" of {about['text']!r}" if about.get("text") else ""
    workflow = f", from {about['workflow']}" if about.get("workflow") else ""
    return f"{size_text(entry.size):>8}  {_age(entry.made):>14}  {what}{kind}{text}{workflow}"


def _age(made: float) -> str:
    seconds = time.time() - made
    for unit, length in _UNITS:
        if seconds >= length:
            return f"{_counted(int(seconds // length), unit)} ago"
    return "just now"


def _counted(count: int, what: str = "result") -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
