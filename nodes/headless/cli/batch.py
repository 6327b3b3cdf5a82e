"""Verb `batch`: its options, and from them to the images of every row."""

import argparse
import random
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wuerstchen_core.errors import WuerstchenError

from ..errors import UsageError
from ..extras import install_command
from .arguments import Parser, count, threads, whole_number

if TYPE_CHECKING:
    from ..batch.job import Summary
    from ..report import Report
    from ..workflow.documents import Workflow

EXAMPLES = """\
examples:
  wuerstchen batch text_to_image prompts.txt --out images
  wuerstchen batch text_to_image prompts.csv --out images --name "{id}_{seed}.png" --sheet sheet.png
  wuerstchen batch text_to_image prompts.csv --out images --dry-run
  wuerstchen batch text_to_image prompts.parquet --out images --engine ray --layout staged"""

_TABLE = (
    "a .jsonl, .csv or .parquet file with a row for each run: its columns are `prompt`, `negative`, inputs as "
    "NODE.input, `seed` for every seed input, and `id`; an empty cell leaves the workflow's value. Or a .txt file with "
    "a prompt in each line"
)
_OUT = "folder of the images, manifest.parquet and index.html; an earlier run of the batch in it is continued"
_NAME = (
    "name of a row's image below DIR, with {id}, {index} (or {index:05}) and any column as {COLUMN} (default: "
    "{id}.png); further images of a row are called name_2.png, ..."
)
_ENCODING = "encoding of a .csv, .txt or .jsonl file, such as latin-1 (default: UTF-8, or that of a byte order mark)"
_SKIP = "run the other rows if some have bad cells; without it, nothing runs"
_REPLACE = "replace the images in DIR although no row is as it was, as in the folder of another table"
_LIMIT = "run at most N rows now; the next run continues"
_SHUFFLE = "run the rows in a random order, the same for the same SEED"
_DRY_RUN = "print how many rows would run, and for how long"
_SHEET = "also put thumbnails of all images on a sheet; further pages are called FILE_2.png, ..."
_WORKERS = "processes, each with its own networks (default: one for each graphics card, or one)"
_ENGINE = f"what runs the workers (default: local); ray needs `{install_command('ray')}`"
_LAYOUT = (
    "with --engine ray: fused (each worker runs whole rows) or staged (N workers for the text and Stage C, and N for "
    "the rest)"
)
_RANDOM_SEEDS = 2**32


def add_options(parser: Parser, workflow: str, settings: str) -> None:
    """Add the options of the verb.

    Args:
        parser: Parser of the verb.
        workflow: Help of an argument that names a workflow.
        settings: Help of --set.
    """
    parser.add_argument("workflow", metavar="WORKFLOW", help=workflow)
    parser.add_argument("table", metavar="PROMPTS", help=_TABLE)
    parser.add_argument("--out", metavar="DIR", required=True, help=_OUT)
    parser.add_argument("--name", metavar="PATTERN", default="{id}.png", help=_NAME)
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NODE.input=value",
        dest="settings",
        help=f"{settings}; for every row",
    )
    parser.add_argument("--encoding", metavar="NAME", help=_ENCODING)
    parser.add_argument("--skip-bad", action="store_true", help=_SKIP)
    parser.add_argument("--replace", action="store_true", help=_REPLACE)
    parser.add_argument("--retry-failed", action="store_true", help="run failed and quarantined rows again")
    parser.add_argument("--limit", type=count, metavar="N", help=_LIMIT)
    parser.add_argument("--shuffle", type=whole_number(0), nargs="?", const=-1, metavar="SEED", help=_SHUFFLE)
    parser.add_argument("--dry-run", action="store_true", help=_DRY_RUN)
    parser.add_argument("--sheet", metavar="FILE.png", help=_SHEET)
    parser.add_argument("--workers", type=count, metavar="N", help=_WORKERS)
    parser.add_argument("--threads", type=threads, metavar="N", help="threads of each worker (default: its share)")
    parser.add_argument("--engine", choices=["local", "ray"], default="local", help=_ENGINE)
    parser.add_argument("--address", metavar="HOST:PORT", help="Ray cluster to join (default: one on this machine)")
    parser.add_argument("--layout", choices=["fused", "staged"], default="fused", help=_LAYOUT)


def run(workflow: "Workflow", settings: Mapping[str, Any], options: argparse.Namespace, report: "Report") -> int:
    """Run a workflow for every row of a table, and return the exit code.

    Args:
        workflow: The workflow.
        settings: {"NODE.input": value} for every row.
        options: Options of `add_options`.
        report: Output of the command.
    """
    from ..batch.command import Batch, forecast_batch, run_batch
    from ..report import PARTLY_FAILED

    if not options.out:
        raise UsageError("--out is empty; expected a folder.")
    sheet = None if options.sheet is None else Path(options.sheet)
    if sheet is not None:
        from .contact_sheet import check_sheet

        check_sheet(sheet)
    shuffle = options.shuffle
    if shuffle == -1:
        shuffle = random.SystemRandom().randrange(_RANDOM_SEEDS)
        report.note(f"Order of the rows: --shuffle {shuffle}")
    batch = Batch(
        workflow,
        Path(options.table),
        Path(options.out),
        settings=settings,
        name=options.name,
        encoding=options.encoding,
        skip_bad=options.skip_bad,
        replaces=options.replace,
        retry_failed=options.retry_failed,
        limit=options.limit,
        shuffle=shuffle,
        workers=options.workers,
        threads=options.threads,
        engine=options.engine,
        address=options.address,
        layout=options.layout,
    )
    if options.dry_run:
        forecast = forecast_batch(batch, report)
        if report.as_json:
            report.event(event="forecast", **forecast.fields())
            return 0
        for line in forecast.lines():
            report.result(line)
        return 0
    summary = run_batch(batch, report)
    report.event(event="done", counts=summary.counts, manifest=str(summary.manifest), page=str(summary.page))
    counts = ", ".join(f"{number} {status}" for status, number in summary.counts.items())
    say = report.note if summary.complete else report.warn
    say(f"{counts}. Images: {summary.page}, details of each row: {summary.manifest}")
    if sheet is not None:
        _write_sheet(sheet, summary, report)
    return 0 if summary.complete else PARTLY_FAILED


def _write_sheet(path: Path, summary: "Summary", report: "Report") -> None:
    """Draw the images of all rows that are done."""
    from .contact_sheet import Thumbnail, write_sheet

    thumbnails = [
        Thumbnail(summary.folder / name, each.row.id, each.prompt)
        for each in summary.results
        for name in each.files
        if name.endswith(".png")
    ]
    try:
        pages = write_sheet(path, thumbnails)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise WuerstchenError(f"Cannot write {path}: {reason}. Choose another --sheet.") from error
    for page in pages:
        report.result(str(page), event="sheet", path=str(page))
