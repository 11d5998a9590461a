"""Scene Representation Networks: learn codes of objects, then fit the code of an image.

    python 12_srn.py [STEPS]

The default of 20 steps shows the moving parts and learns next to nothing; give some
thousands to see shapes. For real runs there is `unseen train srn-small`. Writes
srn.png: an object that was not trained on, of which the first view was given; below
it the reconstruction, and where its rays ended.
"""

import dataclasses
import sys

import torch
from PIL import Image

from unseen.data.cameras import object_cameras
from unseen.data.procedural import make_object
from unseen.export.colormap import colorize, to_bytes
from unseen.geometry.views import Example, Views
from unseen.methods.method import SampleOptions
from unseen.methods.registry import PRESETS
from unseen.methods.srn import SRN

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
preset = PRESETS["srn-small"]
config = dataclasses.replace(preset.method, image_size=SIZE, num_objects=OBJECTS)
torch.manual_seed(0)
method = SRN(config)
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
rendered = scene.render(truth.cameras, (SIZE, SIZE))

near, far = truth.cameras.near.min(), truth.cameras.far.max()
assert rendered.depth is not None  # A ray marcher knows where its rays ended.
depth = colorize(((far - rendered.depth) / (far - near)).clamp(0, 1))
rows = [torch.cat([*row], dim=-1) for row in (truth.images, rendered.color, depth)]
picture = to_bytes(torch.cat(rows, dim=-2)).permute(1, 2, 0).numpy()
Image.fromarray(picture).save("srn.png")
print("srn.png: the truth (the first view was given), the scene, its depth")
