"""Writing a trained model in the diffusers layout, whole pipelines that diffusers loads as they are."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ..saving import save_stage_a, save_stage_b, save_stage_c
from ..stage_a import StageA
from ..stage_b import StageB
from ..stage_c import StageC

if TYPE_CHECKING:
    from transformers import CLIPTextModel, CLIPTokenizer

STORED = torch.float16
"""Dtype of the weights on disk."""
_TEXT = {"text_encoder": ["transformers", "CLIPTextModel"], "tokenizer": ["transformers", "CLIPTokenizer"]}
_SCHEDULER = {"scheduler": ["diffusers", "DDPMWuerstchenScheduler"]}


def export_prior(folder: Path, stage_c: StageC, text_model: "CLIPTextModel", tokenizer: "CLIPTokenizer") -> None:
    """A `WuerstchenPriorPipeline`: Stage C, its text encoder and tokenizer."""
    save_stage_c(stage_c, folder / "prior", dtype=STORED)
    _save_text(folder, text_model, tokenizer)
    index = {"prior": ["wuerstchen", "WuerstchenPrior"], "latent_mean": 42.0, "latent_std": 1.0}
    _save_index(folder, "WuerstchenPriorPipeline", index | {"resolution_multiple": 42.67})


def export_decoder(
    folder: Path, stage_b: StageB, stage_a: StageA, text_model: "CLIPTextModel", tokenizer: "CLIPTokenizer"
) -> None:
    """A `WuerstchenDecoderPipeline`: Stages B and A, their text encoder and tokenizer."""
    save_stage_b(stage_b, folder / "decoder", dtype=STORED)
    save_stage_a(stage_a, folder / "vqgan", dtype=STORED)
    _save_text(folder, text_model, tokenizer)
    index = {"decoder": ["wuerstchen", "WuerstchenDiffNeXt"], "vqgan": ["wuerstchen", "PaellaVQModel"]}
    _save_index(folder, "WuerstchenDecoderPipeline", index | {"latent_dim_scale": 10.67})


def _save_text(folder: Path, text_model: "CLIPTextModel", tokenizer: "CLIPTokenizer") -> None:
    text_model.to(STORED).save_pretrained(folder / "text_encoder")
    text_model.float()
    tokenizer.save_pretrained(folder / "tokenizer")


def _save_index(folder: Path, pipeline: str, entries: dict[str, object]) -> None:
    """model_index.json and the scheduler's settings, as diffusers reads them."""
    index = {"_class_name": pipeline, "_diffusers_version": "0.36.0", **entries, **_TEXT, **_SCHEDULER}
    (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    scheduler = folder / "scheduler" / "scheduler_config.json"
    scheduler.parent.mkdir(parents=True, exist_ok=True)
    settings = {"_class_name": "DDPMWuerstchenScheduler", "s": 0.008, "scaler": 1.0}
    scheduler.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
