"""Weights of words against ComfyUI's own arithmetic on the same text encoder."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from support import tiny
from support.comfyui_graphs import add, saved
from support.comfyui_server import Prompt, Server
from wuerstchen_core import load_embedding, load_stage_c, load_text_encoder, sample_stage_c, v2_timesteps

PROMPTS = [
    "a red star",
    "a (red:1.3) star",
    "a ((red)) star",
    "a (big (red:0.4) shiny) star",
    "((nested:1.2) and (more:-0.5):0.9)",
    r"literal \(brackets\) and (weighed \(inside\):1.4)",
    "(no number:) (two: colons:1.2) (:1.2) (1e-1:1e-1)",
    "embedding:cat on a sofa",
    "(embedding:cat:1.5), and embedding:cat, again",
    "a (word:1.0) of weight one",
    "",
    "(:1.1)",
    "x" * 200,
    "a photograph of " * 20,
    "(heavy words here:1.2) " * 12,
    "short (b:2) words " * 9,
]


def random_prompt(chance: random.Random, depth: int = 0) -> str:
    """Return words, weighed and nested at random, with balanced brackets."""
    pieces = []
    for _ in range(chance.randint(1, 6)):
        words = " ".join(
            chance.choice(["red", "star", "on", "a", "blue", "extraordinarily", r"\(x\)"]) for _ in range(4)
        )
        kind = chance.random()
        if depth < 3 and kind < 0.4:
            inside = random_prompt(chance, depth + 1)
            pieces.append(f"({inside})" if kind < 0.15 else f"({inside}:{chance.choice([0, 0.5, 1, 1.25, -1])})")
        else:
            pieces.append("embedding:cat" if kind > 0.95 else words)
    return " ".join(pieces)


def test_weights_long_prompts_and_embeddings_are_those_of_comfyui(tmp_path):
    tiny.save_text(tmp_path)
    (tmp_path / "embeddings").mkdir()
    vectors = torch.randn(3, 32, generator=torch.Generator().manual_seed(0))
    save_file({"clip_g": vectors}, tmp_path / "embeddings/cat.safetensors")
    chance = random.Random(0)
    prompts = [*PROMPTS, *(random_prompt(chance) for _ in range(150))]
    python = os.environ.get("COMFYUI_PYTHON", sys.executable)
    script = Path(__file__).with_name("weights.py")
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [python, script, tmp_path],
        input=json.dumps(prompts),
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    results = json.loads(done.stdout.splitlines()[-1])
    for prompt, result in zip(prompts, results, strict=True):
        assert result["tokens"] == result["expected"], prompt
        assert result["error"] < 1e-6, (prompt, result)
    assert {77, 154} < {result["tokens"] for result in results}


def test_an_embedding_in_comfyuis_folder_is_read_anew_when_it_changes(server: Server):
    folder = server.folder / "models/embeddings"
    folder.mkdir(parents=True, exist_ok=True)
    encoder = load_text_encoder("cocktail", for_stage="C")
    text = "a (embedding:heart:1.2) on a white background"
    prompt: Prompt = {"1": {"class_type": "WuerstchenLoadStageC", "inputs": {"model": "cocktail", "dtype": "float32"}}}
    loader = add(prompt, "WuerstchenLoadTextEncoder", model="cocktail", for_stage="C")
    encode = add(prompt, "WuerstchenTextEncode", text_encoder=[loader, 0], text=text, weights="on")
    settings = {"seed": 3, "steps": 2, "schedule": "v2", "cfg": 1.0, "width": 256, "height": 256, "batch_size": 1}
    links = {"stage_c": ["1", 0], "positive": [encode, 0], "negative": [encode, 0]}
    sampler = add(prompt, "WuerstchenStageCSampler", **links, **settings)
    for seed in (0, 1):
        vectors = torch.randn(2, encoder.dim, generator=torch.Generator().manual_seed(seed))
        save_file({"clip_g": vectors}, folder / "heart.safetensors")
        os.utime(folder / "heart.safetensors", (seed + 1, seed + 1))
        embeddings = {"heart": load_embedding(folder / "heart.safetensors")}
        positive = encoder.encode([text], weights=True, embeddings=embeddings)
        expected = sample_stage_c(
            load_stage_c("cocktail", dtype=torch.float32),
            positive,
            width=256,
            height=256,
            seeds=[3],
            timesteps=v2_timesteps(2),
            guidance_scale=1.0,
        )
        assert tiny.relative_error(saved(server, prompt, sampler), expected) < 1e-4
