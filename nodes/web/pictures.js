// Puts the pictures of this pack's examples into ComfyUI's input folder, when an example that loads one is opened and
// the picture is not there yet. A picture of that name that is there stays.

import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";

const LOADERS = ["LoadImage", "LoadImageMask"];
const OURS = /^wuerstchen_\w+\.png$/;
const PACK = new URL(import.meta.url).pathname.split("/extensions/")[1].split("/")[0];
const asked = new Map();  // name of a picture -> promise of whether it is in the input folder

/** Copy a picture from the folder of the examples to the input folder, and return whether it is there. */
async function copy(name) {
    const answer = await api.fetchApi(`/workflow_templates/${PACK}/${name}`);
    if (!answer.ok) return false;
    const form = new FormData();
    form.append("image", new File([await answer.blob()], name, { type: "image/png" }));
    form.append("overwrite", "true");
    return (await api.fetchApi("/upload/image", { method: "POST", body: form })).ok;
}

app.registerExtension({
    name: "wuerstchen.pictures",
    async loadedGraphNode(node) {
        const widget = LOADERS.includes(node.comfyClass) && node.widgets?.find((each) => each.name === "image");
        const name = widget && widget.value;
        const there = widget?.options?.values;
        if (!name || !OURS.test(name) || !Array.isArray(there) || there.includes(name)) return;
        if (!asked.has(name)) asked.set(name, copy(name));
        if (!(await asked.get(name))) return;
        if (!there.includes(name)) there.push(name);
        widget.value = name;
        widget.callback?.(name);
        node.setDirtyCanvas?.(true, true);
    },
});
