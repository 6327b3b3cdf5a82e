import pytest

from support.workflows import node, toys
from wuerstchen_nodes.headless.cli.sweep import axes, label, points
from wuerstchen_nodes.headless.errors import UsageError

PROMPT = {
    "1": node("Number", value=4),
    "2": node("Seeded", "Painter", source=["1", 0], seed=1, mode="fast", strength=1.0, text="", on=True),
}


def values(text: str) -> list:
    (axis,) = axes(PROMPT, toys(), [text])
    return axis.values


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Painter.seed=1..4", [1, 2, 3, 4]),
        ("Painter.seed=4..1", [4, 3, 2, 1]),
        ("Painter.seed=7", [7]),
        ("Painter.seed=1,5..6, 9", [1, 5, 6, 9]),
        ("Painter.seed=0..10..5", [0, 5, 10]),
        ("Number.value=-2..0", [-2, -1, 0]),
        ("Painter.strength=0..1..0.1", [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]),
        ("Painter.strength=1,1.5", [1.0, 1.5]),
        ("Painter.mode=fast,slow", ["fast", "slow"]),
        ("Painter.on=yes,no", [True, False]),
        ("Painter.text=a red ring,1..3", ["a red ring", "1..3"]),
        ('Painter.text=["a, b", "c = d"]', ["a, b", "c = d"]),
        ("Painter.text=a = b", ["a = b"]),
    ],
)
def test_values_are_of_the_inputs_type(text, expected):
    found = values(text)
    assert found == expected
    assert [type(each) for each in found] == [type(each) for each in expected]


@pytest.mark.parametrize(
    ("texts", "says"),
    [
        (["Painter.seed"], "expected NODE.input=VALUES"),
        (["Painter.seed="], "expected NODE.input=VALUES"),
        (["Painter.seed=a..b"], "expected a whole number"),
        (["Painter.seed=1..2.5"], "is no range of INT"),
        (["Painter.seed=1..2..0"], "expected one above 0"),
        (["Painter.seed=1..1000000000000"], "expected at most 10000"),
        (["Painter.strength=0..1..0.0000000001"], "expected at most 10000"),
        (["Painter.seed=1..200", "Painter.strength=0..1..0.01"], "more than 10000"),
        (["Painter.seed=1,2", "Painter.seed=3"], "twice"),
        (["Painter.source=1"], "--sweep Painter.source: source of node 2"),
        (["Paintr.seed=1"], "--sweep: the workflow has no node 'Paintr'. Did you mean 'Painter'"),
        (['Painter.text=["a'], "no JSON list"),
        (["Painter.text=[]"], "has no values"),
    ],
)
def test_what_makes_no_sense_is_said(texts, says):
    with pytest.raises(UsageError) as caught:
        axes(PROMPT, toys(), texts)
    assert says in str(caught.value)


def test_every_combination_is_a_point_and_the_last_axis_is_the_fastest():
    found = points(axes(PROMPT, toys(), ["Painter.seed=1,2", "2.strength=0.5,1.5"]))
    assert [label(each) for each in found] == [
        "seed=1, strength=0.5",
        "seed=1, strength=1.5",
        "seed=2, strength=0.5",
        "seed=2, strength=1.5",
    ]
    assert found[0] == {"Painter.seed": 1, "2.strength": 0.5}
    assert points([]) == [{}]
