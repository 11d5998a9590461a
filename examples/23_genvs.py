"""GeNVS: views along a path, each from an image of what the views before it say.

    python 23_genvs.py [STEPS]

The default of 10 steps shows the moving parts and leaves noise; give some thousands to
see crates. Writes genvs.png: the view that was given and the truth along the path, two
samples of what is there, and three channels of the images of features that the given
view alone makes.
"""

import sys

import torch
from PIL import Image

from unseen.data.cameras import object_cameras
from unseen.data.procedural import make_object
from unseen.export.colormap import to_bytes
from unseen.geometry.views import Example, Views
from unseen.methods.genvs import GeNVS, GeNVSConfig, GeNVSSampling
from unseen.model import Model
from unseen.networks.ddpm_plus_plus import DDPMPlusPlusConfig
from unseen.networks.feature_mlp import FeatureMLPConfig
from unseen.networks.frustum_encoder import FrustumEncoderConfig
from unseen.scenes.frustum_features import FeatureRendering

STEPS = int(sys.argv[1]) if len(sys.argv) > 1 else 10
SIZE, BATCH, OBJECTS = 32, 4, 8

# Eight crates, eight views of each.
generator = torch.Generator().manual_seed(0)
objects = []
for seed in range(OBJECTS):
    cameras = object_cameras(8, generator)
    objects.append(make_object("crate", seed).render(cameras, SIZE))

config = GeNVSConfig(
    FrustumEncoderConfig(8, (1, 1, 1, 1), 16, 8, (1, 2), 1, features=8, slices=12),
    FeatureMLPConfig(width=32, hidden=1),
    FeatureRendering(num_samples=16),
    DDPMPlusPlusConfig(16, (1, 2, 2), 1, (False, False, True), 64),
    image_size=SIZE,
    sampling=GeNVSSampling(num_steps=3 if STEPS < 1000 else 25, nearest=3),
)
torch.manual_seed(0)
method = GeNVS(config)
optimizer = torch.optim.Adam(method.parameters(), lr=1e-3)

for step in range(STEPS):
    chosen = torch.randint(OBJECTS, (BATCH,), generator=generator).tolist()
    views = [objects[i][torch.randperm(8, generator=generator)[:3]] for i in chosen]
    example = Example.stack([Example(v[:2], v[2:]) for v in views])
    losses = method.loss(example, generator)
    optimizer.zero_grad()
    losses.total.backward()
    optimizer.step()
    if step % 100 == 0 or step == STEPS - 1:
        print(f"step {step:5d}  denoised {losses.terms['denoised']:.3f}")

# The first view of an object is given, the next three are asked for, one by one.
truth = objects[0][:4]
given = Views(truth.images[:1], truth.cameras[:1])
samples = Model(method.eval()).generate(given, truth.cameras[1:], num=2, seed=0)

# What the given view alone says of the others, as far as the network can tell.
with torch.no_grad():
    frustums = method.frustums(2 * given.images[None] - 1, given.cameras[None])
    features = frustums.render(truth.cameras[None], (SIZE, SIZE))[0, :, :3]
features = (features - features.amin()) / (features.amax() - features.amin())

rows = [torch.cat([*truth.images], dim=-1)]
rows += [torch.cat([given.images[0], *s.images], dim=-1) for s in samples]
rows += [torch.cat([*features], dim=-1)]
picture = to_bytes(torch.cat(rows, dim=-2)).permute(1, 2, 0).contiguous().numpy()
Image.fromarray(picture).save("genvs.png")
print("genvs.png: the truth, two samples, and the features of the given view")
