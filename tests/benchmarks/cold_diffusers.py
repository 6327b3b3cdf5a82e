"""One picture of cocktail at 256x256 by diffusers, in a process of its own: what a cold run is compared with."""

import torch

from support import reference
from wuerstchen_core.checkpoints.sources import locate

prior, decoder = reference.pipelines(locate("cocktail", "C").source.parents[1])
embeddings = prior("a large red heart on a white background", width=256, height=256).image_embeddings
images = decoder(embeddings, "a large red heart on a white background", guidance_scale=0.0, output_type="pt").images
assert torch.isfinite(images).all()
