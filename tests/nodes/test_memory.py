"""Compare the estimates of working memory with the allocations counted during the computation."""

from collections.abc import Callable
from dataclasses import replace
from itertools import accumulate
from typing import Any, cast

import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from support import tiny
from wuerstchen_core import (
    StageB,
    StageBConfig,
    StageC,
    StageCConfig,
    decode_stage_a,
    encode_stage_a,
    encode_stage_c,
)
from wuerstchen_core.networks.efficientnet import EfficientNetEncoder, EfficientNetEncoderConfig
from wuerstchen_core.networks.rebuild import rebuild
from wuerstchen_nodes.memory import image_encoder_memory, stage_a_memory, stage_b_memory, stage_c_memory

RATIO = torch.full((2,), 0.5)


class _Operations:
    """Layers of torch.nn with a host's rules."""

    Conv2d, ConvTranspose2d, Linear = nn.Conv2d, nn.ConvTranspose2d, nn.Linear

    def __init__(self, **rules: Any) -> None:
        self.__dict__.update(rules)


def _peak(compute: Callable[[], Any]) -> int:
    with torch.inference_mode(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        compute()
    events: list[Any] = cast(Any, profiler.profiler).kineto_results.events()
    changes = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns()) if event.nbytes()]
    return max(accumulate(changes))


def test_stage_c():
    network = StageC(StageCConfig(c=64, c_cond=64, depth=2, nhead=2)).eval()
    x, text = torch.zeros(2, 16, 24, 24), torch.zeros(2, 77, 64)
    assert _peak(lambda: network(x, RATIO, text)) == pytest.approx(stage_c_memory(network, 2, 24, 24), rel=0.15)


def test_stage_b():
    config = StageBConfig(
        c_cond=64, c_hidden=(32, 64, 128), nhead=(-1, 2, 4), blocks=(1, 1, 1), level_config=("CT", "CTA", "CTA"),
        inject_effnet=(False, True, True), clip_embd=32,
    )  # fmt: skip
    network = StageB(config).eval()
    x, embeddings, text = torch.zeros(2, 4, 64, 64), torch.zeros(2, 16, 6, 6), torch.zeros(2, 77, 32)
    peak = _peak(lambda: network(x, RATIO, embeddings, text))
    assert peak == pytest.approx(stage_b_memory(network, 2, 64, 64), rel=0.15)


def test_stage_a():
    network = tiny.stage_a(replace(tiny.STAGE_A, embed_dim=64))
    plain = rebuild(network, _Operations(reads_weights=lambda layer: False))
    latents, claimed = torch.zeros(1, 4, 32, 48), stage_a_memory(network, 32, 48)
    folded = _peak(lambda: decode_stage_a(network, latents))
    assert _peak(lambda: decode_stage_a(plain, latents)) == pytest.approx(claimed, rel=0.1)
    assert folded < 0.7 * claimed


def test_half_precision_takes_half():
    network = StageC(StageCConfig(c=64, c_cond=64, depth=1, nhead=2))
    half = rebuild(network, _Operations(compute_dtype=torch.bfloat16))
    assert stage_c_memory(half, 1, 24, 24) == stage_c_memory(network, 1, 24, 24) // 2


def test_image_encoder():
    network = EfficientNetEncoder(EfficientNetEncoderConfig.v2()).eval()
    peak = _peak(lambda: encode_stage_c(network, torch.zeros(1, 3, 256, 384)))
    assert peak == pytest.approx(image_encoder_memory(256, 384), rel=0.15)


def test_encoding_by_stage_a_takes_what_decoding_does():
    network = tiny.stage_a(replace(tiny.STAGE_A, embed_dim=64))
    peak = _peak(lambda: encode_stage_a(network, torch.zeros(1, 3, 128, 192)))
    assert peak <= stage_a_memory(network, 32, 48) * 1.15
