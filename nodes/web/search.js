// Lets the node search find this pack by words that are not in a node's title, such as "prior".
//
// Front ends that know SEARCH_ALIASES search those. Older ones search titles only, so in their lists of nodes the words
// follow the title. A node that is added gets its title without them.

import { app } from "../../scripts/app.js";

const WORDS = {
    WuerstchenLoadTextEncoder: "CLIP",
    WuerstchenLoadStageC: "prior, cascade",
    WuerstchenLoadStageB: "cascade, decoder",
    WuerstchenLoadStageA: "cascade, VAE",
    WuerstchenLoadImageEncoder: "img2img",
    WuerstchenTextEncode: "CLIP",
    WuerstchenStageCSampler: "prior, cascade",
    WuerstchenStageBDecode: "cascade, decoder",
    WuerstchenStageADecode: "cascade, VAE",
    WuerstchenStageAEncode: "img2img, VAE",
    WuerstchenImageEncode: "img2img",
    WuerstchenCheckpointInterpolate: "merge",
    WuerstchenSaveStageC: "prior",
    WuerstchenEmptyLatent: "cascade",
};

const suffix = (id) => ` (${WORDS[id]})`;

app.registerExtension({
    name: "wuerstchen.search",
    beforeRegisterVueAppNodeDefs(definitions) {
        definitions.forEach((definition, i) => {
            if (!(definition.name in WORDS) || definition.search_aliases) return;
            definitions[i] = {...definition, display_name: definition.display_name + suffix(definition.name)};
        });
    },
    nodeCreated(node) {
        if (node.comfyClass in WORDS && node.title.endsWith(suffix(node.comfyClass)))
            node.title = node.title.slice(0, -suffix(node.comfyClass).length);
    },
});
