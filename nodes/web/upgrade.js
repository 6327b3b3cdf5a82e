// Gives nodes of older workflows the sockets that they have got since, before the page reads the workflow.
//
// The page lists a node's sockets before its fields, and finds a link into a subgraph by its position in that list. So a
// new socket would lead such a link into the field before the right one.

import { app } from "../../scripts/app.js";

const SOCKETS = { WuerstchenStageCSampler: "latent", WuerstchenStageBDecode: "start" };  // the last one of each

/** Move the ends of links into a node, from a position on, by one. Links are lists in one format, objects in another. */
function shift(links, id, from) {
    for (const link of links ?? []) {
        if (Array.isArray(link) && link[3] === id && link[4] >= from) link[4] += 1;
        else if (link.target_id === id && link.target_slot >= from) link.target_slot += 1;
    }
}

function upgrade(graph) {
    for (const node of graph.nodes ?? []) {
        const name = SOCKETS[node.type];
        if (!name || !Array.isArray(node.inputs) || node.inputs.some((input) => input.name === name)) continue;
        const first = node.inputs.findIndex((input) => input.widget);
        const at = first < 0 ? node.inputs.length : first;
        shift(graph.links, node.id, at);
        node.inputs.splice(at, 0, { name, type: "LATENT", link: null });
    }
}

app.registerExtension({
    name: "wuerstchen.upgrade",
    beforeConfigureGraph(graph) {
        upgrade(graph);
        graph.definitions?.subgraphs?.forEach(upgrade);
    },
});
