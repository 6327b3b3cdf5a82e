"""Takes the project's pictures from the real page: thumbnails of the workflows, the README's, and one a help page.

    PYTHONPATH=tests python tests/comfyui/pictures.py [thumbnails] [page] [help] [gallery] [stages] [lora]

with COMFYUI_DIR and COMFYUI_PYTHON as for the tests.
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from support.comfyui_page import blank_workflow, drawn_images, open_template, opened, run
from support.comfyui_server import Server, started, with_the_pack
from wuerstchen_core import (
    decode_stage_a,
    generate,
    load_stage_a,
    load_stage_b,
    load_stage_c,
    load_text_encoder,
    sample_stage_b,
    sample_stage_c,
)
from wuerstchen_core.checkpoints.presets import family
from wuerstchen_core.geometry import EMBEDDING_SCALE, EMBEDDING_SHIFT
from wuerstchen_core.previews import preview
from wuerstchen_core.schedule import SCHEDULES
from wuerstchen_nodes.headless import HeadlessHost, execute, load_workflow
from wuerstchen_nodes.headless.output_files import OutputFiles
from wuerstchen_nodes.headless.workflow import examples
from wuerstchen_nodes.registry import COMFYUI_ONLY, NODE_CLASS_MAPPINGS

ROOT = Path(__file__).parents[2]
WORKFLOWS, HELP = ROOT / "workflows", ROOT / "nodes/web/docs"
WITHOUT_WEIGHTS = "v2"
"""The workflow whose weights have to be downloaded: its thumbnail is its graph."""
WIDTH = 768
"""Of a thumbnail, at most, in pixels."""
GALLERY = [
    "a large red heart on a white background",
    "a yellow star at the left on a purple background",
    "a blue ring on a pink background",
    "a green diamond in the top right on a black background",
    "a big orange triangle at the bottom on a cyan background",
    "a tiny white cross in the bottom left on a brown background",
]
GRAPH_AREA = {"x": 60, "y": 85, "width": 1640, "height": 560}
"""Part of the page that shows a graph that was just opened."""


def thumbnails(page: Any, server: Server) -> None:
    """Draw each workflow's images side by side."""
    for name in examples.names():
        open_template(page, name)
        if name == WITHOUT_WEIGHTS:
            page.keyboard.press("Escape")  # closes the list of missing weights
            page.wait_for_timeout(500)
            _graph_alone(page).save(examples.locate(name).with_suffix(".jpg"), quality=88)
            continue
        run(page)
        drawn_images(page)
        page.wait_for_timeout(2000)  # the last outputs may still be on their way
        # node.images alone lacks the outputs of nodes that are outside the window; a loaded picture is there only
        shown = page.evaluate("app.graph.nodes.flatMap(node => app.nodeOutputs[node.id]?.images ?? node.images ?? [])")
        pictures = np.concatenate([server.view(image) for image in shown], axis=1)
        thumbnail = Image.fromarray(pictures)
        thumbnail.thumbnail((WIDTH, WIDTH))
        thumbnail.save(examples.locate(name).with_suffix(".jpg"), quality=92)


def page_itself(page: Any, server: Server) -> None:
    """The page after a run."""
    open_template(page, "text_to_image")
    run(page)
    drawn_images(page)
    _graph_alone(page).save(WORKFLOWS / "page.jpg", quality=88)


def help_pages(page: Any, server: Server) -> None:
    """Each node by itself."""
    blank_workflow(page)
    (HELP / "images").mkdir(exist_ok=True)
    for node_id in (*NODE_CLASS_MAPPINGS, *COMFYUI_ONLY):
        area = page.evaluate(
            """type => {
                app.graph.clear();
                const node = LiteGraph.createNode(type);
                node.pos = [100, 100];
                node.size[0] = Math.max(node.size[0], 270);  // or a long title is cut
                app.graph.add(node);
                app.canvas.ds.scale = 1;
                app.canvas.ds.offset = [200, 100];
                app.canvas.draw(true, true);
                return {x: 292, y: 166, width: node.size[0] + 16, height: node.size[1] + 42};
            }""",
            node_id,
        )
        page.wait_for_timeout(500)
        page.screenshot(path=HELP / "images" / f"{node_id}.png", clip=area)


def gallery(page: Any, server: Server) -> None:
    """Six prompts, drawn by cocktail's base, its mix and its aesthetic checkpoint."""
    rows = [
        [np.asarray(generate(prompt, model=model, seed=6)[0]) for prompt in GALLERY]
        for model in ("cocktail-base", "cocktail", "cocktail-aesthetic")
    ]
    picture = Image.fromarray(np.concatenate([np.concatenate(row, axis=1) for row in rows]))
    picture.save(WORKFLOWS / "gallery.jpg", quality=88)


def stages(page: Any, server: Server) -> None:
    """One picture on its way: the latents of Stages C and B in their preview colours, and the picture."""
    model, prompt, (width, height) = "cocktail", "a large red heart on a white background", (384, 256)
    text_c, text_b = load_text_encoder(model, for_stage="C"), load_text_encoder(model, for_stage="B")
    stage_c, stage_b, suits = load_stage_c(model), load_stage_b(model), family(model)
    embeddings = sample_stage_c(
        stage_c,
        text_c.encode([prompt]),
        text_c.encode([""]),
        width=width,
        height=height,
        seeds=[1],
        guidance_scale=suits.stage_c_guidance_scale,
    )
    timesteps = SCHEDULES[suits.stage_b_schedule](suits.stage_b_steps)
    latents = sample_stage_b(stage_b, embeddings, text_b.encode([prompt]), seeds=[1], timesteps=timesteps)
    shown = {
        f"Stage C: {' x '.join(map(str, embeddings.shape[1:]))}": preview(
            stage_c, (embeddings + EMBEDDING_SHIFT) / EMBEDDING_SCALE
        ),
        f"Stage B: {' x '.join(map(str, latents.shape[1:]))}": preview(stage_b, latents),
        f"Stage A: {height} x {width} pixels": decode_stage_a(load_stage_a(model), latents).movedim(1, -1),
    }
    strip = Image.new("RGB", (len(shown) * (width + 24) + 24, height + 68), "white")
    drawing = ImageDraw.Draw(strip)
    for i, (label, pixels) in enumerate(shown.items()):
        image = Image.fromarray((pixels[0].clamp(0, 1) * 255).round().byte().numpy())
        left = 24 + i * (width + 24)
        strip.paste(image.resize((width, height), Image.Resampling.NEAREST), (left, 12))
        drawing.rectangle((left, 12, left + width - 1, 11 + height), outline="#ddd")
        drawing.text((left + width / 2, height + 32), label, "black", ImageFont.load_default(18), anchor="mm")
    strip.save(WORKFLOWS / "stages.png")


def lora(page: Any, server: Server) -> None:
    """Two prompts in a colour that cocktail does not know, without and with the LoRA that comes with the package."""
    workflow, host, shown = load_workflow("lora"), HeadlessHost(OutputFiles(server.folder / "lora")), []
    for prompt in ("a large lime star on a purple background", "a lime heart at the right on a white background"):
        for strength in (0.0, 1.0):
            settings = {"Prompt.value": prompt, "Load LoRA.strength": strength}
            shown.append(execute(workflow, settings, host=host).images[0])
    Image.fromarray(np.concatenate([np.asarray(Image.open(path)) for path in shown], axis=1)).save(
        WORKFLOWS / "lora.jpg", quality=92
    )


def _graph_alone(page: Any) -> Image.Image:
    """The page without its frame, and without what it tells of the last run."""
    page.wait_for_timeout(6000)
    with tempfile.NamedTemporaryFile(suffix=".png") as file:
        page.screenshot(path=file.name, clip=GRAPH_AREA)
        return Image.open(file.name).convert("RGB")


PARTS = {
    "thumbnails": thumbnails,
    "page": page_itself,
    "help": help_pages,
    "gallery": gallery,
    "stages": stages,
    "lora": lora,
}


def main() -> None:
    wanted = sys.argv[1:] or list(PARTS)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with_the_pack(folder)
        with started(folder, "--preview-method", "auto") as server, opened(server.url) as page:
            for part in wanted:
                PARTS[part](page, server)


if __name__ == "__main__":
    main()
