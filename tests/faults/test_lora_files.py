"""LoRAs and textual inversions that lie: one clear line when they are loaded, none later."""

import json
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from support import loras, tiny
from support.attacks import within
from support.hostile_checkpoints import RAW, refusal
from wuerstchen_core import apply_lora, load_embedding, load_lora
from wuerstchen_core.checkpoints.lora import _Settings

STAGE_C = tiny.stage_c()
PAIR = loras.pairs(STAGE_C.state_dict(), ["blocks.2.attention.to_q"])["blocks.2.attention.to_q"]
DOWN, UP, ALPHA = (f"prior.blocks.2.attention.to_q.{end}" for end in ("lora_down.weight", "lora_up.weight", "alpha"))
GOOD = {DOWN: PAIR.down, UP: PAIR.up, ALPHA: torch.tensor(2.0)}


def adds(path: Any) -> None:
    """Load a LoRA; where that is possible, it can be added."""
    weight = apply_lora(STAGE_C, load_lora(path)).state_dict()["blocks.2.attention.to_q.weight"]
    assert bool(weight.isfinite().all()), "no finite numbers"


ODD = [float("nan"), float("inf"), -float("inf"), 1e38, -1e38]
LORAS: list[dict[str, torch.Tensor]] = [
    *({**GOOD, ALPHA: torch.tensor(each)} for each in ODD),
    *({**GOOD, key: torch.full_like(GOOD[key], each)} for each in ODD[:3] for key in (DOWN, UP)),
    *({**GOOD, ALPHA: each} for each in (torch.empty(0), torch.ones(2), torch.tensor(2), torch.ones(100, 100))),
    *(
        {**GOOD, key: torch.empty(shape)}
        for key in (DOWN, UP)
        for shape in ((0,), (0, 64), (64, 0), (), (4,), (3, 5, 7))
    ),
    {**GOOD, DOWN: torch.empty(0, 64), UP: torch.empty(64, 0)},
    {**GOOD, DOWN: torch.empty(4, 0), UP: torch.empty(0, 4)},
    *({**GOOD, DOWN: GOOD[DOWN][:rank]} for rank in (1, 2, 3)),
    *({**GOOD, key: GOOD[key].to(dtype)} for key in (DOWN, UP) for dtype in (torch.int8, torch.bool, torch.int64)),
    *({key: value for key, value in GOOD.items() if key != gone} for gone in (DOWN, UP)),
    *(
        {**GOOD, f"prior.blocks.2.attention.to_q.{end}": torch.ones(2, 2)}
        for end in ("hada_w1_a", "lokr_w1", "dora_scale", "diff")
    ),
    *(
        {**GOOD, key: torch.ones(2, 2)}
        for key in ("unknown", "prior.blocks.2.x.lora_down.weight", "lora_te_x.alpha", ".alpha")
    ),
    *({**GOOD, "lora_unet_blocks_2_attention_to_q.alpha": torch.ones(1)} for _ in range(1)),
    {f"prior.blocks.{index}.attention.to_q.lora_down.weight": torch.ones(1, 1) for index in range(1000)},
    {f"key.{index}.alpha": torch.ones(1) for index in range(2000)},
    {"prior.blocks.2.attention.attn.in_proj.lora_up.weight": torch.ones(64, 4), DOWN: GOOD[DOWN]},
    {"prior.blocks.99999999999999999999.attention.to_q.lora_up.weight": torch.ones(64, 4)},
    {key.replace("blocks.2", "blocks.5000"): value for key, value in GOOD.items()},
    {key.replace(".2.", "." + "2" * 400 + "."): value for key, value in GOOD.items()},
    {"prior." + "lora_A." * 60 + "weight": torch.ones(1)},
    {"base_model.model." * 25 + DOWN: torch.ones(1)},
    {},
]


@pytest.mark.parametrize("index", range(len(LORAS)))
def test_a_lora_that_lies_is_refused(index, tmp_path, tried):
    save_file({key: value.contiguous() for key, value in LORAS[index].items()}, tmp_path / "lora.safetensors")
    refusal(adds, tmp_path / "lora.safetensors")
    tried(1)


SETTINGS: list[Any] = [
    *({"lora_alpha": each} for each in (float("nan"), float("inf"), 10**400, 10**30, -1e30, "x", [], True, {"a": 1})),
    *({"lora_alpha": 4, "alpha_pattern": {"to_q": each}} for each in (float("nan"), 10**400, "x", None, [], True)),
    {"lora_alpha": 4, "alpha_pattern": {f"x{index}": 1 for index in range(10**5)}},
]
METADATA = [
    "[",
    "{",
    "null",
    "5",
    "[" * 10**5,
    '{"a":' * 10**5,
    '[5, null, {}, ["a"]]',
    '"x"',
    "\ud83d".encode("utf-8", "replace").decode(),
]


def test_settings_of_a_lora_that_lie_are_refused(tmp_path, tried):
    pair = {DOWN: GOOD[DOWN].contiguous(), UP: GOOD[UP].contiguous()}
    save_file(pair, tmp_path / "lora.safetensors")
    for settings in SETTINGS:
        (tmp_path / "adapter_config.json").write_text(json.dumps(settings))
        refusal(adds, tmp_path / "lora.safetensors", may_load=not settings["lora_alpha"])  # as without settings
        tried(1)
    for content in RAW:
        (tmp_path / "adapter_config.json").write_bytes(content)
        refusal(adds, tmp_path / "lora.safetensors")
        tried(1)
    (tmp_path / "adapter_config.json").unlink()
    for text in METADATA:
        for name in ("wuerstchen_words", "lora_adapter_metadata"):
            save_file(pair, tmp_path / "lora.safetensors", metadata={name: text})
            with within():
                assert load_lora(tmp_path / "lora.safetensors").words == ()
            tried(1)


def test_a_lora_of_too_many_words_or_patterns_is_refused(tmp_path, tried):
    path, pair = tmp_path / "lora.safetensors", {DOWN: GOOD[DOWN].contiguous(), UP: GOOD[UP].contiguous()}
    for words in ([f"w{index}" for index in range(10_001)], ["w" * 101]):
        save_file(pair, path, {"wuerstchen_words": json.dumps(words)})
        assert "Train the LoRA on fewer words" in refusal(load_lora, path)
        tried(1)
    save_file(pair, path, {"wuerstchen_words": json.dumps(words := [f"w{index}" for index in range(10_000)])})
    assert load_lora(path).words == tuple(words)
    (tmp_path / "adapter_config.json").write_text(json.dumps({"lora_alpha": 4, "alpha_pattern": {"x" * 501: 1}}))
    assert "alphas, or one of a long name" in refusal(load_lora, path)
    tried(2)


def test_patterns_of_a_lora_are_looked_up_and_not_tried_one_by_one(tried):
    patterns = {**{f"x{index}.": 5 for index in range(9998)}, "7.attention.to_q": 2, "^blocks.7.attention.to_q": 3}
    settings = _Settings({"stage_c": {"lora_alpha": 1, "alpha_pattern": patterns}})
    with within(5):
        scales = [settings.scale("stage_c", f"blocks.{index}.attention.to_q.weight", 1) for index in range(10_000)]
    assert scales == [2 if index == 7 else 1 for index in range(10_000)]
    tried(1)


EMBEDDINGS: list[dict[str, torch.Tensor]] = [
    *({"clip_g": torch.full((2, 32), each)} for each in ODD[:3]),
    *({"clip_g": torch.zeros(shape)} for shape in ((), (0,), (0, 32), (2, 0), (2, 3, 4), (1001, 4))),
    *({"clip_g": torch.zeros(2, 32).to(dtype)} for dtype in (torch.int8, torch.bool, torch.int64, torch.uint8)),
    {"clip_g": torch.zeros(2, 32), "clip_g_out": torch.full((2, 32), float("nan"))},
    {"clip_g": torch.zeros(2, 32), "step": torch.tensor(5)},
    {},
]


@pytest.mark.parametrize("index", range(len(EMBEDDINGS)))
def test_a_textual_inversion_that_lies_is_refused(index, tmp_path, tried):
    save_file(EMBEDDINGS[index], tmp_path / "word.safetensors")
    refusal(load_embedding, tmp_path / "word.safetensors")
    tried(1)
