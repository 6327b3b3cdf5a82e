"""What each verb of the command does."""

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from . import bundled
from .documents import Workflow, load_workflow
from .errors import UsageError
from .files import DEFAULT_FOLDER, OutputFiles
from .report import Report

LARGEST_SEED = 2**64 - 1
_DRAWN_SEEDS = 2**32
"""A drawn seed is below this: short enough to type again."""


def run(options: argparse.Namespace, report: Report) -> int:
    """Run a workflow file."""
    workflow = load_workflow(bundled.locate(options.workflow))
    _run(workflow, _settings(options.settings), _seed(options.seed, report), OutputFiles(_out(options.out)), report)
    return 0


def generate(options: argparse.Namespace, report: Report) -> int:
    """Run the text-to-image example with a prompt of one's own."""
    prompt = options.prompt
    if prompt is None and not sys.stdin.isatty():
        prompt = sys.stdin.read().strip()
    if not prompt or not prompt.strip():
        raise UsageError(
            "The prompt is empty; expected what to draw, such as "
            '`wuerstchen generate "a red heart on a white background"`, or a text on stdin.'
        )
    from .generate import settings_for

    workflow = load_workflow(bundled.locate(None))
    settings = settings_for(workflow, prompt, options.negative, options.width, options.height, options.model)
    seed = _seed(options.seed, report)
    if options.out is not None or report.as_json or sys.stdout.isatty():
        _run(workflow, settings, seed, OutputFiles(_out(options.out)), report)
        return 0
    with tempfile.TemporaryDirectory(prefix="wuerstchen-") as folder:
        silent = Report(as_json=False, quiet=report.quiet)
        paths = _run(workflow, settings, seed, OutputFiles(folder), silent, print_paths=False)
        sys.stdout.buffer.write(paths[0].read_bytes())
        sys.stdout.buffer.flush()
    return 0


def validate(options: argparse.Namespace, report: Report) -> int:
    """Check a workflow."""
    from .run import prepare

    workflow = load_workflow(bundled.locate(options.workflow))
    prepared = prepare(workflow, _settings(options.settings), seed=_seed(options.seed, report))
    count = len(prepared.prompt)
    report.result(f"{workflow.name} can run: {count} nodes", event="valid", workflow=workflow.name, nodes=count)
    return 0


def convert(options: argparse.Namespace, report: Report) -> int:
    """Print the API format."""
    from .run import resolve

    workflow = load_workflow(bundled.locate(options.workflow))
    resolved = resolve(workflow, _settings(options.settings), seed=_seed(options.seed, report))
    print(json.dumps(resolved.prompt, indent=None if report.as_json else 2, ensure_ascii=report.as_json))
    return 0


def slots(options: argparse.Namespace, report: Report) -> int:
    """List what can be set."""
    from .catalog import default_catalog
    from .overrides import slots as slots_of
    from .run import resolve
    from .validate import title_of

    prompt = resolve(load_workflow(bundled.locate(options.workflow))).prompt
    for node_id, declared, value in slots_of(prompt, default_catalog()):
        linked = isinstance(value, list)
        fields = {
            "node": node_id,
            "title": title_of(prompt, node_id),
            "class_type": prompt[node_id]["class_type"],
            "input": declared.name,
            "type": declared.type,
            "value": value,
            "linked": linked,
            "choices": declared.choices,
        }
        shown = f"linked to node {value[0]}" if linked else json.dumps(value, ensure_ascii=False)
        among = f"  ({', '.join(map(str, declared.choices[:12]))})" if declared.choices else ""
        report.result(f"{node_id}.{declared.name} = {shown}  [{fields['title']}, {declared.type}]{among}", **fields)
    return 0


def info(options: argparse.Namespace, report: Report) -> int:
    """Say what is here."""
    from .info import lines

    for plain, fields in lines():
        report.result(plain, **fields)
    return 0


def download(options: argparse.Namespace, report: Report) -> int:
    """Fetch a preset."""
    from .info import fetch

    for path in fetch(options.preset):
        report.result(str(path), event="downloaded", preset=options.preset, path=str(path))
    return 0


VERBS: dict[str, Callable[[argparse.Namespace, Report], int]] = {
    "run": run,
    "generate": generate,
    "validate": validate,
    "convert": convert,
    "slots": slots,
    "info": info,
    "download": download,
}


def _run(
    workflow: Workflow,
    settings: Mapping[str, Any],
    seed: int | None,
    files: OutputFiles,
    report: Report,
    *,
    print_paths: bool = True,
) -> list[Path]:
    from .run import execute, host_for, paths_of

    host = host_for(workflow, files, quiet=report.quiet)
    start = time.monotonic()

    def on_node(state: str, node_id: str, ui: dict[str, list[Any]]) -> None:
        report.event(event="node", node=node_id, state=state)
        if not print_paths:
            return
        for path in paths_of(ui, "output", host):
            report.result(str(path), event="saved", node=node_id, path=str(path))
        for text in ui.get("text", []):
            report.note(f"Node {node_id}: {text}")
            report.event(event="text", node=node_id, text=text)

    result = execute(workflow, settings, seed=seed, host=host, on_node=on_node)
    seconds = round(time.monotonic() - start, 1)
    report.event(event="done", seconds=seconds, seed=seed, images=[str(path) for path in result.images])
    report.note(f"Done in {seconds} s")
    return result.images


def _out(out: str | None) -> str:
    if out == "":
        raise UsageError("--out is empty; expected a folder, or a pattern such as 'out/{prefix}_{index:05}.png'.")
    return DEFAULT_FOLDER if out is None else out


def _settings(texts: list[str]) -> dict[str, str]:
    pairs = [text.partition("=") for text in texts]
    for key, equals, _ in pairs:
        if not equals:
            raise UsageError(f"--set got {key!r}; expected NODE.input=value. `wuerstchen slots` lists what can be set.")
    return {key.strip(): value for key, _, value in pairs}


def _seed(text: str | None, report: Report) -> int | None:
    if text is None:
        return None
    if text == "random":
        seed = random.SystemRandom().randrange(_DRAWN_SEEDS)
        print(f"Seed: {seed}", file=sys.stderr, flush=True)
        report.event(event="seed", seed=seed)
        return seed
    try:
        seed = int(text)
    except ValueError:
        seed = -1
    if not 0 <= seed <= LARGEST_SEED:
        raise UsageError(f"--seed is {text!r}; expected a whole number from 0 to {LARGEST_SEED}, or random.")
    return seed
