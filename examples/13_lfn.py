"""Light Field Networks: the colour of a ray in one evaluation, and depth for free.

    python 13_lfn.py [STEPS]

The default of 20 steps shows the moving parts and learns next to nothing; give some
thousands to see shapes. For real runs there is `unseen train lfn-small`. Writes
lfn.png: an object that was not trained on, of which the first view was given; below
it the reconstruction, and the depth that the derivatives of the light field tell.
"""

import dataclasses
import sys
import time

import torch
from PIL import Image

from unseen.data.cameras import object_cameras
from unseen.data.procedural import make_object
from unseen.export.colormap import colorize, to_bytes
from unseen.geometry.views import Example, Views
from unseen.methods.lfn import LFN
from unseen.methods.method import SampleOptions
from unseen.methods.registry import PRESETS

STEPS = int(sys.argv[1]) if len(sys.argv) > 1 else 20
SIZE, BATCH, OBJECTS = 32, 4, 16

# Sixteen crates to train on, eight views of each, and one that comes later.
generator = torch.Generator().manual_seed(0)
crates = [
    make_object("crate", seed).render(object_cameras(8, generator), SIZE)
    for seed in range(OBJECTS + 1)
]


def draw_example() -> Example:
    """Random objects, and two random views of each; `objects` says which they are."""
    chosen = torch.randint(OBJECTS, (BATCH,), generator=generator)
    views = [
        crates[i][torch.randperm(8, generator=generator)[:2]] for i in chosen.tolist()
    ]
    both = Views.stack(views)
    return Example(both[:, :1], both[:, 1:], chosen)


# The small preset, with a code for each crate.
preset = PRESETS["lfn-small"]
config = dataclasses.replace(preset.method, image_size=SIZE, num_objects=OBJECTS)
torch.manual_seed(0)
method = LFN(config)
optimizer = torch.optim.Adam(method.parameters(), lr=preset.train.learning_rate)

for step in range(STEPS):
    losses = method.loss(draw_example(), generator)
    optimizer.zero_grad()
    losses.total.backward()
    optimizer.step()
    if step % 10 == 0 or step == STEPS - 1:
        terms = "  ".join(f"{k} {v:.4f}" for k, v in losses.terms.items())
        print(f"step {step:5d}  loss {losses.total:.2f}  {terms}")

# One view of the crate that was kept back. Its code is found by optimisation.
truth = crates[-1]
context = Views.stack([truth[:1]])
options = SampleOptions(num_steps=min(STEPS, 200))
scene = method.sample_scene(context, seeds=[0], options=options)[0]

started = time.perf_counter()
color = scene.render(truth.cameras, (SIZE, SIZE)).color
print(f"eight frames in {1e3 * (time.perf_counter() - started):.1f} ms")
near, far = truth.cameras.near[:, None, None], truth.cameras.far[:, None, None]
depth = scene.depth_map(truth.cameras, (SIZE, SIZE))
rows = [truth.images, color, colorize((far - depth) / (far - near))]
rows = [torch.cat([*row], dim=-1) for row in rows]
picture = to_bytes(torch.cat(rows, dim=-2)).permute(1, 2, 0).numpy()
Image.fromarray(picture).save("lfn.png")
print("lfn.png: the truth (the first view was given), the scene, its depth")
