"""One picture of cocktail at 256x256 in 29 + 12 steps by diffusers: what a cold process of ours is compared with."""

import torch

from support import reference
from wuerstchen_core.checkpoints.sources import locate

prior, decoder = reference.pipelines(locate("cocktail", "C").source.parents[1])
prompt = "a large red heart on a white background"
embeddings = prior(prompt, width=256, height=256, num_inference_steps=29, guidance_scale=2.0).image_embeddings
images = decoder(embeddings, prompt, num_inference_steps=12, guidance_scale=0.0, output_type="pt").images
assert torch.isfinite(images).all()
