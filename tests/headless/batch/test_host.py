"""Networks that stay on the device between rows."""

import gc
from typing import Any

import pytest
import torch
from torch import nn

from wuerstchen_nodes.headless.batch.host import StayingHost


class Card(StayingHost):
    """Host of a device with `room` bytes. Its networks are on the device `meta`, where nothing is computed."""

    def __init__(self, room: int) -> None:
        super().__init__(device="meta")
        self.room = room
        self.networks: list[nn.Module] = []

    def free_memory(self) -> float:
        there = [each for each in self.networks if next(each.parameters()).device.type == "meta"]
        return self.room - sum(weight.nbytes for each in there for weight in each.parameters())


class Network(nn.Linear):
    """Network of 100 weights, 400 bytes. Moving it gives it new weights, since `meta` has none to copy."""

    def __init__(self) -> None:
        super().__init__(10, 10, bias=False)

    def to(self, *args: Any, **kwargs: Any) -> Any:
        return self.to_empty(device=args[0])


def where(*networks: nn.Module) -> list[str]:
    return [next(network.parameters()).device.type for network in networks]


def test_networks_stay_and_the_least_recently_used_make_room():
    card = Card(1300)
    one, two, three = card.networks = [Network(), Network(), Network()]
    for network in (one, two, one):
        with card.resident(network, working_memory=400) as there:
            assert there is network
            assert where(network) == ["meta"]
    assert where(one, two, three) == ["meta", "meta", "cpu"]
    with card.resident(three, working_memory=400):
        assert where(one, two, three) == ["meta", "cpu", "meta"]
    with card.resident(one, working_memory=2000):
        assert where(one, two, three) == ["meta", "cpu", "cpu"]


def test_a_deleted_network_is_not_kept():
    host = StayingHost(device="cpu")
    network = Network()
    with host.resident(network):
        pass
    assert host.free_memory() == float("inf")
    alive = [each() for each in host._there]
    assert alive == [network]
    del network, alive
    gc.collect()
    assert [each() for each in host._there] == [None]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_cuda_networks_stay():
    host = StayingHost()
    network = nn.Linear(10, 10)
    for _ in range(2):
        with host.resident(network, working_memory=1000):
            assert network.weight.device.type == "cuda"
        assert network.weight.device.type == "cuda"
    assert host.free_memory() > 0
