"""Train a tiny DFM on the procedural world, and sample scenes from one view.

    python 05_train_tiny.py [STEPS]

The default of 20 steps shows the moving parts and learns next to nothing; give more to
see the sample take shape. For real runs there is `unseen train`. Writes train_tiny.png:
views of an object, of which the first was given, above the same views of a sample.
"""

import sys

import torch
from PIL import Image

from unseen.data.cameras import object_cameras
from unseen.data.procedural import make_object
from unseen.encoders.frustum import FrustumConfig
from unseen.export.colormap import to_bytes
from unseen.geometry.views import Example, Views
from unseen.methods.dfm import DFM, DFMConfig, SampleConfig
from unseen.networks.unet2d import UNet2dConfig

STEPS = int(sys.argv[1]) if len(sys.argv) > 1 else 20
SIZE, BATCH, OBJECTS = 32, 4, 16

# Sixteen crates, eight views of each.
generator = torch.Generator().manual_seed(0)
objects = [
    make_object("crate", seed).render(object_cameras(8, generator), SIZE)
    for seed in range(OBJECTS)
]


def draw_example() -> Example:
    """Random objects, and random views of them."""
    chosen = torch.randint(OBJECTS, (BATCH,), generator=generator).tolist()
    views = [objects[i][torch.randperm(8, generator=generator)[:3]] for i in chosen]
    return Example.stack([Example(v[:1], v[1:]) for v in views])


unet = UNet2dConfig(channels=(16, 32), num_blocks=1, attention=(False, False))
scene = FrustumConfig(unet, num_slices=16, num_samples=16, num_render_samples=32)
sampling = SampleConfig(num_steps=10, azimuths=(180.0,))
method = DFM(DFMConfig(scene, target_pixels=256, other_pixels=128, sampling=sampling))
optimizer = torch.optim.AdamW(method.parameters(), lr=1e-3)

for step in range(STEPS):
    losses = method.loss(draw_example(), generator)
    optimizer.zero_grad()
    losses.total.backward()
    optimizer.step()
    if step % 10 == 0 or step == STEPS - 1:
        terms = "  ".join(f"{k} {v:.3f}" for k, v in losses.terms.items())
        print(f"step {step:5d}  loss {losses.total:.3f}  {terms}")

# One context view of one object: a batch of one, so (batch, view) is (1, 1).
method.eval()
truth = objects[0]
context = Views.stack([truth[:1]])
sample = method.sample_scene(context, seeds=[0])[0]
with torch.no_grad():
    rendered = sample.render(truth.cameras, (SIZE, SIZE)).color
rows = [torch.cat([*truth.images], dim=-1), torch.cat([*rendered], dim=-1)]
picture = to_bytes(torch.cat(rows, dim=-2)).permute(1, 2, 0).numpy()
Image.fromarray(picture).save("train_tiny.png")
print("train_tiny.png: above the truth (the first view was given), below a sample")
