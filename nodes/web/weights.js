// Turns "weights" of Text Encode on in new nodes. Nodes of a workflow from before that field keep it off, so that they
// give the same images.

import { app } from "../../scripts/app.js";

let reading = false;  // whether the page builds nodes from a prompt in the API format

app.registerExtension({
    name: "wuerstchen.weights",
    setup() {
        const load = app.loadApiJson;
        app.loadApiJson = function (...given) {
            reading = true;
            try {
                return load.apply(this, given);
            } finally {
                reading = false;
            }
        };
    },
    nodeCreated(node) {
        if (node.comfyClass !== "WuerstchenTextEncode") return;
        const weights = node.widgets?.find((widget) => widget.name === "weights");
        if (!weights) return;
        if (!reading) weights.value = "on";
        const configured = node.onConfigure;
        node.onConfigure = function (saved, ...more) {
            configured?.call(this, saved, ...more);
            const count = saved?.widgets_values?.length ?? 0;
            if (count <= this.widgets.indexOf(weights)) weights.value = "off";
        };
    },
});
