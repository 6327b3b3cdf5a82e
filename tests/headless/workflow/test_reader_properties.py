"""Generated graphs, written as an editor would write them in many ways, are read as the graph they were made from."""

from dataclasses import dataclass, field
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from support.workflows import editor_node, node, socket, toys
from wuerstchen_nodes.headless.workflow.convert import convert
from wuerstchen_nodes.headless.workflow.documents import load_workflow

CATALOG = toys()
SUBGRAPH = "0f3c-a-subgraph"
INSIDE = 100
"""The id of the node that holds a subgraph."""
INPUTS, OUTPUTS = -10, -20


@st.composite
def prompts(draw) -> dict[str, dict[str, Any]]:
    """A graph in the API format: numbers, sums of earlier nodes, and outputs."""
    count = draw(st.integers(1, 8))
    made: dict[str, dict[str, Any]] = {"1": node("Number", "Number", value=draw(st.integers(-10, 10)))}
    for index in range(2, count + 1):
        earlier = st.sampled_from([each for each, content in made.items() if content["class_type"] != "Show"])
        kind = draw(st.sampled_from(["Number", "Add", "Show"]))
        if kind == "Number":
            made[f"{index}"] = node(kind, kind, value=draw(st.integers(-10, 10)))
        else:
            names = ("a", "b") if kind == "Add" else ("value",)
            made[f"{index}"] = node(kind, kind, **{name: [draw(earlier), 0] for name in names})
    return made


@dataclass
class Writer:
    """One graph, or the inside of a subgraph, as an editor has it."""

    nodes: list[dict[str, Any]] = field(default_factory=list)
    links: list[list[Any]] = field(default_factory=list)

    def link(self, origin: int, origin_slot: int, target: int, target_slot: int) -> int:
        self.links.append([len(self.links) + 1, origin, origin_slot, target, target_slot, "INT"])
        return len(self.links)

    def plug(self, link: int) -> None:
        """Tell the node at the end of a link."""
        _, _, _, target, slot, _ = self.links[link - 1]
        next(each for each in self.nodes if each["id"] == target)["inputs"][slot]["link"] = link

    def connect(self, origin: int, origin_slot: int, target: int, target_slot: int, reroutes: int) -> None:
        """A link through so many reroutes; the last end may be a subgraph's boundary."""
        for _ in range(reroutes):
            reroute = 1000 + len(self.nodes)
            self.nodes.append(editor_node(reroute, "Reroute", inputs=[socket("", "*", None)]))
            self.plug(self.link(origin, origin_slot, reroute, 0))
            origin, origin_slot = reroute, 0
        link = self.link(origin, origin_slot, target, target_slot)
        if target != OUTPUTS:
            self.plug(link)


def editor_nodes(prompt: dict[str, dict[str, Any]], ids: set[str]) -> list[dict[str, Any]]:
    made = []
    for node_id, content in prompt.items():
        if node_id in ids:
            links = [name for name, value in content["inputs"].items() if isinstance(value, list)]
            values = [value for value in content["inputs"].values() if not isinstance(value, list)]
            sockets = [socket(name, "INT", None) for name in links]
            made.append(editor_node(int(node_id), content["class_type"], inputs=sockets, widgets_values=values))
    return made


@st.composite
def written(draw) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """A document of the editor, and what it is in the API format."""
    prompt = draw(prompts())
    inner = draw(st.sets(st.sampled_from(sorted(prompt)))) if draw(st.booleans()) else set()
    top, sub = Writer(editor_nodes(prompt, set(prompt) - inner)), Writer(editor_nodes(prompt, inner))
    entries: list[tuple[str, int]] = []
    exits: list[str] = []
    for target, content in prompt.items():
        sockets = [name for name, value in content["inputs"].items() if isinstance(value, list)]
        for slot, name in enumerate(sockets):
            origin = content["inputs"][name][0]
            reroutes = draw(st.integers(0, 2))
            if (origin in inner) == (target in inner):
                (sub if target in inner else top).connect(int(origin), 0, int(target), slot, reroutes)
            elif target in inner:
                entries.append((origin, len(entries)))
                sub.connect(INPUTS, len(entries) - 1, int(target), slot, reroutes)
            else:
                if origin not in exits:
                    exits.append(origin)
                    sub.connect(int(origin), 0, OUTPUTS, len(exits) - 1, reroutes)
                top.connect(INSIDE, exits.index(origin), int(target), slot, reroutes)
    if inner:
        sockets = [socket(f"in{index}", "INT", None) for _, index in entries]
        top.nodes.insert(draw(st.integers(0, len(top.nodes))), editor_node(INSIDE, SUBGRAPH, inputs=sockets))
        for origin, index in entries:
            top.connect(int(origin), 0, INSIDE, index, draw(st.integers(0, 2)))
    for index in range(draw(st.integers(0, 2))):
        top.nodes.append(
            editor_node(500 + index, draw(st.sampled_from(["Note", "MarkdownNote"])), widgets_values=["x"])
        )
    if draw(st.booleans()):
        top.nodes.append(editor_node(600, draw(st.sampled_from(["Number", "NobodyKnows"])), mode=2))

    def links_of(writer: Writer, as_objects: bool) -> list[Any]:
        names = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
        return [dict(zip(names, link, strict=True)) for link in writer.links] if as_objects else writer.links

    version = draw(st.sampled_from([0.4, 1]))
    document = {"nodes": top.nodes, "links": links_of(top, version == 1), "version": version}
    if inner:
        subgraph = {"id": SUBGRAPH, "name": "Sub", "nodes": sub.nodes, "links": links_of(sub, True)}
        document["definitions"] = {"subgraphs": [subgraph]}
    return document, renamed(prompt, inner)


def renamed(prompt: dict[str, dict[str, Any]], inner: set[str]) -> dict[str, dict[str, Any]]:
    """With the ids that nodes have inside of a subgraph."""
    ids = {node_id: f"{INSIDE}:{node_id}" if node_id in inner else node_id for node_id in prompt}
    return {
        ids[node_id]: {
            **content,
            "inputs": {
                name: [ids[value[0]], value[1]] if isinstance(value, list) else value
                for name, value in content["inputs"].items()
            },
        }
        for node_id, content in prompt.items()
    }


@given(written())
def test_a_graph_is_read_as_what_it_was_written_from(made):
    document, expected = made
    assert convert(load_workflow(document), CATALOG) == expected
