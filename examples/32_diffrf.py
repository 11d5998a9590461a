"""DiffRF: a diffusion model of explicit radiance fields on voxel grids.

    python 32_diffrf.py [STEPS]

The default of 3 steps shows the moving parts; give 3000 to see crates. From above,
diffrf.png shows an object, the grid that was fitted to it, a sample of noise, the
object completed above its lower half, and a sample that was guided by one image.
"""

import sys
from pathlib import Path

import torch
from PIL import Image

from unseen.data.cameras import object_cameras
from unseen.data.procedural import make_object
from unseen.encoders.grid_fitting import GridFitConfig
from unseen.export.colormap import to_bytes
from unseen.geometry.views import Example, Views
from unseen.methods.diffrf import DiffRF, DiffRFConfig
from unseen.methods.method import TrainingScenes
from unseen.networks.unet3d import UNet3dConfig
from unseen.scenes.grid_space import GridSpace

STEPS = int(sys.argv[1]) if len(sys.argv) > 1 else 3
SIZE, BATCH, OBJECTS = 32, 2, 4

generator = torch.Generator().manual_seed(0)
objects = []
for seed in range(OBJECTS):
    cameras = object_cameras(8, generator)
    objects.append(make_object("crate", seed).render(cameras, SIZE))

config = DiffRFConfig(
    UNet3dConfig(32, (1, 2), 1, (False, True), num_groups=8, patch=2, zero_start=True),
    "grid",
    GridSpace(resolution=16, num_samples=32),
    image_size=SIZE,
    fit=GridFitConfig(num_steps=50, rays=128),
    rays=64,
    num_steps=10,
    guiding_rays=128,
)
torch.manual_seed(0)
method = DiffRF(config)

# First a grid for every object, kept in a folder: a second call finds it there.
names = tuple(f"crate-{seed}" for seed in range(OBJECTS))
scenes = TrainingScenes(names, lambda number: objects[number])
method.prepare(scenes, Path("grids"), lambda done, total: print(f"{done} / {total}"))
assert method.grids is not None

optimizer = torch.optim.Adam(method.parameters(), lr=1e-3)
for step in range(STEPS):
    chosen = torch.randint(OBJECTS, (BATCH,), generator=generator)
    pairs = [Example(objects[i][:1], objects[i][1:4]) for i in chosen.tolist()]
    views = Example.stack(pairs)
    losses = method.loss(Example(views.context, views.target, chosen), generator)
    optimizer.zero_grad()
    losses.total.backward()
    optimizer.step()
    if step % 10 == 0 or step == STEPS - 1:
        terms = "  ".join(f"{k} {v:.3f}" for k, v in losses.terms.items())
        print(f"step {step:5d}  {terms}")

truth, image = objects[0], Views.stack([objects[0][:1]])
fitted = config.grid.scene(method.grids.read(torch.tensor([0])))[0]
kept = torch.zeros(16, 16, 16, dtype=torch.bool)
kept[:8] = True  # the first axis is the world's z: the lower half stays
found = [fitted, method.sample_scene(image[:, :0], seeds=[0])[0]]
found += [method.complete_scene(fitted, kept, seeds=[0])[0]]
found += [method.sample_scene(image, seeds=[0])[0]]
rows = [
    truth.images,
    *(s.render(truth.cameras, (SIZE, SIZE)).color.detach() for s in found),
]
picture = to_bytes(torch.cat([torch.cat([*row], dim=-1) for row in rows], dim=-2))
Image.fromarray(picture.permute(1, 2, 0).contiguous().numpy()).save("diffrf.png")
