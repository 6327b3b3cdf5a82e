"""Verbs and options of the command `wuerstchen`. Nothing heavy is imported here, so that --help answers at once."""

import argparse
from typing import NoReturn

EXIT_CODES = """\
exit codes: 0 done, 1 failed while running, 2 bad usage, 3 invalid workflow, 4 weights missing, 5 batch partly failed,
6 backend unavailable, 130 interrupted"""

_WORKFLOW = "a .json in the editor's or the API format, or a PNG that carries one; or the name of a bundled example"
_SET = (
    "set an input, and unplug what fed it; NODE is an id, a title, a class or a display name "
    "(`wuerstchen slots` lists them); may be given several times"
)
_COMPILE = (
    "run Stages B and C through torch.compile: a new size waits for the compiler, which wants a C++ compiler on a CPU; "
    "its work is kept for later runs"
)
_SEED = (
    "every seed of the workflow; `random` draws one and says which. Where the workflow has several different seeds "
    "they stay different: the first becomes N, the next N+1, ..."
)
_SWEEP = (
    "an input and all that it becomes, such as 'Stage C Sampler.seed=1..8' or 'Stage C Sampler.cfg=3,4'; given several "
    "times, every combination is drawn"
)
_OUT = (
    "a folder (default: output), whose files are numbered; or a pattern ending in .png with {prefix}, {index} (or "
    "{index:05}) and {node}. A name that is taken is never overwritten: the next free one is used, name_2.png where "
    "the pattern has no {index}"
)
_TABLE = (
    "a table, .jsonl, .csv or .parquet: a row a run. Its columns are inputs as NODE.input, `seed` for every seed, and "
    "`id`; a row that leaves one out has the workflow's own value"
)
_NAME = (
    "of a row's picture, below DIR, with {id}, {index} (or {index:05}) and any column as {COLUMN} (default: {id}.png); "
    "further pictures of a row are called name_2.png, ..."
)
_WORKERS = "processes, each with its networks loaded once (default: one for each graphics card, or one)"
_LAYOUT = (
    "with --engine ray: fused (each worker runs whole rows) or staged (N workers for the text and Stage C, and N for "
    "all that follows; only embeddings and latents travel between them)"
)

_EXAMPLES = {
    "run": """\
examples:
  wuerstchen run
  wuerstchen run workflows/text_to_image.json --set "Prompt.value=a blue ring on a pink background" --seed 3
  wuerstchen run stage_reuse --out "pictures/{prefix}_{index:03}.png" --json
  wuerstchen run --sweep "Stage C Sampler.seed=1..4" --sweep "Stage C Sampler.cfg=2,4,6" --grid sheet.png
  wuerstchen run drawn_before.png --dry-run
  wuerstchen run graph_of_many_packs.json --server http://127.0.0.1:8188""",
    "generate": """\
examples:
  wuerstchen generate "a yellow star at the left on a purple background" --out star.png
  echo "a red heart on a white background" | wuerstchen generate --seed 7 > heart.png""",
    "validate": """\
example:
  wuerstchen validate shared.json --json""",
    "convert": """\
examples:
  wuerstchen convert shared.json > prompt.json
  wuerstchen convert graph_of_many_packs.json --server http://127.0.0.1:8188 > prompt.json""",
    "slots": """\
example:
  wuerstchen slots stage_reuse""",
    "batch": """\
examples:
  wuerstchen batch workflows/text_to_image.json prompts.csv --out pictures --name "{id}_{seed}.png"
  wuerstchen batch text_to_image prompts.jsonl --out pictures --workers 2 --retry-failed
  wuerstchen batch text_to_image prompts.parquet --out pictures --engine ray --layout staged""",
    "info": """\
example:
  wuerstchen info --json""",
    "download": """\
example:
  wuerstchen download v2-interpolated""",
    "completion": """\
examples:
  wuerstchen completion bash > ~/.local/share/bash-completion/completions/wuerstchen
  wuerstchen completion fish > ~/.config/fish/completions/wuerstchen.fish""",
}


class _Parser(argparse.ArgumentParser):
    """Parser that reports bad usage in one line that says what to do, with the exit code 2."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"wuerstchen: error: {message}. See `{self.prog} --help`.\n")


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all verbs and options."""
    parser = _Parser(
        prog="wuerstchen",
        description="Text to image with Würstchen v2: run workflow files, with no ComfyUI.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="store_true", help="print the version, and end")
    common = _Parser(add_help=False)
    common.add_argument("--json", action="store_true", help="print one JSON object a line on stdout")
    common.add_argument("--quiet", action="store_true", help="no progress on stderr")
    common.add_argument("--debug", action="store_true", help="show the traceback of an error")
    settings = _Parser(add_help=False)
    settings.add_argument("--set", action="append", default=[], metavar="NODE.input=value", dest="settings", help=_SET)
    settings.add_argument("--seed", metavar="N|random", help=_SEED)
    computing = _Parser(add_help=False)
    computing.add_argument("--compile", action="store_true", help=_COMPILE)
    storing = _Parser(add_help=False)
    storing.add_argument("--cache", metavar="DIR", help="where results of stages are kept (default: $WUERSTCHEN_CACHE)")
    storing.add_argument("--no-cache", action="store_true", help="keep no results, and use none")
    backend = _Parser(add_help=False)
    backend.add_argument(
        "--backend",
        choices=["embedded", "comfyui"],
        help="whose nodes: this program's, or a ComfyUI server's",
    )
    backend.add_argument("--server", metavar="URL", help="of the ComfyUI server (default: http://127.0.0.1:8188)")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", parser_class=_Parser)

    def add(name: str, summary: str, *parents: _Parser) -> argparse.ArgumentParser:
        return verbs.add_parser(
            name,
            help=summary,
            description=summary,
            parents=[*parents, common],
            epilog=f"{_EXAMPLES[name]}\n\n{EXIT_CODES}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )

    run = add("run", "run a workflow and print the path of each PNG it saves", settings, computing, storing, backend)
    run.add_argument("workflow", nargs="?", help=f"{_WORKFLOW} (default: text_to_image)")
    run.add_argument("--out", metavar="PATTERN", help=_OUT)
    run.add_argument("--sweep", action="append", default=[], metavar="NODE.input=VALUES", help=_SWEEP)
    run.add_argument("--grid", metavar="FILE.png", help="the pictures of a sweep on one sheet, with labelled axes")
    run.add_argument("--dry-run", action="store_true", help="say which nodes would run, and run none")

    generate = add("generate", "draw a prompt with the text_to_image example", computing, storing, backend)
    generate.add_argument("prompt", nargs="?", help="what to draw; read from stdin where that is piped")
    generate.add_argument("--negative", metavar="TEXT", help="what to avoid")
    generate.add_argument("--width", type=int, help="in pixels")
    generate.add_argument("--height", type=int, help="in pixels")
    generate.add_argument("--seed", metavar="N|random", help="the same seed gives the same picture")
    generate.add_argument("--model", help="for every stage that has a checkpoint of that name (default: cocktail)")
    generate.add_argument(
        "--out", metavar="PATTERN", help=f"{_OUT}. Without it, the PNG goes to stdout where that is piped"
    )

    batch = add("batch", "run a workflow for every row of a table; started again, it goes on where it was")
    batch.add_argument("workflow", help=_WORKFLOW)
    batch.add_argument("table", metavar="PROMPTS", help=_TABLE)
    batch.add_argument("--out", metavar="DIR", required=True, help="a folder for the pictures and manifest.parquet")
    batch.add_argument("--name", metavar="PATTERN", default="{id}.png", help=_NAME)
    batch.add_argument(
        "--set", action="append", default=[], metavar="NODE.input=value", dest="settings", help=f"{_SET}; for every row"
    )
    batch.add_argument("--workers", type=_count, metavar="N", help=_WORKERS)
    batch.add_argument("--threads", type=_count, metavar="N", help="for each worker (default: its share of the cores)")
    batch.add_argument("--retry-failed", action="store_true", help="run failed and quarantined rows again")
    batch.add_argument("--engine", choices=["local", "ray"], default="local", help="what runs the workers")
    batch.add_argument("--address", metavar="HOST:PORT", help="of a Ray cluster (default: one of this machine's own)")
    batch.add_argument("--layout", choices=["fused", "staged"], default="fused", help=_LAYOUT)

    validate = add("validate", "say whether a workflow can run, without running it", settings)
    validate.add_argument("workflow", help=_WORKFLOW)
    convert = add("convert", "print a workflow in the API format", settings, backend)
    convert.add_argument("workflow", help=_WORKFLOW)
    slots = add("slots", "list what --set can reach in a workflow", backend)
    slots.add_argument("workflow", nargs="?", help=f"{_WORKFLOW} (default: text_to_image)")
    add("info", "print versions, the device, and which checkpoints are here")
    download = add("download", "fetch a published checkpoint")
    download.add_argument("preset", help="such as v2-interpolated; `wuerstchen info` lists them")
    completion = add("completion", "print what a shell needs to complete this command")
    completion.add_argument("shell", choices=["bash", "zsh", "fish"])
    return parser
