"""The procedural world: one front view, several hidden sides.

Writes procedural_world.png: a row per category, and in each the front and then the
same object from behind, with four different hidden sides.
"""

import math

import torch
from PIL import Image

from unseen.data.cameras import sphere_cameras
from unseen.data.procedural import CATEGORIES, make_object
from unseen.export.colormap import to_bytes

SIZE = 64

rows = []
for category in CATEGORIES:
    pictures = []
    for back in range(4):
        thing = make_object(category, seed=7, back=back)
        # The front, and the view from behind.
        azimuths = torch.tensor([0.0, math.pi]) + thing.front_azimuth
        elevations = torch.full((2,), math.radians(20))
        cameras = sphere_cameras(azimuths, elevations, torch.tensor(math.radians(40)))
        views = thing.render(cameras, SIZE)
        pictures += [*views.images] if back == 0 else [views.images[1]]
    rows.append(torch.cat(pictures, dim=-1))

sheet = to_bytes(torch.cat(rows, dim=-2)).permute(1, 2, 0).numpy()
Image.fromarray(sheet).save("procedural_world.png")
print(f"procedural_world.png: {', '.join(CATEGORIES)}")
