"""One picture of an object in, several 3D scenes out.

    python 02_sample_an_image.py [PICTURE]

Without a picture, one of the procedural world is drawn. Writes a mesh and the
splats of every scene, and scenes.png: the scenes seen from all around.
"""

import sys
from pathlib import Path

import torch
from PIL import Image

import unseen
from unseen.data.cameras import object_camera
from unseen.data.procedural import make_object
from unseen.export.colormap import to_bytes
from unseen.export.save import export_scene
from unseen.export.video import orbit_cameras
from unseen.scenes.io import load_scene


def to_picture(image: torch.Tensor) -> Image.Image:
    return Image.fromarray(to_bytes(image).permute(1, 2, 0).contiguous().numpy())


def draw_truck(path: Path) -> Path:
    """A picture as a person has it: an object on a white background."""
    truck = make_object("truck", seed=100016)
    view = truck.render(object_camera(fov=40.0, elevation=20.0), 256)
    to_picture(view.images[0]).save(path)
    return path


picture = Path(sys.argv[1]) if len(sys.argv) > 1 else draw_truck(Path("truck.png"))

model = unseen.load("vehicles-64")
scenes = model.sample_scenes(picture, num=2, seed=0, steps=10)

# Six cameras on a circle; the first is where the picture was taken from.
cameras = orbit_cameras(6, fov=40.0, elevation=20.0)
rows = []
for index, scene in enumerate(scenes):
    rendering = scene.render(cameras, (64, 64))  # color, depth, opacity: (6, ...)
    rows.append(torch.cat([*rendering.color], dim=-1))
    for suffix in (".glb", ".ply", ".safetensors"):  # And .mp4, which takes longer.
        export_scene(scene, f"scene-{index}{suffix}")
to_picture(torch.cat(rows, dim=-2)).save("scenes.png")

# Our own format reloads and renders identically.
again = load_scene("scene-0.safetensors").render(cameras, (64, 64))
assert torch.equal(again.color, scenes[0].render(cameras, (64, 64)).color)
print("written:", ", ".join(sorted(path.name for path in Path().glob("scene*"))))
