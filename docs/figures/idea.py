"""The figure of docs/idea.md: why the mean is blurred and samples are not.

    python docs/figures/idea.py [--number 0] [--out docs/images/idea.png]

One truck that the bundled model was not trained on: its input view, the truth from
behind, the deterministic reconstruction, and samples of the posterior.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
import tyro
from PIL import Image, ImageDraw, ImageFont

import unseen
from unseen.data.cameras import object_camera
from unseen.data.manifest import split_of
from unseen.data.procedural import make_object
from unseen.geometry.cameras import turn_cameras
from unseen.geometry.views import Views
from unseen.methods.dfm import DFM

CELL, GAP, TITLE = 160, 8, 24


@dataclasses.dataclass(frozen=True)
class Figure:
    """Make the figure."""

    number: int = 0
    """Which of the trucks that were held out."""
    samples: int = 4
    turn: float = 180.0
    """Degrees between the input and what is shown."""
    out: Path = Path("docs/images/idea.png")

    def run(self) -> None:
        held_out = (i for i in range(10**6) if split_of(f"truck-{i}") == "test")
        seed = [next(held_out) for _ in range(self.number + 1)][-1]
        truck = make_object("truck", seed)
        camera = object_camera(40.0, 20.0)
        behind = turn_cameras(camera, torch.deg2rad(torch.tensor([self.turn])))[0]
        truth = truck.render(behind, (CELL, CELL)).images
        method = unseen.load("vehicles-64").method
        assert isinstance(method, DFM)
        side = method.config.image_size
        given = truck.render(camera, (side, side))
        context = Views(given.images[None], given.cameras[None])
        with torch.no_grad():
            mean = method.reconstruct(context)[0].render(behind, (CELL, CELL)).color
            scenes = method.sample_scene(
                Views.cat([context] * self.samples), list(range(self.samples))
            )
            sampled = [
                scenes[i].render(behind, (CELL, CELL)).color[0]
                for i in range(self.samples)
            ]
        shown = truck.render(camera, (CELL, CELL)).images[0]
        titles = ["input", "truth", "mean", *(f"sample {i}" for i in range(99))]
        _save([shown, truth[0], mean[0], *sampled], titles, self.out)


def _save(images: list[torch.Tensor], titles: list[str], path: Path) -> None:
    width = len(images) * (CELL + GAP) - GAP
    sheet = Image.new("RGB", (width, CELL + TITLE), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    for index, (image, title) in enumerate(zip(images, titles, strict=False)):
        pixels = (255 * image.clamp(0, 1)).round().byte().permute(1, 2, 0).numpy()
        sheet.paste(Image.fromarray(pixels), (index * (CELL + GAP), TITLE))
        draw.text((index * (CELL + GAP), 2), title, fill="black", font=font)
    sheet.save(path, optimize=True)
    print(path)


if __name__ == "__main__":
    tyro.cli(Figure).run()
