"""Train a tiny VisionNeRF on the procedural world, and reconstruct from one image.

    python 11_visionnerf.py [STEPS]

The default of 20 steps shows the moving parts; a few thousand show the object. For real
runs there is `unseen train visionnerf-small`. Writes visionnerf.png: views of an
object, of which the first was given, above the same views of the scene made of it.
"""

import dataclasses
import sys

import torch
from PIL import Image

from unseen.data.cameras import object_cameras
from unseen.data.procedural import make_object
from unseen.export.colormap import to_bytes
from unseen.geometry.views import Example, Views
from unseen.methods.registry import PRESETS
from unseen.methods.visionnerf import VisionNeRF

STEPS = int(sys.argv[1]) if len(sys.argv) > 1 else 20
SIZE, BATCH, OBJECTS = 32, 2, 8

# Eight chairs, six views of each.
generator = torch.Generator().manual_seed(0)
objects = [
    make_object("chair", seed).render(object_cameras(6, generator), SIZE)
    for seed in range(OBJECTS)
]


def draw_example() -> Example:
    """Random objects: one view is given, two are asked for."""
    chosen = torch.randint(OBJECTS, (BATCH,), generator=generator).tolist()
    views = [objects[i][torch.randperm(6, generator=generator)[:3]] for i in chosen]
    return Example.stack([Example(v[:1], v[1:]) for v in views])


# The transformer's position embedding is resized to images of another size.
config = dataclasses.replace(
    PRESETS["visionnerf-small"].method, width=32, image_size=SIZE
)
method = VisionNeRF(config)
optimizer = torch.optim.AdamW(method.parameters(), lr=1e-3)

for step in range(STEPS):
    losses = method.loss(draw_example(), generator)
    optimizer.zero_grad()
    losses.total.backward()
    optimizer.step()
    if step % 10 == 0 or step == STEPS - 1:
        terms = "  ".join(f"{k} {v:.3f}" for k, v in losses.terms.items())
        print(f"step {step:5d}  loss {losses.total:.3f}  {terms}")

# One view of one object makes a scene at once; the seed changes nothing.
truth = objects[0]
scene = method.sample_scene(Views.stack([truth[:1]]), seeds=[0])[0]
rendered = scene.render(truth.cameras, (SIZE, SIZE)).color
rows = [torch.cat([*truth.images], dim=-1), torch.cat([*rendered], dim=-1)]
picture = to_bytes(torch.cat(rows, dim=-2)).permute(1, 2, 0).numpy()
Image.fromarray(picture).save("visionnerf.png")
print("visionnerf.png: above the truth (the first view was given), below the scene")
