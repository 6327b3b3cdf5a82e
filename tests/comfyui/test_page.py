"""The pack on ComfyUI's real page, in Chromium: what a person sees and clicks."""

import json
import re
import time
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from support.comfyui_page import PACK, blank_workflow, drawn_images, new_page, open_template, run
from support.comfyui_server import Server, started, with_the_pack
from support.hub import serving
from support.workflows import write_tiny_v2
from wuerstchen_nodes.headless.workflow import examples
from wuerstchen_nodes.registry import COMFYUI_ONLY, NODE_DISPLAY_NAME_MAPPINGS

LOCALES = Path(__file__).parents[2] / "locales"


@pytest.fixture
def complaints(page: Any) -> Iterator[list[str]]:
    """Errors on the page's console and failed requests to this pack, from here on."""
    seen: list[str] = []

    def on_console(message: Any) -> None:
        # What the closed network and a fresh user's empty folders give, the page reports by itself.
        if message.type == "error" and not message.text.startswith("Failed to load resource"):
            seen.append(message.text)

    def on_response(response: Any) -> None:
        if response.status >= 400 and PACK in response.url:
            seen.append(f"{response.status} {response.url}")

    page.on("console", on_console)
    page.on("response", on_response)
    yield seen
    page.remove_listener("console", on_console)
    page.remove_listener("response", on_response)


@pytest.fixture
def node_library(page):
    """The side bar with the list of nodes."""
    page.evaluate("app.extensionManager.command.execute('Workspace.ToggleSidebarTab.node-library')")
    yield page.locator(".node-lib-search-box input")
    page.evaluate("app.extensionManager.command.execute('Workspace.ToggleSidebarTab.node-library')")


@pytest.mark.parametrize("name", examples.names())
def test_a_template_opens_whole(page, complaints, name):
    open_template(page, name)
    state = page.evaluate(
        """() => ({
            unknown: app.graph.nodes.map(node => node.type).filter(type => !(type in LiteGraph.registered_node_types)),
            red: app.graph.nodes.filter(node => node.has_errors).map(node => node.title),
            loose: app.graph.nodes.filter(node => node.inputs?.some(input => input.link != null
                && !app.graph.links.get(input.link))).map(node => node.title),
        })"""
    )
    assert state == {"unknown": [], "red": [], "loose": []}
    assert complaints == []


def test_run_draws_with_progress_and_previews(page, complaints):
    open_template(page, "text_to_image")
    told = run(page)
    assert drawn_images(page) == 1
    assert {step["max"] for step in told["progress"]} >= {29, 3}
    assert told["previews"] > 5
    assert complaints == []


@pytest.mark.parametrize("name", [name for name in examples.names() if name != "v2"])
def test_no_node_covers_another_after_a_run_with_previews(page, name):
    open_template(page, name)
    run(page)
    page.wait_for_function("app.graph.nodes.some(node => node.images?.length && node.imgs?.length)")
    boxes = page.evaluate(
        "app.graph.nodes.map(({title, pos: [x, y], size: [w, h]}) => [title, x, y - 30, x + w, y + h])"
    )
    for (one, *a), (other, *b) in combinations(boxes, 2):
        assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1], (one, other)


def test_comfyuis_own_samplers_draw_too(page, complaints):
    open_template(page, "comfyui_samplers")
    run(page)
    assert drawn_images(page) == 1
    assert complaints == []


def test_a_saved_picture_dropped_on_the_page_restores_its_graph(page, complaints, server: Server):
    open_template(page, "text_to_image")
    text = f"a small green star on a yellow background {time.time_ns()}"
    page.evaluate("text => { app.graph.nodes.find(node => node.title === 'Prompt').widgets[0].value = text }", text)
    run(page)
    (saved,) = page.evaluate("app.graph.nodes.flatMap(node => node.images ?? [])")
    picture = server.folder / "output" / saved["subfolder"] / saved["filename"]

    blank_workflow(page)
    page.evaluate(
        """async bytes => {
            const files = new DataTransfer();
            files.items.add(new File([new Uint8Array(bytes)], "picture.png", {type: "image/png"}));
            document.dispatchEvent(new DragEvent("drop", {dataTransfer: files, bubbles: true, cancelable: true}));
        }""",
        list(picture.read_bytes()),
    )
    page.wait_for_function("app.graph.nodes.length > 10")
    prompt = page.evaluate("app.graph.nodes.find(node => node.title === 'Prompt').widgets[0].value")
    assert prompt == text
    assert complaints == []


def test_new_text_encodes_read_weights_and_those_of_older_workflows_do_not(page, complaints):
    values = page.evaluate(
        """async () => {
            const value = () => app.graph.nodes.find(each => each.type === "WuerstchenTextEncode")
                .widgets.find(each => each.name === "weights").value;
            app.graph.clear();
            app.graph.add(LiteGraph.createNode("WuerstchenTextEncode"));
            const found = {"new": value()};
            const graph = app.graph.serialize();
            await app.loadGraphData(structuredClone(graph));
            found.saved = value();
            graph.nodes[0].widgets_values.pop();
            graph.nodes[0].inputs = graph.nodes[0].inputs.filter(each => each.name !== "weights");
            await app.loadGraphData(graph);
            found.older = value();
            found.prompt = (await app.graphToPrompt()).output[app.graph.nodes[0].id].inputs.weights;
            await app.loadApiJson({"1": {class_type: "WuerstchenTextEncode", inputs: {text: "a star"}}}, "older");
            found.api = value();
            return found;
        }"""
    )
    assert values == {"new": "on", "saved": "on", "older": "off", "prompt": "off", "api": "off"}
    assert complaints == []


@pytest.mark.parametrize("language", ["de", "zh"])
def test_the_page_speaks_the_languages_of_the_pack(page, server: Server, language):
    told = json.loads((LOCALES / language / "nodeDefs.json").read_text(encoding="utf-8"))
    assert page.evaluate("fetch('/api/i18n').then(answer => answer.json())")[language]["nodeDefs"] == told
    other = new_page(page.context.browser, server.url, locale=f"{language}-{language.upper()}")
    shown = other.evaluate(
        """Object.values(LiteGraph.registered_node_types).filter(node => node.comfyClass?.startsWith("Wuerstchen"))
            .map(({title, comfyClass, nodeData}) => [comfyClass, {title, description: nodeData.description,
                inputs: Object.values(nodeData.inputs).map(input => input.tooltip),
                outputs: nodeData.outputs.map(output => output.tooltip)}])"""
    )
    other.close()
    assert len(shown) == len(told)
    for node_id, texts in shown:
        wanted = told[node_id]
        assert (texts["title"], texts["description"]) == (wanted["display_name"], wanted["description"])
        assert texts["inputs"] == [each["tooltip"] for each in wanted["inputs"].values()]
        assert texts["outputs"] == [each["tooltip"] for each in wanted.get("outputs", {}).values()]


SEARCHED = {
    "prior": ["WuerstchenLoadStageC", "WuerstchenStageCSampler"],
    "cascade": ["WuerstchenStageBDecode", "WuerstchenEmptyLatent"],
    "merge": ["WuerstchenCheckpointInterpolate"],
    "clip": ["WuerstchenTextEncode", "WuerstchenLoadTextEncoder"],
    "img2img": ["WuerstchenImageEncode"],
}
TITLES = {**NODE_DISPLAY_NAME_MAPPINGS, **COMFYUI_ONLY}


@pytest.mark.parametrize(
    ("word", "title"), [(word, TITLES[i]) for word in SEARCHED for i in SEARCHED[word] if i in TITLES]
)
def test_a_node_is_found_by_another_word_for_it(page, node_library, word, title):
    blank_workflow(page)
    box = page.get_by_role("combobox").and_(page.get_by_placeholder("Search Nodes..."))
    for _ in range(5):  # a dialog that is still closing takes the clicks
        page.mouse.dblclick(900, 500)
        page.wait_for_timeout(1000)
        if box.is_visible():
            break
    box.fill(word)
    page.get_by_role("option").filter(has_text=re.compile(rf"^\s*{title} \(")).click()
    page.wait_for_function("app.graph.nodes.length === 1")
    assert page.evaluate("app.graph.nodes[0].title") == title

    node_library.fill(word)
    page.get_by_role("tree").get_by_text(f"{title} (").first.wait_for()


def test_a_blueprint_is_added_from_the_node_library_and_draws(page, complaints, server: Server, node_library):
    if not server.has("/global_subgraphs"):
        pytest.skip("this ComfyUI knows no blueprints")
    blank_workflow(page)
    node_library.fill("wuerstchen")
    page.get_by_role("tree").get_by_text("Wuerstchen text to image").first.click()
    page.wait_for_function("app.graph.nodes.length === 1")
    page.evaluate(
        """() => {
            const [blueprint] = app.graph.nodes, shown = LiteGraph.createNode("PreviewImage");
            const values = {text: "a blue ring on a pink background", seed: 5, width: 384};
            for (const [name, value] of Object.entries(values))
                blueprint.widgets.find(widget => widget.name === name).value = value;
            app.graph.add(shown);
            blueprint.connect(0, shown, 0);
        }"""
    )
    prompt = page.evaluate("app.graphToPrompt().then(({output}) => Object.values(output))")
    inputs = {node["_meta"]["title"]: node["inputs"] for node in prompt}
    assert (
        inputs["Prompt for Stage C"]["text"]
        == inputs["Prompt for Stage B"]["text"]
        == "a blue ring on a pink background"
    )
    assert inputs["Stage C Sampler"]["seed"] == inputs["Stage B Decode"]["seed"] == 5
    run(page)
    assert drawn_images(page) == 1
    (shown,) = page.evaluate("app.graph.nodes.flatMap(node => node.images ?? [])")
    assert server.view(shown).shape == (256, 384, 3)
    assert complaints == []


def test_missing_weights_are_listed_with_their_links_and_downloaded(page, tmp_path: Path, monkeypatch):
    hub_folder = tmp_path / "hub"
    write_tiny_v2(hub_folder)
    with_the_pack(tmp_path)
    listed = json.loads(examples.locate("v2").read_text(encoding="utf-8"))["models"]

    def dialogs() -> list[str]:
        open_template(fresh, "v2")
        fresh.wait_for_timeout(2000)
        found = fresh.evaluate("[...document.querySelectorAll('[role=dialog]')].map(each => each.innerText)")
        fresh.keyboard.press("Escape")
        return found

    with serving(hub_folder, pause=0.005) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        for name in ("HF_HOME", "WUERSTCHEN_MODELS"):
            monkeypatch.setenv(name, str(tmp_path / "empty"))
        with started(tmp_path) as server:
            fresh = new_page(page.context.browser, server.url)
            (dialog,) = dialogs()
            assert "Missing Models" in dialog and dialog.count("Download") == len(listed)
            assert all(f"wuerstchen / {each['name']}" in dialog for each in listed)

            node = _download_node(fresh)
            run(fresh)
            fresh.wait_for_function("node => node.widgets.at(-1)?.value?.includes('12.5 GB more')", arg=node)
            assert hub.sent == []
            node.evaluate("node => { node.widgets.find(each => each.name === 'download').value = true; }")
            told = run(fresh)
            assert told["progress"], "there is a bar on the node"
            fresh.wait_for_function("node => node.widgets.at(-1)?.value?.includes('is complete')", arg=node)
            assert node.evaluate("node => node.widgets.find(each => each.name === 'download').value") is False
            assert all((tmp_path / "models/wuerstchen" / each["name"]).is_file() for each in listed)
            assert dialogs() == []
            fresh.close()


def _download_node(page: Any) -> Any:
    """Add Download Weights to a new workflow and return it."""
    blank_workflow(page)
    return page.evaluate_handle(
        """() => {
            const node = LiteGraph.createNode("WuerstchenDownload");
            node.pos = [400, 300];
            app.graph.add(node);
            return node;
        }"""
    )


def test_text_encode_says_what_of_a_prompt_is_ignored_until_it_is_mended(page, complaints):
    open_template(page, "text_to_image")
    page.evaluate(
        """() => {
            for (const node of app.graph.nodes.filter(each => each.type === "WuerstchenTextEncode"))
                node.widgets.find(each => each.name === "weights").value = "off";
        }"""
    )
    shown = page.locator(".dom-widget").get_by_text("this end of it is ignored")
    write = "text => { app.graph.nodes.find(node => node.title === 'Prompt').widgets[0].value = text }"
    page.evaluate(write, f"a red heart {'on a white background ' * 20} <img src=x> {time.time_ns()}")
    run(page)
    shown.first.wait_for()
    assert shown.count() == 2  # of Stage C and of Stage B
    assert "<" in shown.first.inner_text() and shown.first.locator("img").count() == 0
    page.evaluate(write, "a red heart")
    run(page)
    shown.first.wait_for(state="detached")
    assert complaints == []


def test_choices_through_a_link_are_made_and_shown(page):
    open_template(page, "text_to_image")
    text = f"a {{red|blue}} heart // {time.time_ns()}"
    page.evaluate("text => { app.graph.nodes.find(node => node.title === 'Prompt').widgets[0].value = text }", text)
    run(page)
    page.locator(".dom-widget").get_by_text(re.compile("^Read as: a (red|blue) heart")).first.wait_for()
