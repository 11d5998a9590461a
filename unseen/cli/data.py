"""`unseen data ...`: make and look at data sets."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal

import tyro


@dataclasses.dataclass(frozen=True)
class Procedural:
    """Render the procedural world into posed views (ShapeNet-SRN layout).

    Run the same command again to continue after an interruption.
    """

    out: tyro.conf.Positional[str]
    """Folder to write."""
    num: int = 2000
    """Number of objects; the categories take turns."""
    views: int = 16
    """Views per object."""
    size: int = 64
    """Side of the square images in pixels."""
    seed: int = 0
    """Other seeds give other objects."""
    categories: tuple[str, ...] = ("crate", "mug", "critter", "truck", "chair", "house")
    """Categories to render."""
    cameras: Literal["random", "spiral"] = "random"
    """Random directions, or a spiral for evaluation."""
    fov: tuple[float, float] = (30.0, 50.0)
    """Range of the full field of view in degrees, drawn per object."""
    elevation: tuple[float, float] = (-5.0, 50.0)
    """Range of the camera's elevation in degrees."""
    supersample: int = 2
    """Rays per pixel along each axis."""
    depth: bool = True
    """Write depth images."""
    workers: int = 2
    """Worker processes."""

    def run(self) -> None:
        from unseen.data.procedural_dataset import ProceduralSettings, write_procedural

        settings = ProceduralSettings(
            self.views,
            self.size,
            self.seed,
            self.categories,
            self.cameras,
            self.fov,
            self.elevation,
            self.supersample,
            self.depth,
        )
        manifest = write_procedural(self.out, self.num, settings, self.workers)
        test = sum(record.split == "test" for record in manifest.objects)
        print(f"{len(manifest.objects)} objects ({test} for testing) in {self.out}")


@dataclasses.dataclass(frozen=True)
class Render:
    """Render textured meshes into posed views."""

    out: tyro.conf.Positional[str]

    def run(self) -> None:
        print("render")


@dataclasses.dataclass(frozen=True)
class Data:
    """Make data sets."""

    command: (
        Annotated[Procedural, tyro.conf.subcommand("procedural")]
        | Annotated[Render, tyro.conf.subcommand("render")]
    )

    def run(self) -> None:
        self.command.run()
