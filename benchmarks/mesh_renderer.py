"""Views per second of the mesh renderer, and hours for 100,000 objects.

    python -m benchmarks.mesh_renderer                  # spheres made here
    python -m benchmarks.mesh_renderer MESHES --limit 40

One process, one thread. Seconds are those of the processor, so that other work on the
machine does not count; `wall` is the clock.
"""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import trimesh
import tyro
from PIL import Image
from rich.console import Console
from rich.table import Table
from trimesh.visual import TextureVisuals
from trimesh.visual.material import PBRMaterial

from unseen.data.mesh_files import MeshFile, find_meshes
from unseen.data.mesh_materials import MeshError
from unseen.data.mesh_renderer import MeshRenderer
from unseen.data.meshes import load_mesh, normalize_mesh
from unseen.data.mitsuba_scene import load_mitsuba
from unseen.data.render_meshes import RenderSettings
from unseen.data.srn_layout import write_object


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """Time loading, scene building, colour, depth and writing of meshes."""

    meshes: tyro.conf.Positional[Path | None] = None
    """A mesh, folder or archive; textured spheres of 1,280 to 81,920 triangles if not
    given."""
    views: int = 24
    """Views per object."""
    sizes: tuple[int, ...] = (64, 128)
    """Image sides to time."""
    samples: int = 32
    """Rays per pixel."""
    limit: int = 20
    """Meshes to time, spread over all that are found."""

    def run(self) -> None:
        load_mitsuba()
        torch.set_num_threads(1)
        with tempfile.TemporaryDirectory() as folder:
            source = self.meshes or _write_spheres(Path(folder) / "meshes")
            found = find_meshes(source)
            chosen = found[:: max(1, len(found) // self.limit)][: self.limit]
            table = Table("size", "load", "scene", "color", "depth", "write")
            table.add_column("views/s", justify="right")
            table.add_column("wall", justify="right")
            table.add_column("hours for 100,000 objects", justify="right")
            for size in self.sizes:
                settings = RenderSettings(self.views, size, samples=self.samples)
                wall = time.perf_counter()
                times = [_time(mesh, settings, Path(folder) / "out") for mesh in chosen]
                wall = time.perf_counter() - wall
                table.add_row(*_row(size, self.views, times, wall))
        console = Console()
        console.print(table)
        console.print(
            f"{len(chosen)} meshes, {self.views} views each, {self.samples} samples a "
            "pixel, one core; load and scene in ms per object, the rest in ms per view."
        )


def _row(
    size: int, views: int, times: Sequence[Sequence[float] | None], wall: float
) -> list[str]:
    whole = np.array([x for x in times if x is not None])
    per_object = whole.sum(1).mean()
    mean = 1e3 * whole.mean(0) / [1, 1, views, views, views]
    return [
        str(size),
        *(f"{x:.1f}" for x in mean),
        f"{views / per_object:.1f}",
        f"{views * len(whole) / wall:.1f}",
        f"{100_000 * per_object / 3600:.0f}",
    ]


def _time(mesh: MeshFile, settings: RenderSettings, out: Path) -> list[float] | None:
    """Processor seconds of each stage, None for a mesh that does not load."""
    marks = [time.process_time()]
    try:
        surfaces = normalize_mesh(load_mesh(mesh))
    except MeshError as error:
        print(f"skipped {mesh.name}: {error}")
        return None
    marks.append(time.process_time())
    renderer = MeshRenderer(surfaces)
    marks.append(time.process_time())
    cameras = settings.draw_cameras(torch.Generator().manual_seed(0))
    size = (settings.size, settings.size)
    renderer.render(cameras, size, settings.samples, with_depth=False)
    marks.append(time.process_time())
    views = renderer.render(cameras, size, 1)
    # One sample of colour is in there too: a small part of what was timed before.
    marks.append(time.process_time())
    write_object(out, "object", views, settings.depth_unit())
    marks.append(time.process_time())
    return np.diff(marks).tolist()


def _write_spheres(folder: Path) -> Path:
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (512, 512, 3), np.uint8)
    material = PBRMaterial(baseColorTexture=Image.fromarray(pixels))
    for level in (3, 4, 5, 6):
        sphere = trimesh.creation.icosphere(level)
        uv = sphere.vertices[:, :2] * 0.5 + 0.5
        sphere.visual = TextureVisuals(uv=uv, material=material)
        sphere.export(folder / f"sphere{level}.glb")
    return folder


if __name__ == "__main__":
    tyro.cli(Benchmark).run()
