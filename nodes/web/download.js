// Turns Download Weights back to saying the size: after each run, and when a workflow is opened, so that a file that
// someone shared never downloads unasked.

import { app } from "../../scripts/app.js";

app.registerExtension({
    name: "wuerstchen.download",
    nodeCreated(node) {
        if (node.comfyClass !== "WuerstchenDownload") return;
        const asked = node.widgets?.find((widget) => widget.name === "download");
        if (!asked) return;
        node.setSize([Math.max(node.size[0], 380), Math.max(node.size[1], 220)]);  // room for what it says
        const ask = () => { asked.value = false; };
        const queued = asked.afterQueued;
        asked.afterQueued = function (...given) {
            queued?.apply(this, given);
            ask();
        };
        const configured = node.onConfigure;
        node.onConfigure = function (...given) {
            configured?.apply(this, given);
            ask();
        };
    },
});
