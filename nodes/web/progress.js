// Shows on the samplers, while they run, the stage, the step and the seconds that are left.

import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";
import { nodeOf, show } from "./badges.js";

const STAGES = {WuerstchenStageCSampler: "Stage C", WuerstchenStageBDecode: "Stage B"};
let running = null;  // {node, stage, first: milliseconds at the end of step `since`, since, began, step}

function onProgress({detail}) {
    const node = nodeOf(detail.display_node ?? detail.node), stage = STAGES[node?.comfyClass];
    if (!stage || !detail.max) return;
    const now = performance.now();
    if (running?.node !== node || detail.value <= running.step)
        running = {node, stage, first: now, since: detail.value, began: running?.node === node ? running.began : now};
    running.step = detail.value;
    if (detail.value >= detail.max) {
        const seconds = (now - running.began) / 1000;
        show(node, `${stage}: ${detail.max} step${detail.max > 1 ? "s" : ""} in ${seconds.toFixed(1)} s`);
        running = null;
        return;
    }
    const done = detail.value - running.since;
    const left = done ? `, ${Math.ceil((now - running.first) / 1000 / done * (detail.max - detail.value))} s left` : "";
    show(node, `${stage}: step ${detail.value} of ${detail.max}${left}`);
}

function onExecuting({detail}) {
    const id = typeof detail === "object" ? detail?.display_node ?? detail?.node : detail;
    const node = id == null ? null : nodeOf(id), stage = STAGES[node?.comfyClass];
    running = stage ? {node, stage, first: performance.now(), since: 0, began: performance.now(), step: -1} : null;
}

function onStopped() {
    if (running) show(running.node, `${running.stage}: stopped at step ${Math.max(0, running.step)}`);
    running = null;
}

app.registerExtension({
    name: "wuerstchen.progress",
    setup() {
        api.addEventListener("executing", onExecuting);
        api.addEventListener("progress", onProgress);
        api.addEventListener("execution_error", onStopped);
        api.addEventListener("execution_interrupted", onStopped);
    },
});
