"""The weight that is to blame for a result that is not finite."""

import pytest
import torch
from torch import nn

from wuerstchen_core.errors import CheckpointError, InputError
from wuerstchen_core.networks.finite import finite

NAN = float("nan")


def network(weight: torch.Tensor) -> nn.Module:
    made = nn.Module()
    made.register_buffer("count", torch.tensor(1))
    made.register_buffer("elsewhere", torch.empty(2, device="meta"))
    made.register_buffer("empty", torch.empty(0))
    made.register_buffer("weight", weight)
    return made


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn])
def test_the_weight_is_named(dtype):
    for value, words in ((NAN, "its weight weight holds such values"), (1.0, "Its weights are finite")):
        with pytest.raises(CheckpointError, match=rf"Stage C gave values that are NaN or infinite.*{words}"):
            finite(torch.tensor([1, NAN]), network(torch.tensor([0, value, 2]).to(dtype)), "Stage C")


def test_what_it_was_given_is_named_first():
    with pytest.raises(InputError, match=r"^start holds values that are NaN or infinite"):
        finite(torch.tensor(NAN), network(torch.tensor(NAN)), "Stage C", mask=None, start=torch.tensor(-torch.inf))


def test_a_finite_result_is_returned_whatever_the_weights_are():
    result = torch.tensor([1.0, 3e38])
    assert finite(result, network(torch.tensor(NAN)), "Stage C", start=torch.tensor(NAN)) is result
