"""The nodes that have a network compiled; what compiling does is for the host."""

import pytest

from support import tiny
from support.hosts import FakeHost, Kept
from wuerstchen_nodes.compiling import CompileStageB, CompileStageC


@pytest.mark.parametrize(("node", "build"), [(CompileStageC, tiny.stage_c), (CompileStageB, tiny.stage_b)])
def test_what_comes_in_stays_uncompiled(fake_host: FakeHost, node, build):
    kept = Kept(build())
    (fast,) = node().compile(kept)
    assert fast.compiled and fast.network is kept.network
    assert not kept.compiled
