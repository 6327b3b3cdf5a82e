"""Test how a network follows the namespace of its layers, and how it is rebuilt from another one."""

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import nn

from support import tiny
from wuerstchen_core import StageC
from wuerstchen_core.networks.blocks import Folded
from wuerstchen_core.networks.operations import is_plain
from wuerstchen_core.networks.rebuild import rebuild

NETWORKS = pytest.mark.parametrize("build", [tiny.stage_a, tiny.stage_b, tiny.stage_c])


def reads_nothing(layer: nn.Module) -> bool:
    return False


class HostOperations:
    """A host's namespace with both of its rules."""

    Conv2d, ConvTranspose2d, Linear = nn.Conv2d, nn.ConvTranspose2d, nn.Linear
    reads_weights = staticmethod(reads_nothing)
    compute_dtype = torch.bfloat16


HOST: Any = HostOperations


class OtherStageC(StageC):
    """The same network by another name."""


def test_rules_come_from_the_operations():
    network: Any
    for network in (tiny.stage_a(), tiny.stage_b()):
        assert network.reads_weights is is_plain
        assert rebuild(network, HOST).reads_weights is reads_nothing
    for network in (tiny.stage_b(), tiny.stage_c()):
        assert network.compute_dtype is None
        assert rebuild(network, HOST).compute_dtype == torch.bfloat16
        assert rebuild(rebuild(network, HOST), nn).compute_dtype is None


def test_weights_are_folded_only_where_the_operations_allow_it():
    plain = tiny.stage_b().to(torch.bfloat16)
    called = rebuild(plain, HOST)
    inputs = torch.ones(1, 16, 3, 3), None, (32, 32)
    with torch.inference_mode():
        for network, folds in ((plain, True), (called, False)):
            levels = network.condition(*inputs).levels
            assert any(isinstance(block, Folded) for level in levels for block in level) == folds


def test_the_compute_dtype_is_used():
    network = tiny.stage_c()
    x, t, text = torch.ones(1, 16, 3, 3), torch.full((1,), 0.5), torch.ones(1, 5, 32)
    host = rebuild(network.to(torch.bfloat16), HOST)
    assert torch.equal(host(x, t, text), network(x, t, text))
    assert host.condition(text).texts[0][0].dtype == torch.bfloat16


@NETWORKS
def test_weights_and_preview_are_shared(build):
    network = build()
    network.latent_rgb = torch.rand(17, 3)
    again = rebuild(network.train().requires_grad_(True), nn)
    assert type(again) is type(network) and again.config == network.config
    ours, theirs = again.state_dict(), network.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(ours[key].data_ptr() == theirs[key].data_ptr() for key in ours)
    assert not again.training and not any(weight.requires_grad for weight in again.parameters())
    assert build is tiny.stage_a or again.latent_rgb is network.latent_rgb


def test_another_class_and_other_weights():
    weights = tiny.stage_c(seed=1).state_dict()
    other = rebuild(tiny.stage_c(), nn, kind=OtherStageC, weights=weights)
    assert type(other) is OtherStageC
    assert all(torch.equal(value, weights[key]) for key, value in other.state_dict().items())


@NETWORKS
@pytest.mark.parametrize("operations", [nn, HOST], ids=["torch", "host"])
def test_a_network_can_be_pickled_and_copied(build, operations):
    network = rebuild(build(), operations)
    for other in (pickle.loads(pickle.dumps(network)), copy.deepcopy(network)):
        assert all(torch.equal(value, network.state_dict()[key]) for key, value in other.state_dict().items())
        for name in ("reads_weights", "compute_dtype"):
            assert getattr(other, name, None) is getattr(network, name, None)
