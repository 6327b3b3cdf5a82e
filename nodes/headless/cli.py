"""The command `wuerstchen`: what may be typed, and the exit code of what came of it.

Nothing heavy is imported here, so that --help answers at once; `verbs` does the work.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

EXIT_CODES = """\
exit codes: 0 done, 1 failed while running, 2 bad usage, 3 invalid workflow, 4 weights missing, 130 interrupted"""

_WORKFLOW = "a .json in the editor's or the API format, or a PNG that carries one; or the name of a bundled example"
_SET = (
    "set an input, and unplug what fed it; NODE is an id, a title, a class or a display name "
    "(`wuerstchen slots` lists them); may be given several times"
)
_SEED = (
    "every seed of the workflow; `random` draws one and says which. Where the workflow has several different seeds "
    "they stay different: the first becomes N, the next N+1, ..."
)
_OUT = (
    "a folder (default: output), whose files are numbered; or a pattern ending in .png with {prefix}, {index} (or "
    "{index:05}) and {node}. A name that is taken is never overwritten: the next free one is used, name_2.png where "
    "the pattern has no {index}"
)


class _Parser(argparse.ArgumentParser):
    """Ends bad usage with one line that says what to do, and the code 2."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"wuerstchen: error: {message}. See `{self.prog} --help`.\n")


def build_parser() -> argparse.ArgumentParser:
    """All verbs and options."""
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
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", parser_class=_Parser)

    def add(name: str, summary: str, *parents: _Parser) -> argparse.ArgumentParser:
        return verbs.add_parser(name, help=summary, description=summary, parents=[*parents, common], epilog=EXIT_CODES)

    run = add("run", "run a workflow and print the path of each PNG it saves", settings)
    run.add_argument("workflow", nargs="?", help=f"{_WORKFLOW} (default: text_to_image)")
    run.add_argument("--out", metavar="PATTERN", help=_OUT)

    generate = add("generate", "draw a prompt with the text_to_image example")
    generate.add_argument("prompt", nargs="?", help="what to draw; read from stdin where that is piped")
    generate.add_argument("--negative", metavar="TEXT", help="what to avoid")
    generate.add_argument("--width", type=int, help="in pixels")
    generate.add_argument("--height", type=int, help="in pixels")
    generate.add_argument("--seed", metavar="N|random", help="the same seed gives the same picture")
    generate.add_argument("--model", help="for every stage that has a checkpoint of that name (default: cocktail)")
    generate.add_argument(
        "--out", metavar="PATTERN", help=f"{_OUT}. Without it, the PNG goes to stdout where that is piped"
    )

    validate = add("validate", "say whether a workflow can run, without running it", settings)
    validate.add_argument("workflow", help=_WORKFLOW)
    convert = add("convert", "print a workflow in the API format", settings)
    convert.add_argument("workflow", help=_WORKFLOW)
    slots = add("slots", "list what --set can reach in a workflow")
    slots.add_argument("workflow", nargs="?", help=f"{_WORKFLOW} (default: text_to_image)")
    add("info", "print versions, the device, and which checkpoints are here")
    download = add("download", "fetch a published checkpoint")
    download.add_argument("preset", help="such as v2-interpolated; `wuerstchen info` lists them")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the exit code."""
    parser = build_parser()
    options = parser.parse_args(argv)
    if options.version:
        from importlib.metadata import version

        print(version("comfyui-wuerstchen"))
        return 0
    if options.verb is None:
        parser.error("what to do is missing; expected a verb such as run or generate")
    from .report import Report

    with Report(as_json=options.json, quiet=options.quiet, debug=options.debug) as report:
        try:
            from . import verbs

            return verbs.VERBS[options.verb](options, report)
        except BrokenPipeError:  # whoever read our output has gone
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        except KeyboardInterrupt:
            return report.interrupted()
        except Exception as error:  # the last resort: one line instead of a traceback
            return report.failed(error)


if __name__ == "__main__":
    sys.exit(main())
