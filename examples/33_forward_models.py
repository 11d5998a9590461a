"""DFM with other forward models: light fields, Gaussians, motions.

    python 33_forward_models.py [STEPS]

One method, one loss, one sampler; what is unknown, and how it becomes an image, is an
argument. Trains each on a few crates and writes forward_models.png: per row the input
and two samples, each seen from the camera of the input and from another one (a motion
is seen by one camera only, when half of it and when all of it is done). The default of
3 steps shows the moving parts; give a thousand to see something.
"""

import sys
import time

import torch
from PIL import Image

from unseen.data.cameras import object_cameras
from unseen.data.procedural import make_object
from unseen.encoders.light_field import LightFieldConfig
from unseen.encoders.motion import MotionConfig
from unseen.encoders.pixel_gaussians import PixelGaussiansConfig
from unseen.export.colormap import to_bytes
from unseen.geometry.views import Example, Views
from unseen.methods.dfm import DFM, DFMConfig, SampleConfig
from unseen.networks.hypernetwork import HyperNetworkConfig
from unseen.networks.unet2d import UNet2dConfig
from unseen.scenes.motion import MotionScene

STEPS = int(sys.argv[1]) if len(sys.argv) > 1 else 3
SIZE = (32, 32)

generator = torch.Generator().manual_seed(0)
crates = [
    make_object("crate", i).render(object_cameras(4, generator), SIZE) for i in range(4)
]
views = Views.stack([Views(v.images, v.cameras) for v in crates])
unet = UNet2dConfig((16, 32), num_blocks=1, attention=(False, True), embedding=64)
hyper = HyperNetworkConfig(64, 64, 1, (6, 64, 64, 64, 3))
models = {
    "light field": LightFieldConfig(unet, hyper=hyper),
    "Gaussians": PixelGaussiansConfig(unet, stride=4),
    "motion": MotionConfig(unet),
}

rows = []
for name, scene_config in models.items():
    moves = name == "motion"
    config = DFMConfig(
        scene_config,
        image_size=SIZE[0],
        supervise_context=not moves,
        opacity_weight=0.0,
        deterministic_weight=0.0 if moves else 1.0,
        # A motion is seen by the camera of the input.
        sampling=SampleConfig(8, 1.0, 1.0, azimuths=(0.0,) if moves else (180.0,)),
    )
    torch.manual_seed(0)
    dfm = DFM(config)
    optimizer = torch.optim.Adam(dfm.parameters(), lr=1e-3)
    started = time.perf_counter()
    for _ in range(STEPS):
        loss = dfm.loss(Example(views[:, :2], views[:, 2:]), generator).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    spent = (time.perf_counter() - started) / STEPS
    print(f"{name:12} loss {loss.detach():.3f}, {spent:.2f} s a step")
    scenes = dfm.sample_scene(views[[0, 0], :1], seeds=[1, 2])
    pictures = [views.images[0, 0]]
    for i in range(2):
        scene = scenes[i]
        first = scene.at(0.5) if isinstance(scene, MotionScene) else scene
        pictures.append(first.render(views.cameras[0, :1], SIZE).color[0])
        pictures.append(scene.render(views.cameras[0, 2:3], SIZE).color[0])
    rows.append(torch.cat(pictures, dim=-1))
picture = to_bytes(torch.cat(rows, dim=-2)).permute(1, 2, 0).contiguous().numpy()
Image.fromarray(picture).save("forward_models.png")
print("forward_models.png: per forward model the input and two samples, twice each")
