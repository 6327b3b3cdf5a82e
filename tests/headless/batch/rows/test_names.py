"""Names of the images of a batch."""

import pytest

from wuerstchen_nodes.headless.batch.rows.names import NamePattern, numbered
from wuerstchen_nodes.headless.errors import UsageError

COLUMNS = ["seed", "Prompt.value"]


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("{id}.png", "cats/a.png"),
        ("{index:05}_{seed}.png", "00003_7.png"),
        ("p/{Prompt.value}.png", "p/a b_ _etc_ x.png"),
        ("{{{index}}}.png", "{3}.png"),
    ],
)
def test_a_pattern_is_filled(pattern, name):
    cells = {"seed": 7, "Prompt.value": "a b? /etc/ x. "}
    assert NamePattern(pattern, COLUMNS).name_of("cats/a", 3, cells) == name


def test_a_long_text_is_cut():
    assert NamePattern("{Prompt.value}.png", COLUMNS).name_of("x", 1, {"Prompt.value": "w" * 500}) == "w" * 80 + ".png"


@pytest.mark.parametrize(
    "row_id", ["../x", "/etc/x", "a/../../x", "..", ".hidden", "a//b", "a\\b", "a\0b", "a\nb", "", "x" * 300]
)
def test_an_id_that_is_no_file_name_or_leads_out_is_refused(row_id):
    with pytest.raises(UsageError, match=r"the name of its image would be .* Change its id"):
        NamePattern("{id}.png", COLUMNS).name_of(row_id, 1, {})


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("{sed}.png", r"the field \{sed\}; expected some of \{id\}, \{index\}, \{seed\}, \{Prompt.value\}"),
        ("{id!r}.png", r"the field \{id\}"),
        ("{id", "expected '}'"),
        ("{id}.jpg", r"ending in .png"),
    ],
)
def test_a_bad_pattern_is_refused(pattern, says):
    with pytest.raises(UsageError, match=says):
        NamePattern(pattern, COLUMNS)


def test_a_format_of_another_field_is_refused():
    with pytest.raises(UsageError, match=r"expected one of \{index\} only"):
        NamePattern("{id:05d}.png", COLUMNS).name_of("x", 1, {})


def test_further_files_of_a_row_are_numbered_by_suffix():
    names = ["p/a.png", "p/a_2.png", "p/a.latent", "p/a_3.png"]
    assert numbered("p/a.png", [".png", ".png", ".latent", ".png"]) == names
