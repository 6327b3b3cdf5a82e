# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# transformers types save_pretrained in part only, and safetensors save_file.
"""Writing of a trained model as pipelines that diffusers can load."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import save_file

from ..checkpoints.saving import save_stage_a, save_stage_b, save_stage_c
from ..geometry import EMBEDDING_SCALE, EMBEDDING_SHIFT
from ..networks.stage_a import StageA
from ..networks.stage_b import StageB
from ..networks.stage_c import StageC

if TYPE_CHECKING:
    from transformers import CLIPTextModel, CLIPTokenizer

STORED = torch.float16
"""Dtype of the weights on disk."""
_TEXT = {"text_encoder": ["transformers", "CLIPTextModel"], "tokenizer": ["transformers", "CLIPTokenizer"]}
_SCHEDULER = {"scheduler": ["diffusers", "DDPMWuerstchenScheduler"]}


def export_prior(folder: Path, stage_c: StageC, text_model: "CLIPTextModel", tokenizer: "CLIPTokenizer") -> None:
    """Write a `WuerstchenPriorPipeline`: Stage C, its text encoder and tokenizer.

    Args:
        folder: Folder of the pipeline; made where there is none.
        stage_c: Trained Stage C.
        text_model: Its text encoder.
        tokenizer: Tokenizer of the text encoder.
    """
    save_stage_c(stage_c, folder / "prior", dtype=STORED)
    _save_text(folder, text_model, tokenizer)
    index: dict[str, object] = {
        "prior": ["wuerstchen", "WuerstchenPrior"],
        "latent_mean": EMBEDDING_SCALE,
        "latent_std": EMBEDDING_SHIFT,
        "resolution_multiple": 42.67,
    }
    _save_index(folder, "WuerstchenPriorPipeline", index)


def export_decoder(
    folder: Path, stage_b: StageB, stage_a: StageA, text_model: "CLIPTextModel", tokenizer: "CLIPTokenizer"
) -> None:
    """Write a `WuerstchenDecoderPipeline`: Stages B and A, the text encoder and tokenizer of Stage B.

    Args:
        folder: Folder of the pipeline; made where there is none.
        stage_b: Trained Stage B.
        stage_a: Trained Stage A.
        text_model: Text encoder of Stage B.
        tokenizer: Tokenizer of the text encoder.
    """
    save_stage_b(stage_b, folder / "decoder", dtype=STORED)
    save_stage_a(stage_a, folder / "vqgan", dtype=STORED)
    _save_text(folder, text_model, tokenizer)
    index: dict[str, object] = {
        "decoder": ["wuerstchen", "WuerstchenDiffNeXt"],
        "vqgan": ["wuerstchen", "PaellaVQModel"],
        "latent_dim_scale": 10.67,
    }
    _save_index(folder, "WuerstchenDecoderPipeline", index)


def _save_text(folder: Path, text_model: "CLIPTextModel", tokenizer: "CLIPTokenizer") -> None:
    """Write the text encoder and tokenizer as the published ones are stored, for every version of transformers."""
    encoder, words = folder / "text_encoder", folder / "tokenizer"
    state = {f"text_model.{key}": value.to(STORED).contiguous() for key, value in text_model.state_dict().items()}
    text_model.config.architectures = ["CLIPTextModel"]
    text_model.config.save_pretrained(encoder)
    save_file(state, encoder / "model.safetensors", metadata={"format": "pt"})
    tokenizer.save_pretrained(words)
    model = json.loads((words / "tokenizer.json").read_text(encoding="utf-8"))["model"]
    (words / "vocab.json").write_text(json.dumps(model["vocab"], ensure_ascii=False), encoding="utf-8")
    merges = "".join(" ".join(pair) + "\n" for pair in model["merges"])
    (words / "merges.txt").write_text(f"#version: 0.2\n{merges}", encoding="utf-8")


def _save_index(folder: Path, pipeline: str, entries: dict[str, object]) -> None:
    """Write model_index.json and the scheduler's settings."""
    index = {"_class_name": pipeline, "_diffusers_version": "0.36.0", **entries, **_TEXT, **_SCHEDULER}
    (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    scheduler = folder / "scheduler" / "scheduler_config.json"
    scheduler.parent.mkdir(parents=True, exist_ok=True)
    settings = {"_class_name": "DDPMWuerstchenScheduler", "s": 0.008, "scaler": 1.0}
    scheduler.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
