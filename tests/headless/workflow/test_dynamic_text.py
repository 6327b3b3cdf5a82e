from datetime import datetime

import pytest

from wuerstchen_core.text.prompts import resolve_choices
from wuerstchen_nodes.headless.workflow.dynamic_text import fill_file_name


def first(options):
    return options[0]


def last(options):
    return options[-1]


@pytest.mark.parametrize(
    ("text", "from_first", "from_last"),
    [
        ("plain", "plain", "plain"),
        ("a {red|blue} heart", "a red heart", "a blue heart"),
        ("{a|b}{c|d}", "ac", "bd"),
        ("{one {big|small}|two} x", "one big x", "two x"),
        ("{|maybe} yes", " yes", "maybe yes"),
        ("{only}", "only", "only"),
        (r"\{kept\|as is\} \n", r"{kept|as is} \n", r"{kept|as is} \n"),
        ("a // remark {x|y}\nb /* more\nlines */ c", "a \nb  c", "a \nb  c"),
        ("never closed {a|b", "never closed a", "never closed b"),
        ("never opened a|b}", "never opened a|b}", "never opened a|b}"),
        ("ends in \\", "ends in \\", "ends in \\"),
    ],
)
def test_one_of_the_choices_is_resolve_choices(text, from_first, from_last):
    assert resolve_choices(text, first) == from_first
    assert resolve_choices(text, last) == from_last


def test_every_choice_comes_up():
    assert {resolve_choices("{a|b|c}") for _ in range(200)} == {"a", "b", "c"}


def test_deep_nesting_ends():
    assert resolve_choices("{" * 200_000 + "x" + "}" * 200_000, first).strip("{}") == "x"


VALUES = {("Sampler", "seed"): 42, ("Sampler", "cfg"): 3.0, ("Sampler", "on"): True, ("Prompt", "text"): 'a/b: "c"'}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("%Sampler.seed%/x", "42/x"),
        ("%Sampler.cfg%_%Sampler.on%", "3_true"),
        ("%Prompt.text%", "a_b_ _c_"),
        ("%nobody.seed% %width% %a.b.c% 100%", "%nobody.seed% %width% %a.b.c% 100%"),
        ("%date:yyyy-MM-dd hh.mm.ss%", "2031-04-05 06"),
        ("%date:yyyy-MM-dd_hh-mm-ss%", "2031-04-05_06-07-08"),
        ("%date:yy d M%", "31 5 4"),
    ],
)
def test_fields_and_dates_are_filled_in(text, expected):
    assert fill_file_name(text, lambda *key: VALUES.get(key), datetime(2031, 4, 5, 6, 7, 8)) == expected
