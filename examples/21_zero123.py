"""Zero-1-to-3: an object as another camera sees it, drawn in latents.

    python 21_zero123.py [STEPS]

The default of 10 steps shows the moving parts and leaves noise; give some thousands to
see crates. Needs `pip install 'unseen[diffusion]'`. Writes zero123.png: the view that
was given and the truth around it, what the autoencoder makes of them, and two samples.
"""

import sys

import torch
from PIL import Image

from unseen.data.cameras import object_cameras
from unseen.data.procedural import make_object
from unseen.export.colormap import to_bytes
from unseen.geometry.views import Example, Views
from unseen.methods.zero123 import Zero123, Zero123Config, Zero123Sampling
from unseen.model import Model
from unseen.networks.conv_encoder import ConvEncoderConfig
from unseen.networks.latent import AutoencoderConfig, LatentUNetConfig

STEPS = int(sys.argv[1]) if len(sys.argv) > 1 else 10
SIZE, BATCH, OBJECTS = 32, 4, 8

# Eight crates, eight views of each.
generator = torch.Generator().manual_seed(0)
objects = [
    make_object("crate", seed).render(object_cameras(8, generator), SIZE)
    for seed in range(OBJECTS)
]

# The U-Net sees two latents of 4 channels at 16 x 16: the noisy one and the given one.
config = Zero123Config(
    LatentUNetConfig(
        in_channels=8,
        channels=(32, 64),
        attention=(True, True),
        blocks=1,
        context=32,
        heads=(2, 4),
        groups=8,
    ),
    AutoencoderConfig((16, 32), 1, groups=8, scale=1.0),
    ConvEncoderConfig((16, 32), 32),
    image_size=SIZE,
    from_scratch=True,  # the autoencoder and the image encoder learn with the rest
    sampling=Zero123Sampling(num_steps=4 if STEPS < 1000 else 50, guidance=2.0),
)
torch.manual_seed(0)
method = Zero123(config)
optimizer = torch.optim.Adam(method.parameters(), lr=1e-3)

for step in range(STEPS):
    chosen = torch.randint(OBJECTS, (BATCH,), generator=generator).tolist()
    pairs = [objects[i][torch.randperm(8, generator=generator)[:2]] for i in chosen]
    example = Example.stack([Example(pair[:1], pair[1:]) for pair in pairs])
    losses = method.loss(example, generator)
    optimizer.zero_grad()
    losses.total.backward()
    optimizer.step()
    if step % 100 == 0:
        print(
            f"step {step:5d}", {k: round(float(x), 3) for k, x in losses.terms.items()}
        )

truth = objects[0][:4]
given = Views(truth.images[:1], truth.cameras[:1])
samples = Model(method.eval()).generate(given, truth.cameras[1:], num=2, seed=0)
with torch.no_grad():
    latents, _ = method.autoencoder.encode(2 * truth.images - 1)
    decoded = method.autoencoder.decode(latents)

rows = [torch.cat([*truth.images], dim=-1), torch.cat([*(0.5 * decoded + 0.5)], dim=-1)]
rows += [torch.cat([given.images[0], *s.images], dim=-1) for s in samples]
picture = to_bytes(torch.cat(rows, dim=-2).clamp(0, 1)).permute(1, 2, 0).contiguous()
Image.fromarray(picture.numpy()).save("zero123.png")
print("zero123.png: the truth, the autoencoder's reconstruction, two samples")
