"""`wuerstchen cache`: what it lists, drops and limits."""

import os
import time

import pytest
import torch

from wuerstchen_nodes.headless.execution.calls import Outputs
from wuerstchen_nodes.headless.execution.disk_cache import DiskCache


@pytest.fixture
def cache(tmp_path, monkeypatch) -> DiskCache:
    monkeypatch.setenv("WUERSTCHEN_CACHE", str(tmp_path / "c"))
    found, now = DiskCache(), time.time()
    about = {"node": "Stage C Sampler", "type": "LATENT", "text": "a red star", "workflow": "w.json"}
    for key, days in (("a" * 64, 0), ("b" * 64, 3), ("c" * 64, 10)):
        with pytest.MonkeyPatch.context() as clock:
            clock.setattr(time, "time", lambda days=days: now - days * 86400)
            found.put(key, Outputs([[torch.zeros(500)]]), about)
    return found


def test_it_lists_what_is_there_the_newest_first(cache, wuerstchen):
    outcome = wuerstchen("cache")
    assert outcome.code == 0
    newest, middle, oldest, total = outcome.lines
    assert newest.split("  ")[-1] == "Stage C Sampler (LATENT) of 'a red star', from w.json"
    assert "just now" in newest and "3 days ago" in middle and "10 days ago" in oldest
    assert total.startswith("3 results, ") and str(cache.folder) in total
    results = wuerstchen("cache", "--json").events("result")
    assert [each["key"][0] for each in results] == ["a", "b", "c"]
    assert results[0]["text"] == "a red star" and results[0]["bytes"] > 2000


def test_old_ones_and_all_of_them_are_dropped(cache, wuerstchen):
    assert wuerstchen("cache", "--older", "7d").lines[0] == "Dropped 1 result"
    assert [entry.key[0] for entry in cache.entries()] == ["a", "b"]
    (cache.folder / "damaged.safetensors").write_bytes(b"cut")
    outcome = wuerstchen("cache", "--clear", "--json")
    assert outcome.events("dropped")[0]["results"] == 3
    assert list(cache.folder.glob("*.safetensors")) == []


def test_weights_in_int8_are_listed_and_cleared(cache, wuerstchen):
    (cache.folder / "int8").mkdir()
    (cache.folder / "int8" / "C-1-2.safetensors").write_bytes(b"x" * 2000)
    assert wuerstchen("cache").lines[-2] == "1 network rounded to int8, 2.0 kB"
    assert wuerstchen("cache", "--json").events("int8") == [{"event": "int8", "networks": 1, "bytes": 2000}]
    assert wuerstchen("cache", "--clear").lines[-1].startswith("0 results")
    assert not (cache.folder / "int8").exists()


def test_a_limit_is_remembered_and_drops_what_is_beyond_it(cache, wuerstchen):
    for index, key in enumerate("abc"):
        os.utime(cache.folder / f"{key * 64}.safetensors", (index, index))
    outcome = wuerstchen("cache", "--limit", "5 kB")
    assert outcome.lines[-1].startswith("2 results, ") and "of at most 5.0 kB" in outcome.lines[-1]
    assert {entry.key[0] for entry in cache.entries()} == {"b", "c"}
    assert DiskCache().max_bytes == 5000
    assert wuerstchen("info", "--json").events("cache")[0]["limit"] == 5000


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--older", "soon"], "7d, 12h, 30m"),
        (["--limit", "much"], "500MB or 5GB"),
        (["--clear", "--older", "1d"], "give one of them"),
    ],
)
def test_bad_usage_says_what_is_expected(wuerstchen, arguments, says):
    outcome = wuerstchen("cache", *arguments)
    assert outcome.code == 2 and says in outcome.err


def test_an_empty_cache_is_no_error(wuerstchen, tmp_path):
    outcome = wuerstchen("cache", "--cache", tmp_path / "none")
    assert outcome.code == 0 and outcome.lines[0].startswith("0 results, 0 bytes of at most 2.1 GB")
