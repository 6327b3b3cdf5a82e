// Shows the nodes of this pack in the page's language.
//
// ComfyUI's server collects the texts of `locales/` for the page. Front ends 1.31 to 1.34 load their own texts of a
// language later, in place of these. Other front ends show them by themselves, and then this changes nothing.

import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";

let texts = {};  // {language: {nodeDefs: {node id: {display_name, description, inputs, outputs}}}}

/** Put the texts of the page's language into a node's definition. */
function translate(definition) {
    if (!definition.name.startsWith("Wuerstchen")) return;
    const told = texts[app.extensionManager.setting.get("Comfy.Locale")]?.nodeDefs?.[definition.name];
    if (!told) return;
    definition.display_name = told.display_name;
    definition.description = told.description;
    for (const inputs of Object.values(definition.input ?? {}))
        for (const [name, [, options]] of Object.entries(inputs))
            if (options && told.inputs?.[name]) options.tooltip = told.inputs[name].tooltip;
    definition.output_tooltips = definition.output_tooltips?.map((tooltip, i) => told.outputs?.[i]?.tooltip ?? tooltip);
}

app.registerExtension({
    name: "wuerstchen.translations",
    async init() {
        const answer = await api.fetchApi("/i18n");
        if (answer.ok) texts = await answer.json();
    },
    beforeRegisterNodeDef(nodeType, definition) {
        translate(definition);
    },
});
