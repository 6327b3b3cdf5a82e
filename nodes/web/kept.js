// Shows on Keep on Disk what it did: from disk or newly kept, the size, the age and a thumbnail. Its menu, and the
// toolbox above it when it is selected, can drop the value.

import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";
import { nodeOf, show } from "./badges.js";

const CLASS = "WuerstchenKeep", SHOWN = "wuerstchen_kept", FORGET = "wuerstchen.forget";
const STATES = {hit: "From disk", kept: "Kept", forgotten: "Forgotten"};
const UNITS = [["day", 86400], ["hour", 3600], ["minute", 60]];
const nodes = new Set();  // nodes that show an age

function size(bytes) {
    return bytes < 1e6 ? `${Math.max(1, Math.round(bytes / 1e3))} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}

function age(made) {
    const seconds = Math.max(0, Date.now() / 1000 - made);
    const [unit, length] = UNITS.find(([, each]) => seconds >= each) ?? [];
    if (!unit) return "just now";
    const count = Math.floor(seconds / length);
    return `${count} ${unit}${count > 1 ? "s" : ""} ago`;
}

function refresh(node) {
    const told = node[SHOWN];
    if (told.state === "off") return show(node, "Off: nothing is kept");
    if (told.state === "refused") return show(node, "Not kept");
    if (told.state === "forgotten") return show(node, STATES.forgotten);
    show(node, `${STATES[told.state]}: ${size(told.bytes)}, made ${age(told.made)}`, told.thumbnail);
}

async function forget(node) {
    const key = node[SHOWN].key;
    const answer = await api.fetchApi("/wuerstchen/forget", {
        method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify({key}),
    });
    if (!answer.ok) return;
    node[SHOWN] = {state: "forgotten"};
    refresh(node);
}

app.registerExtension({
    name: "wuerstchen.kept",
    commands: [{
        id: FORGET,
        label: "Forget this",
        icon: "pi pi-eraser",
        function: () => Object.values(app.canvas.selected_nodes).filter(node => node[SHOWN]?.key).forEach(forget),
    }],
    getSelectionToolboxCommands: (item) => item?.[SHOWN]?.key ? [FORGET] : [],
    setup() {
        api.addEventListener("executed", ({detail}) => {
            const [told] = detail.output?.[SHOWN] ?? [];
            const node = told && nodeOf(detail.display_node ?? detail.node);
            if (!node) return;
            if (!node[SHOWN]) nodes.add(new WeakRef(node));
            node[SHOWN] = told;
            refresh(node);
        });
        setInterval(() => {
            for (const each of nodes) {
                const node = each.deref();
                if (node?.graph) refresh(node);
                else nodes.delete(each);
            }
        }, 30_000);
    },
    nodeCreated(node) {
        if (node.comfyClass !== CLASS) return;
        const extra = node.getExtraMenuOptions;
        node.getExtraMenuOptions = function (canvas, options) {
            const more = extra?.apply(this, arguments);
            if (this[SHOWN]?.key) options.unshift({content: "Forget this", callback: () => forget(this)}, null);
            return more;
        };
    },
});
