"""`unseen data ...`: make and look at data sets."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal

import tyro

from unseen.cli.data_shard import Shard
from unseen.cli.inspect_data import Inspect


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
    """Write depth images, which `unseen eval` needs."""
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
    """Render textured meshes into posed views (ShapeNet-SRN layout).

    A mesh that cannot be read is listed with its reason and skipped. Run the same
    command again to continue after an interruption.
    """

    meshes: tyro.conf.Positional[str]
    """A GLB, glTF or OBJ file, or a folder or zip archive of them."""
    out: tyro.conf.Positional[str]
    """Folder to write."""
    views: int = 24
    """Views per object."""
    size: int = 64
    """Side of the square images in pixels."""
    seed: int = 0
    """Other seeds give other cameras, lights and noise."""
    cameras: Literal["random", "spiral"] = "random"
    """Random directions, or a spiral for evaluation."""
    fov: tuple[float, float] = (30.0, 50.0)
    """Range of the full field of view in degrees, drawn per object."""
    elevation: tuple[float, float] = (-5.0, 50.0)
    """Range of the camera's elevation in degrees."""
    lights: Literal["fixed", "random"] = "fixed"
    """One sky and sun for all objects, or a sun of its own for each."""
    background: str = "transparent"
    """"transparent", or a colour such as "white" or "#808080"."""
    samples: int = 32
    """Rays per pixel: more is less noisy, and slower in proportion."""
    depth: bool = True
    """Write depth images, which `unseen eval` needs."""
    up: Literal["y", "z"] = "y"
    """The meshes' upward axis; y by the glTF standard."""
    include: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """Render only meshes whose name (path below MESHES) fits: a glob such as
    "*/chair*.glb", or "re:" and a regular expression to search for; repeatable."""
    exclude: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """Leave out meshes whose name fits; repeatable."""
    split: Literal["all", "train", "test"] = "all"
    """Render only meshes of one split, by the hash of their file names."""
    limit: int | None = None
    """Render at most so many meshes."""
    variants: int = 1
    """Versions of each mesh: itself, and others of other proportions and colours."""
    shard: str = "0/1"
    """"I/N": every N-th mesh beginning with the I-th (from 0), for N machines."""
    workers: int = 2
    """Worker processes."""

    def run(self) -> None:
        from pathlib import Path

        from unseen.cli.mesh_report import render_and_report
        from unseen.data.mesh_files import (
            find_meshes,
            parse_shard,
            select_meshes,
            with_variants,
        )
        from unseen.data.render_meshes import RenderSettings

        settings = RenderSettings(
            self.views,
            self.size,
            self.seed,
            self.cameras,
            self.fov,
            self.elevation,
            self.lights,
            self.background,
            self.samples,
            self.depth,
            self.up,
        )
        meshes = select_meshes(
            find_meshes(Path(self.meshes)),
            self.include,
            self.exclude,
            self.limit,
            parse_shard(self.shard),
            None if self.split == "all" else self.split,
        )
        meshes = with_variants(meshes, self.variants)
        render_and_report(meshes, self.out, settings, self.workers)


@dataclasses.dataclass(frozen=True)
class Data:
    """Make data sets, look at them, and pack them."""

    command: (
        Annotated[Procedural, tyro.conf.subcommand("procedural")]
        | Annotated[Render, tyro.conf.subcommand("render")]
        | Annotated[Inspect, tyro.conf.subcommand("inspect")]
        | Annotated[Shard, tyro.conf.subcommand("shard")]
    )

    def run(self) -> None:
        self.command.run()
