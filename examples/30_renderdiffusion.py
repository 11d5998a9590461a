"""RenderDiffusion: learn objects from single views; sample, reconstruct, inpaint.

    python 30_renderdiffusion.py [STEPS]

The default of 10 steps shows the moving parts and leaves fog; give some thousands to
see crates. Writes renderdiffusion.png: a crate, above two that the model makes up, a
reconstruction, and the crate with its right half resampled, from four sides.
"""

import sys

import torch
from PIL import Image

from unseen.data.cameras import object_cameras, turn_around
from unseen.data.procedural import make_object
from unseen.export.colormap import to_bytes
from unseen.geometry.cameras import Cameras
from unseen.geometry.views import Example
from unseen.methods.renderdiffusion import (
    RenderDiffusion,
    RenderDiffusionConfig,
    TriplaneSampleConfig,
)
from unseen.model import Model
from unseen.networks.triplane_decoder import TriplaneDecoderConfig
from unseen.networks.triplane_unet import TriplaneUNetConfig
from unseen.scenes.triplane_sampling import TriplaneSampling

STEPS = int(sys.argv[1]) if len(sys.argv) > 1 else 10
SIZE, BATCH, OBJECTS = 32, 4, 8

# Eight crates, eight views of each.
generator = torch.Generator().manual_seed(0)
crates = [make_object("crate", seed) for seed in range(OBJECTS)]
objects = [crate.render(object_cameras(8, generator), SIZE) for crate in crates]

network = TriplaneUNetConfig(
    channels=16, multipliers=(1, 2), num_blocks=1, attention=(False, True),
    plane_channels=8,
)  # fmt: skip
config = RenderDiffusionConfig(
    network=network,
    decoder=TriplaneDecoderConfig(features=8, width=16),
    rays=TriplaneSampling(num_uniform=24, num_importance=0),
    image_size=SIZE,
    self_condition=False,
    pixels=256,
    snr_range=(1.0, 5.0),
    sampling=TriplaneSampleConfig(num_steps=8 if STEPS < 1000 else 50, repeats=2),
)
torch.manual_seed(0)
method = RenderDiffusion(config)
optimizer = torch.optim.Adam(method.parameters(), lr=1e-3)

for step in range(STEPS):
    chosen = torch.randint(OBJECTS, (BATCH,), generator=generator).tolist()
    # One view of each object: no view is ever compared with another one.
    picks = [objects[i][torch.randperm(8, generator=generator)[:1]] for i in chosen]
    example = Example.stack([Example(view, view) for view in picks])
    losses = method.loss(example, generator)
    optimizer.zero_grad()
    losses.total.backward()
    optimizer.step()
    if step % 100 == 0:
        print(f"step {step:5d}  error {losses.terms['seen']:.3f}")

model, given = Model(method.eval()), objects[0][:1]
hidden = (torch.arange(SIZE) >= SIZE // 2).expand(SIZE, SIZE)
scenes = model.sample_scenes(None, num=2, seed=0)
scenes += model.complete(given, num=1, noise_level=0.1)
scenes += model.complete(given, num=1, hidden=hidden)

around = Cameras.cat([given.cameras, turn_around(given.cameras[0], 3)])
rows = [torch.cat([*objects[0].images[:4]], dim=-1)]
rows += [torch.cat([*scene.render(around, (SIZE, SIZE)).color], -1) for scene in scenes]
picture = to_bytes(torch.cat(rows, dim=-2)).permute(1, 2, 0).contiguous().numpy()
Image.fromarray(picture).save("renderdiffusion.png")
