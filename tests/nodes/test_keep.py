"""Keep on Disk and its thumbnails, without ComfyUI."""

import base64
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

import pytest
import torch
from PIL import Image

from support.hosts import FakeHost
from wuerstchen_nodes.keep import SHOWN, KeepOnDisk
from wuerstchen_nodes.thumbnails import LONGEST_SIDE, models_before, thumbnail

HIDDEN = {"prompt": [{}], "unique_id": ["7"]}


@dataclass
class Place:
    """A place on disk that is none."""

    refused: str = ""
    values: list[Any] | None = None
    writes: list[bool] = field(default_factory=list)
    works: bool = True

    def read(self) -> list[Any] | None:
        return self.values

    def write(self, values: list[Any], *, replaces: bool) -> bool:
        self.writes.append(replaces)
        self.values = values if self.works else None
        return self.works

    def facts(self, values: list[Any]) -> dict[str, Any]:
        return {"bytes": len(values)}


@pytest.fixture
def place(fake_host: FakeHost) -> Place:
    fake_host.place = Place()
    return fake_host.place


def kept(value: Any, mode: str = "use") -> tuple[dict[str, Any], Any]:
    """Run the node as an executor does; what it shows, and its result. A value of None is one that must not run."""
    node = KeepOnDisk()
    asked = node.check_lazy_status(mode=[mode], value=[None], **HIDDEN)
    assert (asked == []) == (value is None)
    made = node.keep(value=[None] if value is None else [value], mode=[mode], **HIDDEN)
    (shown,) = made["ui"][SHOWN]
    return shown, made["result"][0]


def test_a_value_is_kept_and_the_next_time_nothing_before_it_is_asked_for(place: Place):
    assert kept("latent") == ({"state": "kept", "bytes": 1}, ["latent"])
    assert kept(None) == ({"state": "hit", "bytes": 1}, ["latent"])
    assert place.writes == [False]


def test_renew_writes_over_what_is_there_and_off_does_nothing(place: Place):
    place.values = ["old"]
    assert kept("new", "renew")[1] == ["new"] and place.writes == [True]
    assert kept("other", "off") == ({"state": "off"}, ["other"])
    assert place.values == ["new"] and place.writes == [True]


def test_a_value_that_cannot_be_kept_passes_through_and_the_node_says_why(place: Place, fake_host: FakeHost):
    place.refused = "it is made by a stranger"
    assert kept("value") == ({"state": "refused", "reason": "it is made by a stranger"}, ["value"])
    assert fake_host.notices == ["Not kept: it is made by a stranger."] and place.writes == []
    place.refused, place.works = "", False
    assert kept("value")[0]["state"] == "refused"
    place.works = True
    kept("value")
    assert fake_host.notices[-1] == ""  # what it said before is taken away


def test_a_host_that_keeps_results_by_itself_gets_the_value_alone(fake_host: FakeHost):
    assert KeepOnDisk().check_lazy_status(mode=["use"], **HIDDEN) == ["value"]
    assert KeepOnDisk().keep(value=["latent"], mode=["use"], **HIDDEN) == (["latent"],)


def picture(url: str | None) -> Image.Image:
    assert url is not None and url.startswith("data:image/png;base64,")
    return Image.open(BytesIO(base64.b64decode(url.partition(",")[2])))


@pytest.mark.usefixtures("fake_host")
def test_thumbnails_of_every_kind_of_value():
    image = torch.zeros(2, 64, 32, 3)
    image[..., 0] = 1
    shown = picture(thumbnail(image, {}))
    assert shown.size == (LONGEST_SIDE // 2, LONGEST_SIDE) and shown.getpixel((20, 20)) == (255, 0, 0)
    assert picture(thumbnail(torch.full((1, 8, 8), 0.5), {})).getpixel((9, 9)) == (128, 128, 128)
    for channels in (16, 4, 9):
        latent = {"samples": torch.randn(1, channels, 6, 3, generator=torch.Generator().manual_seed(0))}
        assert picture(thumbnail(latent, {"C": "nowhere", "B": "cocktail"})).size == (64, 128)
    assert picture(thumbnail({"samples": torch.full((1, 4, 3, 3), float("nan"))}, {})).size == (128, 128)
    for other in ([["conditioning", {}]], "text", torch.zeros(0, 4, 4), {"samples": torch.zeros(0, 4, 3, 3)}, None):
        assert thumbnail(other, {}) is None


@pytest.mark.usefixtures("fake_host")
def test_a_latent_of_stage_c_is_shown_in_the_colours_of_its_checkpoint():
    latent = {"samples": 16 * torch.randn(1, 16, 6, 6)}
    shown = {name: thumbnail(latent, {"C": name}) for name in ("cocktail", "nowhere")}
    assert len(set(shown.values())) == 2


def test_the_models_before_a_node_are_those_of_its_loaders():
    prompt = {
        "1": {"class_type": "WuerstchenLoadStageC", "inputs": {"model": "cocktail"}},
        "2": {"class_type": "WuerstchenLoadStageB", "inputs": {"model": ["5", 0]}},
        "3": {"class_type": "WuerstchenLoadStageC", "inputs": {"model": "other"}},
    }
    assert models_before(prompt, {"1", "2"}) == {"C": "cocktail"}
