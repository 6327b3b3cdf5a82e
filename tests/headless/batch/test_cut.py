"""Cutting a workflow after Stage C."""

import pickle

import pytest
import torch

from wuerstchen_nodes.headless import load_workflow
from wuerstchen_nodes.headless.batch.cut import nodes_before_cut, packed
from wuerstchen_nodes.headless.execution.calls import Outputs
from wuerstchen_nodes.headless.run import resolve
from wuerstchen_nodes.headless.stock.nodes import default_catalog
from wuerstchen_nodes.headless.workflow.examples import locate


@pytest.mark.parametrize(
    ("name", "before", "classes"),
    [
        ("text_to_image", 2, {"WuerstchenStageCSampler", "WuerstchenTextEncode"}),
        ("interpolation", 3, {"WuerstchenStageCSampler"}),
        ("stage_reuse", 1, {"WuerstchenStageCSampler"}),
    ],
)
def test_the_examples_are_cut_after_stage_c_and_the_text(name, before, classes):
    prompt = resolve(load_workflow(locate(name))).prompt
    cut = nodes_before_cut(prompt, default_catalog())
    samplers = [node_id for node_id in cut if prompt[node_id]["class_type"] == "WuerstchenStageCSampler"]
    assert len(samplers) == sum(node["class_type"] == "WuerstchenStageCSampler" for node in prompt.values())
    assert classes <= {prompt[node_id]["class_type"] for node_id in cut} <= {*classes, "WuerstchenTextEncode"}
    assert len(cut) >= before


def test_a_view_of_a_tensor_is_sent_without_the_rest():
    whole = torch.zeros(1000, 1000)
    values = {"1": Outputs([[{"samples": whole[:1, :4]}], [[whole[0, :2], {"pooled_output": None}]]])}
    data = pickle.dumps(packed(values))
    assert len(data) < 5000
    assert torch.equal(pickle.loads(data)["1"].slots[0][0]["samples"], whole[:1, :4])
