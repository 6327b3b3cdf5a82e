"""Bad arguments of the command: file names, seeds, sweeps, prompts, pipes and servers."""

import json
import os
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from support.workflows import node
from wuerstchen_nodes.headless.report import BACKEND_UNAVAILABLE, BAD_USAGE, FAILED, INVALID_WORKFLOW

LONE = "\udce9"
"""Byte that is no UTF-8, as Python has it in arguments."""
LONG = "n" * 300
VERY_LONG = "n" * 5000
USAGE, WRITE = frozenset({BAD_USAGE}), frozenset({FAILED, BAD_USAGE})


def graph(**changes) -> str:
    """A file with a workflow that loads a picture and saves it."""
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save("in.png")
    document = {
        "1": node("LoadImage", image="in.png"),
        "2": node("SaveImage", images=["1", 0], filename_prefix="x"),
        "3": node("EmptySeed", **changes) if changes else node("PreviewImage", images=["1", 0]),
    }
    Path("w.json").write_text(json.dumps(document))
    return "w.json"


@pytest.mark.parametrize("verb", ["run", "validate", "convert", "slots"])
@pytest.mark.parametrize(
    "name",
    [
        *("", ".", "..", "/", "~", "//", "nul\0l", "a\nb.json", LONE, f"{LONE}.json", LONG, VERY_LONG, "n/" * 3000),
        *(
            "/dev/zero",
            "/dev/stdin",
            "/proc/self/mem",
            "/dev/fd/99",
            "pipe",
            "socket",
            "loop",
            "w.json/x",
            "absent.json",
        ),
        *("text_to_imag", "-", "\u202egnp.json", "\U0001f600.png", "%s", "{}", "*", "con", "file:///etc/passwd"),
    ],
)
def test_a_name_that_is_no_workflow(attack, verb, name):
    os.mkfifo("pipe")
    os.symlink("loop", "loop")
    graph()
    _, error = attack.here(verb, name, codes=USAGE | {INVALID_WORKFLOW})
    assert len(error) < 2000


@pytest.mark.parametrize(
    "out",
    [
        *(
            "",
            LONG,
            VERY_LONG,
            f"{LONG}/x",
            f"{VERY_LONG}.png",
            "d/" * 3000,
            "nul\0l",
            "in.png",
            "in.png/x",
            "/dev/null",
        ),
        *("/dev/full", "/proc/x", "/proc/x.png", "loop", "loop/x.png", "pipe", "pipe/x", "{}.png", "{0}.png"),
        *(".png", "out/.png", " ", "out/.PNG"),
        *("{index", "{index:999999999}.png", "{index:0999999999}.png", "{index!r:>99999999}.png", "{index.real}.png"),
        *("{prefix:>999999999}.png", "{index:{index}}.png", "{node[0]}.png", "{__class__}.png", "a.jpg", "a.webp"),
        *(f"{'{prefix}' * 500}.png", "{index:x<9999999999}.png", "{index:,.99999999f}.png"),
    ],
)
def test_an_output_that_cannot_be_written(attack, out):
    graph()
    os.mkfifo("pipe")
    os.symlink("loop", "loop")
    _, error = attack.here(
        "run", "w.json", "--out", out, "--no-cache", codes=WRITE, may_succeed=out in ("in.png", "{index")
    )
    assert len(error) < 2000


def test_names_that_are_odd_and_right_are_taken(attack, tmp_path):
    graph()
    for out in ("out/{prefix}_{index:05}.png", "\u202e", "\U0001f600/{index}.png", "a b", "%s", LONE, f"{LONE}/x.png"):
        run = attack.alone if LONE in out else attack.here  # its path is printed as its bytes
        code, error = run("run", "w.json", "--out", out, "--no-cache", may_succeed=True)
        assert code == 0, error


@pytest.mark.parametrize("prefix", [LONG, VERY_LONG, "/".join(["d"] * 3000), f"{LONG}/x", "nul\0l", ".", "..", "", "/"])
def test_a_prefix_that_cannot_be_a_name(attack, prefix):
    graph()
    attack.here(
        "run", "w.json", "--set", f"2.filename_prefix={prefix}", "--no-cache", may_succeed=prefix in ("", ".", "..")
    )


@pytest.mark.parametrize(
    "values",
    [
        *(
            "1..1e999",
            "0..99999999999999999999",
            "1..9..0",
            "1..9..0.000000000000001",
            "1..2..-1",
            "inf..2",
            "nan..nan",
        ),
        *("1" * 5000, "0..1..1e-300", "-" * 99, "[", "[[1,2],[3]]", '[{"a":1}]', "[true]", "[null]", "true", "[1e999]"),
        *(
            "[NaN]",
            '["\\ud800"]',
            "[" * 5000,
            '[{"a":1,"a":2}]',
            ",",
            ",,,",
            "1,,2",
            "",
            "[]",
            "1..2..",
            "..",
            "1..",
        ),
        *("9" * 400 + ".." + "9" * 401, "0." * 99, "1.5..2", "[" + "1," * 20000 + "1]", "1..10001", "0x10", "1_0..1_1"),
        *(f"{LONE}", "\0", "1e3", "[1e3]", "[0.5]", "1.0..3.0", "\u0661..\u0663"),
    ],
)
@pytest.mark.parametrize("key", ["Stage C Sampler.steps", "Stage C Sampler.cfg", "Prompt.value"])
def test_a_sweep_of_anything_but_values(attack, key, values):
    text = key.startswith("Prompt")
    may_succeed = text or values in (
        "1.0..3.0",
        "1_0..1_1",
        "\u0661..\u0663",
        "[1e3]",
        "1e3",
        "[0.5]",
        "1.5..2",
        "1..10001",
        "1,,2",
    )
    sweep = f"{key}={values}"
    attack.here("run", "--dry-run", "--sweep", sweep, codes=USAGE | {INVALID_WORKFLOW}, may_succeed=may_succeed)


def test_a_long_text_that_is_no_range_is_refused_at_once(attack):
    for values in ("." * 3000 + "x", "1.." * 1000 + "x", "-" * 3000 + "..", "1..2.." + "3." * 3000):
        start = time.process_time()
        attack.here("run", "--dry-run", "--sweep", f"Stage C Sampler.steps={values}", codes=USAGE)
        assert time.process_time() - start < 2


@pytest.mark.parametrize(
    "sweeps",
    [
        ["Stage C Sampler.steps=1,2", "Stage C Sampler.steps=3"],
        ["Stage C Sampler.steps=1,2", "WuerstchenStageCSampler.steps=3"],
        ["Stage C Sampler.seed=1..200", "Stage C Sampler.steps=1..60"],
        ["=1"],
        [".=1"],
        ["steps"],
        [f"{LONG}.x=1"],
        [f"{LONE}.x=1"],
        ["Stage C Sampler.stage_c=1"],
        ["Stage C Sampler.\0=1"],
    ],
)
def test_sweeps_that_exclude_each_other(attack, sweeps):
    attack.here("run", "--dry-run", *(f"--sweep={each}" for each in sweeps), codes=USAGE)


@pytest.mark.parametrize(
    "setting",
    [
        *("=", "x", ".=1", "Prompt=1", "Prompt.value", f"Prompt.value={LONE}", f"{LONE}.value=1", f"{VERY_LONG}.x=1"),
        *(f"Prompt.{VERY_LONG}=1", "Stage C Sampler.steps=nan", "Stage C Sampler.steps=1e3", "Stage C Sampler.cfg=inf"),
        *(
            "Stage C Sampler.cfg=-inf",
            "Stage C Sampler.cfg=nan",
            f"Stage C Sampler.seed={2**64}",
            "Stage C Sampler.seed=-1",
        ),
        *("Stage C Sampler.width=0", "Stage C Sampler.width=999999999", "Stage C Sampler.batch_size=0"),
        *("Stage C Sampler.batch_size=99999999", "Stage C Sampler.schedule=fast", "Stage C Sampler.stage_c=1"),
        *(f"Stage C Sampler.steps={'9' * 5000}", "Stage C Sampler.steps=\u0663", f"Load Stage C.model={VERY_LONG}"),
        *(
            "Load Stage C.model=",
            "Load Stage C.model=nul\0l",
            f"Load Stage C.model={LONE}",
            "Load Stage C.model=../../x",
        ),
        *("Load Stage C.dtype=int4", "Load Text Encoder.model=cocktail", "Prompt.value.x=1", "Stage C Sampler.steps= "),
    ],
)
def test_a_setting_that_does_not_fit(attack, setting):
    # three Arabic is a whole number to Python, and so to this program
    attack.here("run", "--dry-run", "--set", setting, may_succeed=setting.endswith("\u0663"))


@pytest.mark.parametrize("seed", ["-1", str(2**64), "1e3", "nan", "", " ", "9" * 5000, "0x10", LONE, "true", "randoms"])
@pytest.mark.parametrize("verb", [["run", "--dry-run"], ["generate", "a red heart"], ["validate"], ["vary", "in.png"]])
def test_a_seed_that_is_none(attack, verb, seed):
    graph()
    attack.here(*verb, f"--seed={seed}", codes=USAGE)


def test_the_largest_seed_with_two_seeds_begins_again_at_0(attack):
    code, _ = attack.here("run", "--dry-run", "--seed", 2**64 - 1, may_succeed=True)
    assert code == 0
    document = {"1": node("WuerstchenStageCSampler", seed=1), "2": node("WuerstchenStageCSampler", seed=2)}
    Path("two.json").write_text(json.dumps(document))
    code, _ = attack.here("convert", "two.json", "--seed", 2**64 - 1, may_succeed=True)
    assert code == 0


@pytest.mark.parametrize("negative", [False, True])
def test_half_a_character_in_a_prompt(attack, negative):
    prompt = ["a heart", "--negative", f"a {LONE}"] if negative else [f"a {LONE}"]
    _, error = attack.here("generate", *prompt, "--out", "x.png", codes=USAGE | {INVALID_WORKFLOW})
    assert "half a character" in error


@pytest.mark.parametrize("text", ["a red heart ", "(", "{", "{a|", "/*a", "//", "embedding:x ", "\u00e9", "((a:1.1) "])
def test_a_prompt_that_is_too_long(attack, text):
    _, error = attack.here("generate", text * (60_000 // len(text)), "--out", "x.png", codes=frozenset({FAILED}))
    assert "expected at most 20,000" in error


@pytest.mark.parametrize(
    "stdin",
    [b"\xff\xfe\x00", b"", b"\n\n \n", b"a\xe9\n", b"a" * 70_000_000, b"a\n" * 20_000, b"ab\n" * 22_000_000],
    ids=len,
)
def test_a_pipe_that_holds_no_prompts(attack, stdin):
    attack.alone("generate", "--out", "x.png", stdin=stdin, codes=USAGE | {INVALID_WORKFLOW})


@pytest.mark.parametrize(
    "server",
    [
        *("", "x", "http://", "http://[::1", "http://:80", "ftp://host", "file:///etc/passwd", "http://h:99999", LONE),
        *(
            "http://h:-1",
            "http://a b",
            "http://\0",
            f"http://{LONG}.com",
            "http://[::1]:x",
            f"http://{LONE}",
            "javascript:1",
        ),
        *(
            "http://127.0.0.1:1",
            "https://127.0.0.1:1",
            "http://[::1]:1",
            "http://0.0.0.0:1",
            "http://user:pw@127.0.0.1:1",
        ),
        *(
            "http://127.0.0.1:1/../x",
            "http://127.0.0.1:1?x=1",
            "http://127.0.0.1:1#x",
            "HTTP://127.0.0.1:1",
            "//h",
            VERY_LONG,
        ),
    ],
)
def test_a_server_that_is_none(attack, server):
    attack.here("run", "--server", server, codes=USAGE | {BACKEND_UNAVAILABLE})


@pytest.mark.parametrize(
    "arguments",
    [
        ["generate", "x", "--size", "0x0"],
        ["generate", "x", "--size", "9" * 30 + "x1"],
        ["generate", "x", "--size", "²x²"],
        ["generate", "x", "--size", "1" * 5000 + "x1"],
        ["generate", "x", "--width", "-1"],
        ["generate", "x", "--steps", "9" * 30],
        ["generate", "x", "--cfg", "1e999"],
        ["generate", "x", "--count", "0"],
        ["generate", "x", "--count", "9" * 5000],
        ["generate", "x", "--model", "nope"],
        ["generate", "x", "--model", LONE],
        ["generate", "x", "--model", VERY_LONG],
        ["generate", "x", "--image", "absent.png"],
        ["generate", "x", "--image", "/dev/zero"],
        ["generate", "x", "--image", "pipe"],
        ["generate", "x", "--image", VERY_LONG],
        ["generate", "x", "--image", "nul\0l"],
        ["generate", "x", "--image", "in.png", "--mask", "pipe"],
        ["generate", "x", "--image", "in.png", "--strength", "nan"],
        ["generate", "x", "--image", "in.png", "--strength", "0"],
        ["vary", VERY_LONG],
        ["vary", "pipe"],
        ["vary", "w.json"],
        ["cache", "--cache", "pipe", "--limit", "9" * 400],
        ["cache", "--limit", "²"],
        ["cache", "--clear", "--older-than", "9" * 400 + "d"],
        ["run", "--cache", "w.json"],
        ["run", "--cache", VERY_LONG],
        ["run", "--grid", "x.png"],
        ["run", "--grid", f"{VERY_LONG}.png", "--sweep", "Stage C Sampler.steps=1,2"],
        ["run", "--threads", "9" * 400],
        ["download", "nope"],
        ["download", "v2-base", "--to", "w.json"],
        ["completion", "cmd.exe"],
        ["train", "nope", "--out", "x"],
        ["train", "pipe", "--out", "x"],
        ["train", VERY_LONG, "--out", "x"],
        ["serve", "--idle", "-1"],
        ["serve", "--idle", "99999999999999999d"],
        ["nope"],
        [],
        ["run", "w.json", "more"],
        ["run", f"--{VERY_LONG}"],
        ["run", LONE, f"--{LONE}"],
    ],
    ids=lambda each: " ".join(each)[:40],
)
def test_other_bad_usage(attack, arguments, monkeypatch):
    graph()
    os.mkfifo("pipe")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    # a cache that cannot be used only warns, and the run goes on
    may_succeed = arguments[:2] == ["run", "--cache"] or arguments[0:1] == ["cache"]
    attack.here(*arguments, may_succeed=may_succeed)
