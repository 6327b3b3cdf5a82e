"""diffusers' own pipelines over checkpoints in the diffusers layout: the reference that whole pictures are held to."""

from pathlib import Path
from typing import Any

import torch
from transformers import CLIPTextModel, CLIPTokenizer

from support import tiny


def pipelines(folder: Path) -> tuple[Any, Any]:
    """(prior pipeline, decoder pipeline) in float32 from `folder`/wuerstchen-prior and `folder`/wuerstchen.

    They are put together from their parts: diffusers' releases since the deprecation no longer find the classes that
    model_index.json names.
    """
    diffusers = tiny.diffusers()
    prior, decoder = folder / "wuerstchen-prior", folder / "wuerstchen"

    def network(module: str, name: str, part: Path) -> Any:
        return getattr(tiny.diffusers_module(module), name).from_pretrained(part).float()

    def text(part: Path) -> dict[str, Any]:
        model = CLIPTextModel.from_pretrained(part / "text_encoder", dtype=torch.float32)
        return {"tokenizer": CLIPTokenizer.from_pretrained(part / "tokenizer"), "text_encoder": model}

    built = (
        diffusers.WuerstchenPriorPipeline(
            prior=network("modeling_wuerstchen_prior", "WuerstchenPrior", prior / "prior"),
            scheduler=diffusers.DDPMWuerstchenScheduler.from_pretrained(prior / "scheduler"),
            **text(prior),
        ),
        diffusers.WuerstchenDecoderPipeline(
            decoder=network("modeling_wuerstchen_diffnext", "WuerstchenDiffNeXt", decoder / "decoder"),
            vqgan=network("modeling_paella_vq_model", "PaellaVQModel", decoder / "vqgan"),
            scheduler=diffusers.DDPMWuerstchenScheduler.from_pretrained(decoder / "scheduler"),
            **text(decoder),
        ),
    )
    for pipeline in built:
        pipeline.set_progress_bar_config(disable=True)
    return built
