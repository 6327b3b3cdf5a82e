"""`wuerstchen info`: sizes and dtypes of models on disk, and the cache."""

import json

import torch
from safetensors.torch import save_file

from wuerstchen_core.checkpoints.presets import PRESETS
from wuerstchen_core.checkpoints.sources import presence
from wuerstchen_nodes.headless.report import size_text


def test_info_says_what_is_here_and_what_is_missing(tiny, wuerstchen, tmp_path):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "x.safetensors").write_bytes(b"0" * 1500)
    outcome = wuerstchen("info", "--json")
    kinds = [json.loads(line)["event"] for line in outcome.lines]
    assert kinds[:4] == ["versions", "device", "cache", "models"]
    assert torch.__version__.startswith(outcome.events("versions")[0]["torch"])  # which lacks the +cu132 of a build
    assert outcome.events("device")[0]["device"]
    (cache,) = outcome.events("cache")
    assert (cache["folder"], cache["bytes"], cache["limit"]) == (str(tmp_path / "cache"), 1500, 2**31)
    presets = {each["preset"]: each for each in outcome.events("preset")}
    assert list(presets) == list(PRESETS)
    assert "warp-ai/wuerstchen/decoder" in presets["v2-interpolated"]["missing"]
    assert (presets["v2-base"]["bytes"], presets["v2-base"]["dtype"]) == (0, None)
    here = presets["cocktail"]
    assert here["missing"] == []
    assert here["bytes"] == sum(
        {path: path.stat().st_size for part in presence("cocktail") for path in part.files}.values()
    )
    assert here["dtype"] in ("float16", "bfloat16", "float32")


def test_info_describes_the_models_of_the_model_folder(wuerstchen, tmp_path):
    folder = tmp_path / "models"
    folder.mkdir()
    save_file({"a": torch.zeros(500, dtype=torch.bfloat16), "b": torch.zeros(3)}, folder / "half.safetensors")
    (folder / "damaged.pt").write_bytes(b"no weights")
    outcome = wuerstchen("info", "--json")
    models = {each["model"]: each for each in outcome.events("model")}
    size = (folder / "half.safetensors").stat().st_size
    assert (models["half.safetensors"]["bytes"], models["half.safetensors"]["dtype"]) == (size, "bfloat16")
    assert (models["damaged.pt"]["bytes"], models["damaged.pt"]["dtype"]) == (10, None)
    lines = wuerstchen("info").lines
    assert f"half.safetensors: {size_text(size)}, bfloat16" in lines
    assert "damaged.pt: 10 bytes, unknown dtype" in lines
    assert f"cache: {tmp_path / 'cache'}, 0 bytes of at most 2.1 GB" in lines


def test_sizes_are_for_people():
    sizes = (0, 999, 1000, 15_300, 4_000_000, 13_500_000, 4_000_000_000, 2e12)
    assert [size_text(size) for size in sizes] == [
        "0 bytes",
        "999 bytes",
        "1.0 kB",
        "15 kB",
        "4.0 MB",
        "14 MB",
        "4.0 GB",
        "2000.0 GB",
    ]
