"""Badges on nodes of ComfyUI's real page, in the classic and in the Vue nodes."""

import time
from collections.abc import Iterator
from typing import Any

import pytest

from support.comfyui_page import blank_workflow, open_template, run

ADD_KEEP = """seed => {
    const node = name => app.graph.nodes.find(each => each.comfyClass === `Wuerstchen${name}`);
    const keep = LiteGraph.createNode("WuerstchenKeep"), decode = node("StageBDecode");
    keep.pos = [node("StageCSampler").pos[0], node("StageCSampler").pos[1] + 420];
    app.graph.add(keep);
    node("StageCSampler").connect(0, keep, 0);
    keep.connect(0, decode, decode.inputs.findIndex(input => input.name === "latent"));
    node("StageCSampler").widgets.find(widget => widget.name === "seed").value = seed;
}"""
VUE = "value => app.extensionManager.setting.set('Comfy.VueNodes.Enabled', value)"  # which older pages do not know
BADGE = """name => app.graph.nodes.find(each => each.comfyClass === `Wuerstchen${name}`)
    .wuerstchen_badge?.text.textContent ?? null"""


@pytest.fixture(params=["classic", "vue"])
def renderer(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def keeping(page: Any, renderer: str) -> Iterator[Any]:
    """The page with the text-to-image example, a Keep on Disk in it, and a seed that was never drawn."""
    open_template(page, "text_to_image")
    page.evaluate(ADD_KEEP, time.time_ns() % 2**40)
    if renderer == "vue":
        page.evaluate(VUE, True)
    page.wait_for_timeout(1000)
    yield page
    if renderer == "vue":
        page.evaluate(VUE, False)
    blank_workflow(page)


def badge(page: Any, name: str) -> str:
    page.wait_for_function(f"({BADGE})('{name}')")
    return page.evaluate(BADGE, name)


def test_nodes_show_what_they_keep_and_what_they_sampled(keeping):
    page = keeping
    page.evaluate(
        """() => {
            window.seen = [];
            const node = app.graph.nodes.find(each => each.comfyClass === "WuerstchenStageCSampler");
            const look = () => seen.push(node.wuerstchen_badge?.text.textContent);
            app.api.addEventListener("progress", () => setTimeout(look));
        }"""
    )
    run(page)
    assert badge(page, "Keep").startswith("Kept: 3 kB, made ")
    assert badge(page, "StageCSampler").startswith("Stage C: 29 steps in ")
    assert badge(page, "StageBDecode").startswith("Stage B: 3 steps in ")
    assert any(
        text and text.startswith("Stage C: step ") and text.endswith(" s left") for text in page.evaluate("seen")
    )
    (picture,) = [each for each in page.locator(".wuerstchen-badge img").all() if each.is_visible()]
    assert picture.evaluate("image => image.naturalWidth") == 128
    saved = page.evaluate("app.graph.serialize().nodes.find(node => node.type === 'WuerstchenKeep').widgets_values")
    assert saved == ["use"]  # a badge is no part of the workflow


def test_the_menu_of_the_node_forgets_what_it_kept(keeping, renderer, server):
    page = keeping
    run(page)
    assert badge(page, "Keep").startswith("Kept: ")
    key = page.evaluate("app.graph.nodes.find(node => node.comfyClass === 'WuerstchenKeep').wuerstchen_kept.key")
    x, y = page.evaluate(
        """() => {
            const node = app.graph.nodes.find(each => each.comfyClass === "WuerstchenKeep");
            app.canvas.ds.scale = 1;
            app.canvas.ds.offset = [400 - node.pos[0], 300 - node.pos[1]];
            app.canvas.setDirty(true, true);
            const {left, top} = app.canvas.canvas.getBoundingClientRect();
            const [x, y] = app.canvas.ds.convertOffsetToCanvas([node.pos[0] + 60, node.pos[1] - 15]);
            return [left + x, top + y];
        }"""
    )
    page.wait_for_timeout(500)
    if renderer == "classic":
        page.mouse.click(x, y, button="right")
        page.get_by_text("Forget this").first.click()
    else:
        page.mouse.click(x, y)
        page.locator(".selection-toolbox .pi-eraser").click()
    page.wait_for_function(f"({BADGE})('Keep') === 'Forgotten'")
    assert server.post("/wuerstchen/forget", {"key": key}) == (200, {"forgotten": False})
