"""CodeNeRF: learn a category, explain an unseen object, exchange textures.

    python 14_codenerf.py [STEPS]

The default of 30 steps shows the moving parts; give 2000 to see objects. Writes
codenerf.png: an unseen object and its reconstruction from the first view; then two
training objects, and each with the other's texture.
"""

import dataclasses
import sys

import torch
from PIL import Image

from unseen.data.cameras import object_cameras
from unseen.data.procedural import make_object
from unseen.export.colormap import to_bytes
from unseen.geometry.views import Example, Views
from unseen.methods.codenerf import CodeNeRF
from unseen.methods.method import SampleOptions
from unseen.methods.registry import PRESETS

STEPS = int(sys.argv[1]) if len(sys.argv) > 1 else 30
SIZE, BATCH, OBJECTS = 32, 4, 12

# Twelve crates to learn from, eight views of each; and one more.
generator = torch.Generator().manual_seed(0)
*objects, unseen_object = [
    make_object("crate", seed).render(object_cameras(8, generator), SIZE)
    for seed in range(OBJECTS + 1)
]

config = dataclasses.replace(
    PRESETS["codenerf-small"].method, num_objects=OBJECTS, image_size=SIZE
)
torch.manual_seed(0)
method = CodeNeRF(config)
optimizer = torch.optim.AdamW(method.parameters(), lr=1e-3, weight_decay=1e-2)

for step in range(STEPS):
    chosen = torch.randint(OBJECTS, (BATCH,), generator=generator)
    views = [
        objects[i][torch.randperm(8, generator=generator)[:2]] for i in chosen.tolist()
    ]
    example = Example.stack([Example(v[:1], v[1:]) for v in views])
    losses = method.loss(dataclasses.replace(example, objects=chosen), generator)
    optimizer.zero_grad()
    losses.total.backward()
    optimizer.step()
    if step % 10 == 0 or step == STEPS - 1:
        print(f"step {step:5d}  squared error {losses.terms['color']:.4f}")

# Fit the codes to the first view: a batch of one, so (batch, view) is (1, 1).
context = Views.stack([unseen_object[:1]])
options = SampleOptions(num_steps=max(10, min(150, STEPS // 10)))
fitted = method.sample_scene(context, seeds=[0], options=options)[0]

pair = method.object_scene(torch.tensor([0, 1]))
first, second = pair[0], pair[1]
cameras = unseen_object.cameras
rows = [unseen_object.images, fitted.render(cameras, (SIZE, SIZE)).color]
for scene in (first, second, first.edited(texture_of=second)):
    rows.append(scene.render(cameras, (SIZE, SIZE)).color)
rows.append(second.edited(texture_of=first).render(cameras, (SIZE, SIZE)).color)

picture = torch.cat([torch.cat([*row], dim=-1) for row in rows], dim=-2)
picture = to_bytes(picture.detach()).permute(1, 2, 0).contiguous().numpy()
Image.fromarray(picture).save("codenerf.png")
print("codenerf.png: truth, fit; two objects; the same with exchanged textures")
