"""Train a tiny pixelNeRF on the procedural world, and reconstruct an object.

    python 10_pixelnerf.py [STEPS]

The default of 20 steps shows the moving parts; a few thousand show the object. For real
runs there is `unseen train pixelnerf-small`. Writes pixelnerf.png: views of an object,
of which the first two were given, above the same views of the scene made of them.
"""

import dataclasses
import sys

import torch
from PIL import Image

from unseen.data.cameras import object_cameras
from unseen.data.procedural import make_object
from unseen.export.colormap import to_bytes
from unseen.geometry.views import Example, Views
from unseen.methods.pixelnerf import PixelNeRF
from unseen.methods.registry import PRESETS

STEPS = int(sys.argv[1]) if len(sys.argv) > 1 else 20
SIZE, BATCH, OBJECTS = 32, 2, 8

# Eight chairs, eight views of each.
generator = torch.Generator().manual_seed(0)
objects = [
    make_object("chair", seed).render(object_cameras(8, generator), SIZE)
    for seed in range(OBJECTS)
]


def draw_example() -> Example:
    """Random objects: one or two views are given, three are asked for."""
    chosen = torch.randint(OBJECTS, (BATCH,), generator=generator).tolist()
    views = [objects[i][torch.randperm(8, generator=generator)[:5]] for i in chosen]
    return Example.stack([Example(v[:2], v[2:]) for v in views])


config = dataclasses.replace(
    PRESETS["pixelnerf-small"].method,
    width=32,
    image_size=SIZE,
    context_weights=(0.5, 0.5),
)
method = PixelNeRF(config)
optimizer = torch.optim.AdamW(method.parameters(), lr=1e-3)

for step in range(STEPS):
    losses = method.loss(draw_example(), generator)
    optimizer.zero_grad()
    losses.total.backward()
    optimizer.step()
    if step % 10 == 0 or step == STEPS - 1:
        terms = "  ".join(f"{k} {v:.3f}" for k, v in losses.terms.items())
        print(f"step {step:5d}  loss {losses.total:.3f}  {terms}")

# Two views of one object make a scene at once; the seed changes nothing.
truth = objects[0]
scene = method.sample_scene(Views.stack([truth[:2]]), seeds=[0])[0]
rendered = scene.render(truth.cameras, (SIZE, SIZE)).color
rows = [torch.cat([*truth.images], dim=-1), torch.cat([*rendered], dim=-1)]
picture = to_bytes(torch.cat(rows, dim=-2)).permute(1, 2, 0).numpy()
Image.fromarray(picture).save("pixelnerf.png")
print("pixelnerf.png: above the truth (two views were given), below the scene")
