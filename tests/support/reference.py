"""diffusers' own pipelines, as the reference for whole images."""

from pathlib import Path
from typing import Any

import torch
from transformers import CLIPTextModel, CLIPTokenizer

from support import tiny


def pipelines(folder: Path) -> tuple[Any, Any]:
    """Load diffusers' prior and decoder pipelines in float32.

    They are assembled from their parts: releases of diffusers since the deprecation of Würstchen do not find the
    classes that model_index.json names.

    Args:
        folder: Folder with wuerstchen-prior/ and wuerstchen/, in the layout of diffusers.
    Returns:
        (prior pipeline, decoder pipeline).
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
