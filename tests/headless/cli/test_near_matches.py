"""Misspelled words: the message names the word that was probably meant."""

import argparse
from pathlib import Path

import pytest

from wuerstchen_core.checkpoints.presets import PRESETS
from wuerstchen_nodes.headless.cli.arguments import guidance, size, whole_number
from wuerstchen_nodes.headless.cli.parser import build_parser


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["genrate", "x"], "there is no verb 'genrate'; expected one of run, generate,"),
        (["genrate", "x"], "Did you mean 'generate'?"),
        (["frobnicate"], "there is no verb 'frobnicate'; expected one of run, generate, vary, batch,"),
        (["run", "text_to_imge"], "text_to_imge does not exist"),
        (["run", "text_to_imge"], "Did you mean 'text_to_image' or 'image_to_image'?"),
        (["validate", "folder/txt_to_image.json"], "Did you mean 'text_to_image.json'?"),
        (["slots", "absent/text_to_image.json"], "Did you mean 'text_to_image' or 'image_to_image'?"),
        (["convert", "absent.json"], "absent.json cannot be opened"),
        (["run", "--set", "Stage C Samplr.seed=1"], "Did you mean 'Stage C Sampler'"),
        (["run", "--set", "Stage C Sampler.sede=1"], "did you mean seed"),
        (["run", "--swep", "x"], "there is no option --swep. Did you mean --sweep?"),
        (["run", "--nonsense=3"], "there is no option --nonsense. See `wuerstchen run --help`."),
        (["download", "v2-interpolatd"], "Did you mean 'v2-interpolated'"),
        (["download", "v3"], "expected one of cocktail, cocktail-base,"),
        (["generate", "x", "--model", "v2-bse"], "Did you mean 'v2-base'"),
        (["run", "--backend", "comfy"], "expected one of embedded, comfyui, got comfy. Did you mean 'comfyui'?"),
        (["completion", "bsh"], "Did you mean 'bash'"),
    ],
)
def test_a_misspelled_word_is_answered_with_the_near_one(wuerstchen, arguments, says):
    Path("folder").mkdir()
    Path("folder/text_to_image.json").touch()
    outcome = wuerstchen(*arguments)
    assert (outcome.code, outcome.out) == (2, "")
    assert says in outcome.err
    assert len(outcome.err.splitlines()) == 1
    assert not outcome.err.rstrip().endswith(("?.", ".."))


@pytest.mark.parametrize(
    ("read", "text", "expected"),
    [
        (whole_number(1), "12", 12),
        (whole_number(0), "0", 0),
        (guidance, "0", 0.0),
        (guidance, "4.5", 4.5),
        (size, "512x768", (512, 768)),
        (size, "512X768", (512, 768)),
    ],
)
def test_values_are_read(read, text, expected):
    assert read(text) == expected


@pytest.mark.parametrize(
    ("read", "text", "says"),
    [
        (whole_number(1), "0", "expected a whole number of at least 1, got 0"),
        (whole_number(0), "-1", "expected a whole number of at least 0, got -1"),
        (whole_number(1), "", "got ''"),
        (guidance, "-0.5", "expected a number of at least 0, got -0.5"),
        (guidance, "inf", "got inf"),
        (size, "512", "expected WIDTHxHEIGHT in pixels, such as 512x768, got 512"),
        (size, "x512", "got x512"),
        (size, "-5x512", "got -5x512"),
        (size, "5.5x512", "got 5.5x512"),
    ],
)
def test_bad_values_say_what_was_expected(read, text, says):
    with pytest.raises(argparse.ArgumentTypeError, match=says):
        read(text)


def test_no_message_names_a_function(wuerstchen):
    """argparse would call a type function by its name: "invalid _count value"."""
    parser = build_parser()
    for verb, its in parser.verbs().items():
        required = ["x"] * sum(not action.option_strings and action.nargs is None for action in its._actions)
        chosen = {"download": list(PRESETS)[:1], "completion": ["bash"], "train": ["lora"]}
        required = chosen.get(verb, required)
        for name, action in its.options().items():
            if action.type is None:
                continue
            outcome = wuerstchen(verb, *required, name, "abc")
            assert f"{name}" in outcome.err and ": expected " in outcome.err, outcome.err


def test_the_extra_that_an_option_needs_is_named_in_help_and_in_the_error(wuerstchen, monkeypatch):
    for verb in ("run", "generate", "convert", "slots"):
        assert "`pip install -e '.[comfyui]'`" in " ".join(wuerstchen(verb, "--help").out.split())
    assert "`pip install -e '.[ray]'`" in " ".join(wuerstchen("batch", "--help").out.split())
    monkeypatch.setattr("wuerstchen_nodes.headless.extras.find_spec", lambda module: None)
    outcome = wuerstchen("run", "--backend", "comfyui")
    assert outcome.code == 2
    assert "needs httpx, which is not installed" in outcome.err and "`pip install -e '.[comfyui]'`" in outcome.err


def test_every_page_of_help_ends_with_examples(wuerstchen):
    for verb in build_parser().verbs():
        page = wuerstchen(verb, "--help")
        assert page.code == 0
        *_, examples = page.out.partition("\nexample")
        lines = examples.splitlines()[1:]
        assert lines and all(line.startswith("  ") and f"wuerstchen {verb}" in line for line in lines)
