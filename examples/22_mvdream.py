"""MVDream: four views of what a text says, made together.

    python 22_mvdream.py [STEPS]

The default of 10 steps shows the moving parts and leaves noise; give some thousands to
see objects. Needs `pip install 'unseen[diffusion]'`. Writes mvdream.png: a training
object of every kind, and below it four views of each that a word became.
"""

import sys

import torch
from PIL import Image

from unseen.data.cameras import object_cameras
from unseen.data.procedural import make_object
from unseen.export.colormap import to_bytes
from unseen.geometry.views import Example
from unseen.methods.mvdream import MVDream, MVDreamConfig, MVDreamSampling
from unseen.model import Model
from unseen.networks.latent import AutoencoderConfig, LatentUNetConfig
from unseen.networks.text import WordConfig

STEPS = int(sys.argv[1]) if len(sys.argv) > 1 else 10
SIZE, KINDS, EACH = 32, ("crate", "mug"), 4

# Four crates and four mugs, eight views of each.
generator = torch.Generator().manual_seed(0)
objects = []
for seed in range(EACH):
    for kind in KINDS:
        cameras = object_cameras(8, generator)
        objects.append((kind, make_object(kind, seed).render(cameras, SIZE)))

config = MVDreamConfig(
    LatentUNetConfig(
        channels=(32, 64),
        attention=(True, True),
        blocks=1,
        context=32,
        heads=(2, 4),
        groups=8,
    ),
    AutoencoderConfig((16, 32), 1, groups=8, scale=1.0),
    WordConfig(rows=64, length=4, width=32),
    image_size=SIZE,
    suffix="",
    from_scratch=True,  # the autoencoder and the words learn with the rest
    sampling=MVDreamSampling(num_steps=4 if STEPS < 1000 else 50, guidance=2.0),
)
torch.manual_seed(0)
method = MVDream(config)
optimizer = torch.optim.Adam(method.parameters(), lr=1e-3)

for step in range(STEPS):
    examples = []
    for i in torch.randint(len(objects), (2,), generator=generator).tolist():
        kind, views = objects[i]
        views = views[torch.randperm(8, generator=generator)[:4]]
        examples.append(Example(views[:1], views[1:], captions=(kind,)))
    losses = method.loss(Example.stack(examples), generator)
    optimizer.zero_grad()
    losses.total.backward()
    optimizer.step()
    if step % 100 == 0 or step == STEPS - 1:
        print(
            f"step {step:5d}", {k: round(float(x), 3) for k, x in losses.terms.items()}
        )

model = Model(method.eval())
rows = []
for kind, views in objects[: len(KINDS)]:
    sample = model.sample_views(None, num=1, num_views=4, prompt=kind, seed=0)[0]
    rows.append(torch.cat([*views.images[:4]], dim=-1))
    rows.append(torch.cat([*sample.images], dim=-1))
picture = to_bytes(torch.cat(rows, dim=-2)).permute(1, 2, 0).contiguous().numpy()
Image.fromarray(picture).save("mvdream.png")
print("mvdream.png: of every kind a training object, and a sample")
