// A line of text under a node's fields, with an optional picture, in the classic and in the Vue nodes.

import { app } from "../../scripts/app.js";

const NAME = "wuerstchen_badge";
const LINE = 22, PICTURE = 84, MARGIN = 10;  // heights in pixels

/** Return the node of an id, also inside subgraphs ("outer:inner"); null for none. */
export function nodeOf(id) {
    let graph = app.rootGraph ?? app.graph, node = null;
    for (const part of String(id).split(":")) {
        node = graph?.getNodeById?.(part) ?? graph?.getNodeById?.(Number(part)) ?? null;
        graph = node?.subgraph;
    }
    return node;
}

/** Show a text on a node, and a picture (a data URL) where there is one. */
export function show(node, text, picture = null) {
    const badge = node[NAME] ??= added(node);
    badge.text.textContent = text;
    badge.text.title = text;
    badge.picture.style.display = picture ? "block" : "none";
    if (picture) badge.picture.src = picture;
    const height = picture ? LINE + PICTURE : LINE;
    if (height === badge.height) return;
    badge.height = height;
    badge.element.style.minHeight = `${height}px`;
    const [width, least] = node.computeSize();
    node.setSize([Math.max(node.size[0], width), Math.max(node.size[1], least)]);
    node.setDirtyCanvas(true, true);
}

function added(node) {
    const element = document.createElement("div"), text = document.createElement("div");
    const picture = document.createElement("img");
    element.className = "wuerstchen-badge";
    element.style.cssText = "display: flex; flex-direction: column; align-items: center; overflow: hidden;"
        + " font: 12px sans-serif; color: var(--input-text, #ddd); pointer-events: none;";
    text.style.cssText = `line-height: ${LINE}px; white-space: nowrap;`;
    picture.style.cssText = `height: ${PICTURE - 4}px; max-width: 100%; object-fit: contain; border-radius: 4px;`;
    element.append(text, picture);
    const badge = {element, text, picture, height: 0};
    // The classic nodes leave a margin above and below, which the height includes.
    const height = () => (badge.height || LINE) + 2 * (badge.widget?.margin ?? MARGIN);
    // Neither a workflow file nor a prompt gets it.
    const options = {serialize: false, hideOnZoom: false, margin: 2, getMinHeight: height, getMaxHeight: height};
    badge.widget = node.addDOMWidget(NAME, "badge", element, options);
    badge.widget.serialize = false;
    return badge;
}
