import numpy
import pytest
import torch

from wuerstchen_nodes.headless.execution.calls import Outputs
from wuerstchen_nodes.headless.execution.packing import NotPlainError, pack, unpack, with_tensors


def test_what_nodes_give_comes_back_as_it_was():
    embedding = torch.randn(1, 77, 8)
    latent = {
        "samples": torch.randn(2, 4, 3, 3, dtype=torch.float16),
        "wuerstchen_size": (300, 200),
        "batch_index": [0],
    }
    outputs = Outputs(
        [[[[embedding, {"pooled_output": embedding.mean(1), "nothing": None}]]], [latent], [1.5, "a", True]]
    )
    again = with_tensors(unpack(*pack(outputs)))
    assert torch.equal(again.slots[0][0][0][0], embedding)
    assert torch.equal(again.slots[0][0][0][1]["pooled_output"], embedding.mean(1))
    assert torch.equal(again.slots[1][0]["samples"], latent["samples"])
    assert again.slots[1][0]["samples"].dtype == torch.float16
    assert again.slots[1][0]["wuerstchen_size"] == (300, 200)
    assert again.slots[2] == [1.5, "a", True]


def test_a_view_is_stored_as_what_it_shows():
    whole = torch.arange(12.0).reshape(3, 4)
    tensors, text = pack(Outputs([[whole[:, 1:3], whole.T]]))
    assert sum(each.nbytes for each in tensors.values()) == 4 * (6 + 12)
    one, turned = unpack(tensors, text).slots[0]
    assert numpy.array_equal(one, whole[:, 1:3])
    assert numpy.array_equal(turned, whole.T)


def test_arrays_are_stored_as_tensors_are():
    tensors, text = pack(Outputs([[torch.ones(2)]]))
    again, same_text = pack(unpack(tensors, text))
    assert same_text == text
    assert numpy.array_equal(again["0"], tensors["0"])


@pytest.mark.parametrize(
    "value",
    [
        torch.nn.Linear(1, 1),
        {1: 2},
        {"a": object()},
        torch.empty(1, device="meta"),
        torch.ones(1, dtype=torch.bfloat16),
    ],
)
def test_what_is_not_plain_is_refused(value):
    with pytest.raises(NotPlainError):
        pack(Outputs([[value]]))
