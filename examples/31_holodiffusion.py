"""HoloDiffusion: a diffusion model of feature volumes, from images alone.

    python 31_holodiffusion.py [STEPS]

The default of 3 steps shows the moving parts; give 2000 to see crates. Writes holo.png:
views of an object and what is made of its first three, above two scenes of noise.
"""

import sys

import torch
from PIL import Image

from unseen.data.cameras import object_cameras
from unseen.data.procedural import make_object
from unseen.encoders.unprojection import UnprojectionConfig
from unseen.export.colormap import to_bytes
from unseen.geometry.views import Example, Views
from unseen.methods.holodiffusion import HoloDiffusion, HoloDiffusionConfig
from unseen.networks.render_mlp import RenderMLPConfig
from unseen.networks.resnet34 import ResNetConfig
from unseen.networks.unet3d import UNet3dConfig
from unseen.rendering.coarse_fine import CoarseFineSampling

STEPS = int(sys.argv[1]) if len(sys.argv) > 1 else 3
SIZE, BATCH, OBJECTS = 32, 2, 8

# Eight crates, six views of each; every crate fits into the unit ball.
generator = torch.Generator().manual_seed(0)
objects = []
for seed in range(OBJECTS):
    cameras = object_cameras(6, generator)
    objects.append(make_object("crate", seed).render(cameras, SIZE))

config = HoloDiffusionConfig(
    UnprojectionConfig(ResNetConfig(16, (1, 1)), SIZE, projection=8, width=32),
    UNet3dConfig(16, (1, 2), 1, (False, False), num_groups=4),
    RenderMLPConfig(features=16, width=32, layers=2, skip=0),
    resolution=8,
    extent=2.0,
    image_size=SIZE,
    sampling=CoarseFineSampling("endpoints", 16, 8, 0),
    density_noise=0.0,
    rays=128,
    num_steps=10,
)
torch.manual_seed(0)
method = HoloDiffusion(config)
optimizer = torch.optim.Adam(method.parameters(), lr=2e-3)

for step in range(STEPS):
    chosen = torch.randint(OBJECTS, (BATCH,), generator=generator).tolist()
    shuffled = [objects[i][torch.randperm(6, generator=generator)] for i in chosen]
    example = Example.stack([Example(views[:4], views[4:]) for views in shuffled])
    losses = method.loss(example, generator)
    optimizer.zero_grad()
    losses.total.backward()
    optimizer.step()
    if step % 10 == 0 or step == STEPS - 1:
        terms = "  ".join(f"{k} {v:.3f}" for k, v in losses.terms.items())
        print(f"step {step:5d}  {terms}")

# With views, the scene is what they show; without (batch, 0), it is drawn from noise.
truth = objects[0]
given = Views.stack([truth[:3]])
nothing = given[:, :0]
scenes = [method.sample_scene(given, seeds=[0])[0]]
scenes += [method.sample_scene(nothing, seeds=[seed])[0] for seed in (0, 1)]
rows = [truth.images]
with torch.no_grad():
    rows += [scene.render(truth.cameras, (SIZE, SIZE)).color for scene in scenes]
picture = to_bytes(torch.cat([torch.cat([*row], dim=-1) for row in rows], dim=-2))
Image.fromarray(picture.permute(1, 2, 0).contiguous().numpy()).save("holo.png")
print("holo.png: the truth, what three views make, two scenes of noise")
