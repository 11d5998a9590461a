"""SparseFusion: features along epipolar lines, and views by latent diffusion.

    python 24_sparsefusion.py [STEPS]

The default of 4 steps shows the moving parts and leaves noise; give some thousands to
see crates. Writes sparsefusion.png: two views that were given and the truth of two
others; below it, what the epipolar transformer expects of these two, and two samples.
"""

import sys

import torch
from PIL import Image

from unseen.data.cameras import object_cameras
from unseen.data.procedural import make_object
from unseen.encoders.epipolar import EpipolarConfig
from unseen.export.colormap import to_bytes
from unseen.geometry.views import Example, Views
from unseen.methods.sparsefusion import (
    LatentSamplingConfig,
    SparseFusion,
    SparseFusionConfig,
)
from unseen.model import Model
from unseen.networks.feature_unet import FeatureUNetConfig
from unseen.networks.image_latents import SmallLatentsConfig
from unseen.networks.resnet34 import ResNetConfig

STEPS = int(sys.argv[1]) if len(sys.argv) > 1 else 4
SIZE, BATCH, OBJECTS = 32, 4, 8

# Eight crates, eight views of each.
generator = torch.Generator().manual_seed(0)
crates = [
    make_object("crate", seed).render(object_cameras(8, generator), SIZE)
    for seed in range(OBJECTS)
]
crates = [Views(views.images, views.cameras) for views in crates]

config = SparseFusionConfig(
    EpipolarConfig(ResNetConfig(8, (1, 1)), 32, 1, 0.0, 4, 8, half_range=1.0),
    FeatureUNetConfig(32, (1, 2), 1, (False, True), heads=2, head_size=16),
    SmallLatentsConfig(width=16, halvings=1),
    image_size=SIZE,
    rays="centers",
    sampling=LatentSamplingConfig(num_steps=4 if STEPS < 1000 else 50),
)
torch.manual_seed(0)
method = SparseFusion(config)
optimizer = torch.optim.Adam(method.parameters(), lr=1e-3)

for step in range(STEPS):
    chosen = torch.randint(OBJECTS, (BATCH,), generator=generator).tolist()
    views = [crates[i][torch.randperm(8, generator=generator)[:4]] for i in chosen]
    losses = method.loss(
        Example.stack([Example(v[:3], v[3:]) for v in views]), generator
    )
    optimizer.zero_grad()
    losses.total.backward()
    optimizer.step()
    if step % 100 == 0 or step == STEPS - 1:
        terms = "  ".join(f"{k} {v:.3f}" for k, v in losses.terms.items())
        print(f"step {step:5d}  {terms}")

given, asked = crates[0][:2], crates[0][2:4]
(sample,) = Model(method.eval()).generate(given, asked.cameras, num=1, seed=0)
with torch.no_grad():  # what is expected, at the size of the latents
    side = (method.side, method.side)
    twice = Views.stack([given, given])
    color = method.look(twice, asked.cameras).color.transpose(1, 2).unflatten(-1, side)
    color = torch.nn.functional.interpolate(color, (SIZE, SIZE))

rows = [torch.cat([*given.images, *asked.images], dim=-1)]
rows += [torch.cat([*color, *sample.images], dim=-1)]
picture = to_bytes(torch.cat(rows, dim=-2)).permute(1, 2, 0).contiguous().numpy()
Image.fromarray(picture).save("sparsefusion.png")
print("sparsefusion.png: given, truth; expected, sampled")
