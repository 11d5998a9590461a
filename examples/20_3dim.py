"""3DiM: generate views of an object one after the other, without any scene.

    python 20_3dim.py [STEPS]

The default of 10 steps shows the moving parts and leaves noise; give some thousands to
see crates. Writes 3dim.png: the view that was given and the truth around it, above two
samples of what is there.
"""

import sys

import torch
from PIL import Image

from unseen.data.cameras import object_cameras
from unseen.data.procedural import make_object
from unseen.export.colormap import to_bytes
from unseen.geometry.views import Example, Views
from unseen.methods.threedim import ThreeDiM, ThreeDiMConfig, ViewSamplingConfig
from unseen.model import Model
from unseen.networks.xunet import XUNetConfig

STEPS = int(sys.argv[1]) if len(sys.argv) > 1 else 10
SIZE, BATCH, OBJECTS = 32, 4, 8

# Eight crates, eight views of each.
generator = torch.Generator().manual_seed(0)
objects = []
for seed in range(OBJECTS):
    cameras = object_cameras(8, generator)
    objects.append(make_object("crate", seed).render(cameras, SIZE))

network = XUNetConfig(
    channels=16,
    multipliers=(1, 2, 2),
    num_blocks=1,
    attention=(False, False, True),
    embedding=32,
    num_groups=8,
    dropout=0.0,
    position_octaves=5,
    direction_octaves=4,
)
sampling = ViewSamplingConfig(num_steps=8 if STEPS < 1000 else 128, guidance=2.0)
torch.manual_seed(0)
method = ThreeDiM(ThreeDiMConfig(network, SIZE, sampling=sampling))
optimizer = torch.optim.Adam(method.parameters(), lr=1e-3)

for step in range(STEPS):
    chosen = torch.randint(OBJECTS, (BATCH,), generator=generator).tolist()
    pairs = [objects[i][torch.randperm(8, generator=generator)[:2]] for i in chosen]
    example = Example.stack([Example(pair[:1], pair[1:]) for pair in pairs])
    losses = method.loss(example, generator)
    optimizer.zero_grad()
    losses.total.backward()
    optimizer.step()
    if step % 100 == 0 or step == STEPS - 1:
        print(f"step {step:5d}  noise {losses.terms['noise']:.3f}")

# The first view of an object is given, the next three are asked for. Every new view is
# conditioned on all before it: the given one and those that were sampled.
truth = objects[0][:4]
given = Views(truth.images[:1], truth.cameras[:1])
samples = Model(method.eval()).generate(given, truth.cameras[1:], num=2, seed=0)

rows = [torch.cat([*truth.images], dim=-1)]
rows += [torch.cat([given.images[0], *s.images], dim=-1) for s in samples]
picture = to_bytes(torch.cat(rows, dim=-2)).permute(1, 2, 0).contiguous().numpy()
Image.fromarray(picture).save("3dim.png")
print("3dim.png: above the truth (the first view was given), below two samples")
