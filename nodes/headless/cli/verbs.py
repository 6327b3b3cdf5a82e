"""Verbs of the command: each reads its options, does its work and returns the exit code."""

import argparse
import codecs
import json
import os
import random
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..errors import UsageError
from ..output_files import DEFAULT_FOLDER, OutputFiles
from ..report import Report, size_text, write_out
from ..workflow import examples
from ..workflow.documents import load_workflow
from ..workflow.overrides import parse_seed

if TYPE_CHECKING:
    from ..execution.disk_cache import DiskCache
    from ..server.client import Server
    from ..workflow.catalog import Catalog
    from ..workflow.documents import Workflow
    from .jobs import Variant

_RANDOM_SEEDS = 2**32
"""Random seeds are below this, so that they are short enough to type again."""


def run(options: argparse.Namespace, report: Report) -> int:
    """Run a workflow file."""
    from .jobs import RunJob, dry_run, run_all

    workflow = load_workflow(examples.locate(options.workflow))
    settings, seed = _settings(options.settings), _seed(options.seed, report)
    files = OutputFiles(_out(options.out))
    grid = _grid(options.grid, bool(options.sweep))
    cache, server = _cache(options), _server(options)
    job = RunJob(
        workflow,
        settings,
        seed,
        files,
        report,
        cache,
        sweep=options.sweep,
        grid=grid,
        server=server,
        compiles=options.compile,
        dtype=options.dtype,
        executor=options.executor,
    )
    if options.dry_run and server is not None:
        raise UsageError("--dry-run asks the cache of this program, and cannot ask a server's; leave one of them out.")
    if options.dry_run:
        dry_run(job)
    else:
        run_all(job)
    return 0


def generate(options: argparse.Namespace, report: Report) -> int:
    """Run the text-to-image example, or one that changes a picture, with other prompts."""
    from .generate import example_for, prompts_of, settings_for, variants_for

    prompts = prompts_of(options.prompt)
    seed = _drawn_or_read(options.seed, report)

    workflow = load_workflow(examples.locate(example_for(options)))
    variants = variants_for(prompts, seed, options.count)
    return _draw(workflow, settings_for(workflow, options), seed, variants, len(variants), options, report)


def vary(options: argparse.Namespace, report: Report) -> int:
    """Run the example of variations with another picture."""
    seed = _drawn_or_read(options.seed, report)
    from .generate import VARIATIONS_EXAMPLE, variation_settings

    workflow = load_workflow(examples.locate(VARIATIONS_EXAMPLE))
    return _draw(workflow, variation_settings(workflow, options), seed, [], options.count, options, report)


def _draw(
    workflow: "Workflow",
    settings: dict[str, Any],
    seed: int,
    variants: "Sequence[Variant]",
    count: int,
    options: argparse.Namespace,
    report: Report,
) -> int:
    """Run an example, and save `count` images or write the only one to a pipe."""
    from .generate import numbered, picture_remarks
    from .jobs import RunJob, run_all

    to_stdout = options.out is None and not report.as_json and not sys.stdout.isatty()
    if to_stdout and count > 1:
        raise UsageError(f"{count} images cannot go to a pipe; name a folder or a pattern with --out.")
    out = OutputFiles(numbered(_out(options.out), count))
    for text in picture_remarks(options.image) if options.image is not None else ():
        report.warn(text)
    cache, server = _cache(options), _server(options)
    job = RunJob(
        workflow,
        settings,
        seed,
        out,
        report,
        cache,
        variants=variants,
        server=server,
        compiles=options.compile,
        dtype=options.dtype,
        executor=options.executor,
    )
    if not to_stdout:
        run_all(job)
        return 0
    with tempfile.TemporaryDirectory(prefix="wuerstchen-") as folder:
        paths = run_all(replace(job, files=OutputFiles(folder), prints_paths=False))
        write_out(paths[0].read_bytes())
    return 0


def batch(options: argparse.Namespace, report: Report) -> int:
    """Run a workflow for every row of a table."""
    from . import batch as batch_verb

    workflow = load_workflow(examples.locate(options.workflow))
    return batch_verb.run(workflow, _settings(options.settings), options, report)


def validate(options: argparse.Namespace, report: Report) -> int:
    """Check whether a workflow can run."""
    from ... import host as hosts
    from ..run import host_for, prepare
    from ..stock.nodes import default_catalog
    from .checks import report_missing, warnings_of, weights_of

    workflow = load_workflow(examples.locate(options.workflow))
    host, catalog = host_for(workflow), default_catalog()
    seed = _seed(options.seed, report)
    prompt = prepare(workflow, _settings(options.settings), seed=seed, host=host, catalog=catalog).prompt
    for text in warnings_of(prompt):
        report.warn(text)
    with hosts.using(host):
        weights = weights_of(prompt, catalog)
    state = "can run" if all(each.files is not None for each in weights) else "is valid, but weights are missing"
    count = len(prompt)
    report.result(f"{workflow.name} {state}: {count} nodes", event="valid", workflow=workflow.name, nodes=count)
    report_missing(report, weights)
    return 0


def convert(options: argparse.Namespace, report: Report) -> int:
    """Print a workflow in the API format."""
    from ..run import resolve

    workflow = load_workflow(examples.locate(options.workflow))
    settings, seed = _settings(options.settings), _seed(options.seed, report)
    resolved = resolve(workflow, settings, seed=seed, catalog=_catalog(options))
    escaped = report.as_json or codecs.lookup(sys.stdout.encoding or "utf-8").name != "utf-8"
    write_out(json.dumps(resolved.prompt, indent=None if report.as_json else 2, ensure_ascii=escaped) + "\n")
    return 0


def slots(options: argparse.Namespace, report: Report) -> int:
    """List the inputs that can be set."""
    from ..run import resolve
    from ..workflow.overrides import slots as slots_of
    from ..workflow.prompt import title_of

    catalog = _catalog(options)
    prompt = resolve(load_workflow(examples.locate(options.workflow)), catalog=catalog).prompt
    for node_id, declared, value in slots_of(prompt, catalog):
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
    """Print versions, the device and the checkpoints on this machine."""
    from .info import lines

    for plain, fields in lines():
        report.result(plain, **fields)
    return 0


def cache(options: argparse.Namespace, report: Report) -> int:
    """List the results that are kept on disk, or drop them."""
    from .cache import cache as cache_verb

    return cache_verb(options, report)


def download(options: argparse.Namespace, report: Report) -> int:
    """Download a preset."""
    from wuerstchen_core.checkpoints.sources import (
        MODELS_VARIABLE,
        download_preset,
        download_size,
        models_folder,
    )

    if options.to is not None:
        os.environ[MODELS_VARIABLE] = options.to
    size = download_size(options.preset)
    report.event(event="download", preset=options.preset, bytes=size)
    if size:
        report.note(f"Downloading {size_text(size)} to {models_folder()}")
    for part in download_preset(options.preset):
        report.result(str(part.path), event="downloaded", preset=options.preset, path=str(part.path))
    return 0


def serve(options: argparse.Namespace, report: Report) -> int:
    """Keep networks in memory, and run the commands of other shells; or end the server that does."""
    from .serve import Server, ask_to_end

    if options.stop:
        report.result("The server ends" if ask_to_end() else "There is no server", event="stopped")
        return 0
    Server(options.run_warm, report, options.idle).serve()
    return 0


def train(options: argparse.Namespace, report: Report) -> int:
    """Train a LoRA, or Stage C."""
    from . import train as train_verb

    return train_verb.run(options, report)


def completion(options: argparse.Namespace, report: Report) -> int:
    """Print the completion script of a shell."""
    from .completion import script
    from .parser import build_parser

    write_out(script(build_parser(), options.shell) + "\n")
    return 0


VERBS: dict[str, Callable[[argparse.Namespace, Report], int]] = {
    "run": run,
    "generate": generate,
    "vary": vary,
    "batch": batch,
    "validate": validate,
    "convert": convert,
    "slots": slots,
    "info": info,
    "cache": cache,
    "download": download,
    "serve": serve,
    "train": train,
    "completion": completion,
}


def _cache(options: argparse.Namespace) -> "DiskCache | None":
    from ..execution.disk_cache import DiskCache

    if options.no_cache and options.cache is not None:
        raise UsageError("--no-cache and --cache exclude each other; give one of them.")
    return None if options.no_cache else DiskCache(options.cache or None)


def _server(options: argparse.Namespace) -> "Server | None":
    if options.backend == "embedded" and options.server is not None:
        raise UsageError("--backend embedded needs no --server; leave one of them out.")
    if options.backend != "comfyui" and options.server is None:
        return None
    from ..server.client import DEFAULT_URL, Server

    return Server(DEFAULT_URL if options.server is None else options.server)


def _catalog(options: argparse.Namespace) -> "Catalog":
    """Return the nodes of this program, or of the server that was named."""
    from ..stock.nodes import default_catalog
    from ..workflow.catalog import catalog_of_server

    server = _server(options)
    return default_catalog() if server is None else catalog_of_server(server.object_info(), server.url)


def _grid(path: str | None, sweeps: bool) -> OutputFiles | None:
    if path is None:
        return None
    if not sweeps:
        raise UsageError("--grid lays out the pictures of a sweep; give at least one --sweep with it.")
    if not path.lower().endswith(".png") or "{" in path:
        raise UsageError(f"--grid is {path!r}; expected a path that ends in .png.")
    return OutputFiles(path)


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
    return None if text is None else _drawn_or_read(text, report)


def _drawn_or_read(text: str, report: Report) -> int:
    """Return a seed: a random one, which is reported, or the number in a text."""
    if text == "random":
        seed = random.SystemRandom().randrange(_RANDOM_SEEDS)
        print(f"Seed: {seed}", file=sys.stderr, flush=True)
        report.event(event="seed", seed=seed)
        return seed
    return parse_seed(text, "--seed", also=", or random")
