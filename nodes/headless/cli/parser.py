"""Verbs and options of the command `wuerstchen`. Nothing heavy is imported here, so that --help answers at once."""

import argparse

from wuerstchen_core.checkpoints.presets import DEFAULT_SEED, DEFAULT_STEPS, PRESETS

from ..extras import install_command
from . import batch as batch_verb
from . import train as train_verb
from .arguments import Parser, byte_count, count, duration, guidance, share, size, threads

EXIT_CODES = """\
exit codes: 0 done, 1 failed while running, 2 bad usage, 3 invalid workflow, 4 weights missing, 5 batch partly failed,
6 backend unavailable, 130 interrupted"""

_WORKFLOW = "a .json file in the editor's or the API format, a PNG that carries a workflow, or the name of an example"
_SET = (
    "set an input to a value; NODE is an id, a title, a class or a display name (`wuerstchen slots` lists them); may "
    "be given several times"
)
_COMPILE = (
    "run Stages B and C through torch.compile; the first image of each size waits for the compiler, which needs a C++ "
    "compiler on a CPU"
)
DTYPES = ["float32", "bfloat16", "float16", "float8_e4m3fn", "int8"]
"""Choices of --dtype."""
_DTYPE = (
    "precision of every loader that offers it; int8 and float8_e4m3fn take half the memory of bfloat16, int8 is the "
    "fastest on a processor, and images change a little (default: as the workflow says)"
)
_THREADS = "processor threads (default: $OMP_NUM_THREADS, or as many as this process may use)"
_SEED = (
    "seed for every seed input; `random` draws one and prints it; different seeds in a workflow stay different: N, "
    "N+1, ..."
)
_SWEEP = (
    "run once for each value, such as 'Stage C Sampler.seed=1..8' or 'Stage C Sampler.cfg=3,4'; given several times, "
    "every combination is run"
)
_OUT = (
    "a folder (default: output), in which files are numbered; or a pattern ending in .png with {prefix}, {index} (or "
    "{index:05}) and {node}. No file is overwritten: where a name is taken, the next free one is used"
)
_MODEL = "a preset, or a Stage C checkpoint in the model folder (default: cocktail)"
_OUT_OF_SEVERAL = (
    f"{_OUT}; several images of a pattern without {{index}} are called name_1.png, name_2.png and so on. Without "
    "--out, one image goes to stdout where that is piped"
)
_COUNT = "images of each prompt, with the seeds SEED, SEED+1, ... (default: %(default)s)"
_CACHE = "folder of cached results (default: $WUERSTCHEN_CACHE)"
_COMFYUI = f"needs `{install_command('comfyui')}`"

_EXAMPLES = {
    "run": """\
examples:
  wuerstchen run text_to_image --set "Prompt.value=a blue ring on a pink background" --seed 3
  wuerstchen run --sweep "Stage C Sampler.seed=1..4" --sweep "Stage C Sampler.cfg=2,4,6" --grid sheet.png""",
    "generate": """\
examples:
  wuerstchen generate "a yellow star at the left on a purple background" --size 256x384 -n 4 --out star.png
  wuerstchen generate "a blue heart on a white background" --image heart.png
  wuerstchen generate "a blue circle at the right on a white background" --image heart.png --mask right_half.png
  echo "a red heart on a white background" | wuerstchen generate --seed 7 > heart.png""",
    "vary": """\
examples:
  wuerstchen vary heart.png
  wuerstchen vary heart.png -n 8 --strength 0.1 --prompt "a red heart on a white background" --out hearts.png""",
    "validate": """\
example:
  wuerstchen validate shared.json""",
    "convert": """\
example:
  wuerstchen convert shared.json > prompt.json""",
    "slots": """\
example:
  wuerstchen slots stage_reuse""",
    "batch": batch_verb.EXAMPLES,
    "info": """\
example:
  wuerstchen info --json""",
    "cache": """\
examples:
  wuerstchen cache --older 7d
  wuerstchen cache --limit 10GB""",
    "download": """\
example:
  wuerstchen download v2-interpolated""",
    "serve": """\
examples:
  wuerstchen serve --idle 1h &
  wuerstchen serve --stop""",
    "train": train_verb.EXAMPLES,
    "completion": """\
examples:
  wuerstchen completion bash > ~/.local/share/bash-completion/completions/wuerstchen
  wuerstchen completion fish > ~/.config/fish/completions/wuerstchen.fish""",
}


def build_parser() -> Parser:
    """Return the parser of all verbs and options."""
    parser = Parser(
        prog="wuerstchen",
        description="Text to image with Würstchen v2: run workflow files without ComfyUI.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(executor=None)
    parser.add_argument("--version", action="store_true", help="print the version and exit")
    common = Parser(add_help=False)
    printing = common.add_argument_group("output")
    printing.add_argument("--json", action="store_true", help="print one JSON object per line on stdout")
    printing.add_argument("--quiet", action="store_true", help="print only warnings and errors on stderr")
    printing.add_argument("--debug", action="store_true", help="print the traceback of an error")
    inputs = Parser(add_help=False)
    settings = inputs.add_argument_group("inputs")
    settings.add_argument("--set", action="append", default=[], metavar="NODE.input=value", dest="settings", help=_SET)
    settings.add_argument("--seed", metavar="N|random", help=_SEED)
    speed = Parser(add_help=False)
    computing = speed.add_argument_group("speed")
    computing.add_argument("--compile", action="store_true", help=_COMPILE)
    computing.add_argument("--dtype", choices=DTYPES, help=_DTYPE)
    computing.add_argument("--threads", type=threads, metavar="N", help=_THREADS)
    computing.add_argument("--cache", metavar="DIR", help=_CACHE)
    computing.add_argument("--no-server", action="store_true", help="do not use the server that `serve` has started")
    computing.add_argument("--no-cache", action="store_true", help="neither read nor write cached results")
    backend = Parser(add_help=False)
    servers = backend.add_argument_group("backend")
    servers.add_argument(
        "--backend", choices=["embedded", "comfyui"], help=f"run here, or on a ComfyUI server ({_COMFYUI})"
    )
    servers.add_argument("--server", metavar="URL", help="ComfyUI server to run on (default: http://127.0.0.1:8188)")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", parser_class=Parser)

    def add(name: str, arguments: str, summary: str, *parents: Parser) -> Parser:
        return verbs.add_parser(
            name,
            usage=f"wuerstchen {name} {arguments}".strip() + " [options]",
            help=summary,
            description=summary,
            parents=[*parents, common],
            epilog=f"{EXIT_CODES}\n\n{_EXAMPLES[name]}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )

    run = add("run", "[WORKFLOW]", "run a workflow and print the path of each image it saves", inputs, speed, backend)
    run.add_argument("workflow", metavar="WORKFLOW", nargs="?", help=f"{_WORKFLOW} (default: text_to_image)")
    run.add_argument("--out", metavar="PATTERN", help=_OUT)
    run.add_argument("--sweep", action="append", default=[], metavar="NODE.input=VALUES", help=_SWEEP)
    run.add_argument("--grid", metavar="FILE.png", help="also put the images of a sweep on one sheet")
    run.add_argument("--dry-run", action="store_true", help="list the nodes that would run, and missing weights")

    generate = add("generate", "[PROMPT]", "draw images of a text prompt", speed, backend)
    generate.add_argument(
        "prompt", metavar="PROMPT", nargs="?", help="text prompt; read from stdin, one per line, where that is piped"
    )
    generate.add_argument("--negative", metavar="TEXT", help="text prompt of what to avoid")
    generate.add_argument("--image", metavar="FILE", help="picture to redraw after the prompt; the result has its size")
    generate.add_argument(
        "--strength",
        type=share,
        metavar="X",
        help="how much of --image changes, above 0 to 1 (default: what suits the model; with --mask 1)",
    )
    generate.add_argument(
        "--mask",
        metavar="FILE",
        help="picture of the size of --image: white is drawn anew, black keeps its pixels",
    )
    generate.add_argument("--size", type=size, metavar="WxH", help="size in pixels, such as 512x768")
    generate.add_argument("--width", type=count, metavar="N", help="width in pixels (default: the model's own)")
    generate.add_argument("--height", type=count, metavar="N", help="height in pixels, like --width")
    generate.add_argument(
        "--steps", type=count, metavar="N", default=DEFAULT_STEPS, help="steps of Stage C (default: %(default)s)"
    )
    generate.add_argument(
        "--cfg",
        type=guidance,
        metavar="X",
        help="guidance of Stage C; 1 or less is none (default: the one that suits the model)",
    )
    generate.add_argument(
        "--seed",
        metavar="N|random",
        default=str(DEFAULT_SEED),
        help="the same seed gives the same image; `random` draws one and prints it (default: %(default)s)",
    )
    generate.add_argument("-n", "--count", type=count, metavar="N", default=1, help=_COUNT)
    generate.add_argument("--model", metavar="NAME", help=_MODEL)
    generate.add_argument("--out", metavar="PATTERN", help=_OUT_OF_SEVERAL)

    vary = add("vary", "IMAGE", "draw variations of a picture", speed, backend)
    vary.add_argument("image", metavar="IMAGE", help="the picture; the variations have its size")
    vary.add_argument("-n", "--count", type=count, metavar="N", default=4, help="variations (default: %(default)s)")
    vary.add_argument(
        "--strength", type=share, metavar="X", help="how much they differ, above 0 to 1 (default: what suits the model)"
    )
    vary.add_argument("--prompt", metavar="TEXT", help="what the picture shows, which the variations then keep to")
    vary.add_argument(
        "--steps", type=count, metavar="N", default=DEFAULT_STEPS, help="steps of Stage C (default: %(default)s)"
    )
    vary.add_argument(
        "--seed",
        metavar="N|random",
        default=str(DEFAULT_SEED),
        help="seed of the first variation; the others follow (default: %(default)s)",
    )
    vary.add_argument("--model", metavar="NAME", help=_MODEL)
    vary.add_argument("--out", metavar="PATTERN", help=_OUT_OF_SEVERAL)

    batch = add(
        "batch",
        "WORKFLOW PROMPTS --out DIR",
        "run a workflow for every row of a table; the same command continues an interrupted batch",
    )
    batch_verb.add_options(batch, _WORKFLOW, _SET)

    validate = add("validate", "WORKFLOW", "check whether a workflow can run, and list missing weights", inputs)
    validate.add_argument("workflow", metavar="WORKFLOW", help=_WORKFLOW)
    convert = add("convert", "WORKFLOW", "print a workflow in the API format", inputs, backend)
    convert.add_argument("workflow", metavar="WORKFLOW", help=_WORKFLOW)
    slots = add("slots", "[WORKFLOW]", "list the inputs of a workflow that --set can change", backend)
    slots.add_argument("workflow", metavar="WORKFLOW", nargs="?", help=f"{_WORKFLOW} (default: text_to_image)")
    add("info", "", "print versions, the device, the cache and the models on this machine")
    cache = add("cache", "", "list the results that are kept on disk, or drop them")
    cache.add_argument("--clear", action="store_true", help="drop all of them")
    cache.add_argument("--older", type=duration, metavar="TIME", help="drop those that are older, such as 7d or 12h")
    cache.add_argument(
        "--limit",
        type=byte_count,
        metavar="SIZE",
        help="let them take that much at most, such as 5GB; it is remembered",
    )
    cache.add_argument("--cache", metavar="DIR", help=_CACHE)
    download = add("download", "PRESET", "download a published checkpoint")
    download.add_argument("--to", metavar="FOLDER", help="model folder; $WUERSTCHEN_MODELS or the cache otherwise")
    download.add_argument("preset", metavar="PRESET", choices=list(PRESETS), help=f"one of {', '.join(PRESETS)}")
    serve = add("serve", "", "keep models in memory, so that run, generate and vary in other shells start at once")
    serve.add_argument(
        "--idle",
        type=duration,
        metavar="TIME",
        default="15m",
        help="end after so long without a command (default: 15m)",
    )
    serve.add_argument("--stop", action="store_true", help="end the server that is running")
    train = add("train", "lora|stage-c --pictures FOLDER --out DIR", "finetune Stage C on captioned pictures")
    train_verb.add_options(train)
    completion = add("completion", "SHELL", "print a script that completes this command in a shell")
    completion.add_argument("shell", metavar="SHELL", choices=["bash", "zsh", "fish"], help="bash, zsh or fish")
    return parser
