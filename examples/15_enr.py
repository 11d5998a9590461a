"""Equivariant Neural Rendering: turn a latent volume instead of a camera.

    python 15_enr.py [STEPS]

The default of 10 steps shows the moving parts; give 1000 to see the object turn. Writes
enr.png: views of an object, of which the first was given, above what is drawn there.
"""

import sys

import torch
from PIL import Image

from unseen.data.cameras import object_cameras
from unseen.data.procedural import make_object
from unseen.export.colormap import to_bytes
from unseen.geometry.views import Example, Views
from unseen.methods.enr import ENR, ENRConfig
from unseen.networks.voxel_resnet import VoxelNetworkConfig

STEPS = int(sys.argv[1]) if len(sys.argv) > 1 else 10
SIZE, BATCH, OBJECTS = 32, 4, 16

# Sixteen crates, eight views of each, all at one field of view: the method knows no
# other difference between cameras than where they look.
generator = torch.Generator().manual_seed(0)
objects = []
for seed in range(OBJECTS):
    cameras = object_cameras(8, generator, fov_range=(40.0, 40.0))
    objects.append(make_object("crate", seed).render(cameras, SIZE))

network = VoxelNetworkConfig(
    channels_2d=(8, 8, 16, 32),
    strides_2d=(1, 1, 2, 2),
    unfold=(64, 64),
    channels_3d=(8, 8, 16, 8),
    strides_3d=(1, 1, 2, -2),
    fold=(64, 32),
)
torch.manual_seed(0)
method = ENR(ENRConfig(SIZE, network))
optimizer = torch.optim.Adam(method.parameters(), lr=1e-3)

for step in range(STEPS):
    chosen = torch.randint(OBJECTS, (BATCH,), generator=generator).tolist()
    pairs = [objects[i][torch.randperm(8, generator=generator)[:2]] for i in chosen]
    example = Example.stack([Example(pair[:1], pair[1:]) for pair in pairs])
    losses = method.loss(example, generator)
    optimizer.zero_grad()
    losses.total.backward()
    optimizer.step()
    if step % 10 == 0 or step == STEPS - 1:
        terms = "  ".join(f"{k} {v:.3f}" for k, v in losses.terms.items())
        print(f"step {step:5d}  {terms}")

# One view of one object: a batch of one, so (batch, view) is (1, 1).
truth = objects[0]
scene = method.sample_scene(Views.stack([truth[:1]]), seeds=[0])[0]
with torch.no_grad():
    drawn = scene.render(truth.cameras, (SIZE, SIZE)).color
rows = [torch.cat([*truth.images], dim=-1), torch.cat([*drawn], dim=-1)]
picture = to_bytes(torch.cat(rows, dim=-2)).permute(1, 2, 0).contiguous().numpy()
Image.fromarray(picture).save("enr.png")
print("enr.png: above the truth (the first view was given), below what is drawn")
