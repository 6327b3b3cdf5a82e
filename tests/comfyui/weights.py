"""Encodes prompts by ComfyUI's own tokens and weights on this project's text encoder, and compares the results.

    $COMFYUI_PYTHON tests/comfyui/weights.py FOLDER

with COMFYUI_DIR as for the tests; FOLDER has a text encoder, its tokenizer and `embeddings/`. It reads a JSON list of
prompts from stdin and prints one of {"tokens", "expected", "error"}: numbers of tokens, and the relative error.
"""
# pyright: reportMissingImports=false

import json
import os
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [os.environ["COMFYUI_DIR"], str(ROOT)]


def main(folder: Path) -> None:
    sys.argv = [sys.argv[0], "--cpu"]
    import comfy.options

    comfy.options.enable_args_parsing()
    import torch
    from comfy import sd1_clip

    from wuerstchen_core import load_embedding, load_text_encoder

    encoder = load_text_encoder(folder)
    start, end, pad = encoder.tokenizer.start, encoder.tokenizer.end, encoder.tokenizer.pad
    embeddings = {path.stem: load_embedding(path) for path in (folder / "embeddings").glob("*.safetensors")}

    class OnThisEncoder(sd1_clip.ClipTokenWeightEncoder):
        special_tokens = {"start": start, "end": end, "pad": pad}  # noqa: RUF012

        def encode(self, rows: list[list[Any]]) -> tuple[Any, None]:
            ids = torch.tensor([[pad if isinstance(each, torch.Tensor) else each for each in row] for row in rows])
            ends = [next(i for i, each in enumerate(row) if type(each) is int and each == end) for row in rows]
            mask = torch.tensor(
                [[int(i <= last) for i in range(len(row))] for row, last in zip(rows, ends, strict=True)]
            )
            vectors = {
                (r, c): each
                for r, row in enumerate(rows)
                for c, each in enumerate(row)
                if isinstance(each, torch.Tensor)
            }
            with torch.no_grad(), encoder._vectors_in_place(vectors):
                return encoder._hidden(ids, mask), None

    tokenizer = sd1_clip.SDTokenizer(
        str(folder / "tokenizer"),
        max_length=encoder.max_tokens,
        pad_token=pad,
        embedding_directory=str(folder / "embeddings"),
        embedding_size=encoder.dim,
        embedding_key="clip_g",
    )
    found = []
    for prompt in json.load(sys.stdin):
        ours = encoder.encode([prompt], weights=True, embeddings=embeddings)
        theirs, _ = OnThisEncoder().encode_token_weights(tokenizer.tokenize_with_weights(prompt))
        same = ours.shape == theirs.shape
        error = float((ours - theirs).abs().max() / theirs.abs().max()) if same else None
        found.append({"tokens": ours.shape[1], "expected": theirs.shape[1], "error": error})
    print(json.dumps(found))


main(Path(sys.argv[1]))
