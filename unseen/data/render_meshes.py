"""Render many meshes into posed views: parallel, resumable, never undone by one mesh.

Every object is written whole or not at all, so a run that was killed goes on where it
stopped. A mesh depends on the seed and its own name only: neither the order, the
number of workers nor a restart changes a pixel.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import hashlib
import math
import multiprocessing
import os
import posixpath
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import connection
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from PIL import ImageColor
from torch import Tensor

from unseen.data.cameras import MARGIN, object_cameras
from unseen.data.manifest import ManifestWriter, ObjectRecord, split_of
from unseen.data.mesh_files import MeshFile, object_id
from unseen.data.mesh_materials import MeshError
from unseen.data.mesh_renderer import MeshRenderer
from unseen.data.mesh_variants import load_variant
from unseen.data.meshes import Surface, Up
from unseen.data.mitsuba_scene import Lighting, load_mitsuba
from unseen.data.srn_layout import write_object
from unseen.errors import UserError
from unseen.geometry.cameras import Cameras
from unseen.geometry.views import Views


@dataclasses.dataclass(frozen=True)
class RenderSettings:
    """What decides every pixel of a rendered data set, but not of which meshes.

    `size` is the side of the square images in pixels; `samples` are rays per pixel;
    angles are in degrees. With `lights` "random", every object gets a sun direction
    and strength of its own, the same in all of its views. `background` is
    "transparent" (images keep their alpha) or a CSS colour ("white", "#808080"), which
    makes them opaque.
    """

    views: int = 24
    size: int = 64
    seed: int = 0
    cameras: Literal["random", "spiral"] = "random"
    fov_range: tuple[float, float] = (30.0, 50.0)
    elevation_range: tuple[float, float] = (-5.0, 50.0)
    lights: Literal["fixed", "random"] = "fixed"
    background: str = "transparent"
    samples: int = 32
    depth: bool = True
    up: Up = "y"

    def check(self) -> None:
        """Raise UserError for settings that make no data set."""
        for name in ("size", "samples"):
            if getattr(self, name) < 1:
                raise UserError(
                    f"{name} must be at least 1, not {getattr(self, name)}."
                )
        self.background_color()
        self.draw_cameras(torch.Generator())

    def background_color(self) -> Float[Tensor, "3"] | None:
        """sRGB in [0, 1], None for transparent."""
        if self.background == "transparent":
            return None
        try:
            color = ImageColor.getrgb(self.background)[:3]
        except ValueError as error:
            raise UserError(
                f"{self.background!r} is no background; say transparent, or a colour "
                f"such as white or #808080."
            ) from error
        return torch.tensor(color, dtype=torch.float32) / 255

    def draw_cameras(self, generator: torch.Generator) -> Cameras:
        """Cameras (view) for one object."""
        ranges = self.fov_range, self.elevation_range
        return object_cameras(self.views, generator, self.cameras, *ranges)

    def draw_lighting(self, generator: torch.Generator) -> Lighting:
        """Lighting for one object; all light adds up to 1.

        A random sun is 25 to 75 degrees high and gives 0.25 to 0.55 of the light.
        """
        if self.lights == "fixed":
            return Lighting()
        unit = torch.rand(3, generator=generator).tolist()
        azimuth, height = 2 * math.pi * unit[0], math.radians(25 + 50 * unit[1])
        sun = 0.25 + 0.3 * unit[2]
        direction = (
            math.cos(height) * math.cos(azimuth),
            math.cos(height) * math.sin(azimuth),
            math.sin(height),
        )
        return Lighting(1 - sun, sun, direction)

    def depth_unit(self) -> float:
        """The step that fits the farthest depth into 16 bit."""
        farthest = MARGIN / math.sin(0.5 * math.radians(self.fov_range[0])) + 1
        return farthest / 65535


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of one mesh: a record, or the reason why it was skipped.

    `present` marks what an earlier run had done already.
    """

    mesh: MeshFile
    record: ObjectRecord | None = None
    reason: str = ""
    present: bool = False


def render_meshes(
    meshes: Sequence[MeshFile],
    out: str | Path,
    settings: RenderSettings,
    workers: int = 1,
) -> Iterator[Outcome]:
    """Render meshes into the ShapeNet-SRN layout below `out`, yielding one by one.

    Continues what was begun with the same settings. `workers` processes share the
    work; 0 renders in this process. A mesh that does not load, or that crashes its
    worker, is skipped and its reason recorded in the manifest, which is finished when
    the last outcome has been taken. Raises `UserError` if mitsuba is missing, or if
    `out` holds anything else than this data set.
    """
    settings.check()
    if workers < 0:
        raise UserError(f"The number of workers must be 0 or more, not {workers}.")
    load_mitsuba()
    root = Path(out)
    writer = ManifestWriter(
        root,
        {"generator": "meshes", **dataclasses.asdict(settings)},
        depth_unit=settings.depth_unit(),
    )
    records = {record.id: record for record in writer.manifest.objects}
    reasons = dict(writer.manifest.skipped)
    missing = []
    for mesh in meshes:
        name = object_id(mesh)
        if name in records:
            yield Outcome(mesh, records[name], present=True)
        elif mesh.label in reasons:
            yield Outcome(mesh, reason=reasons[mesh.label], present=True)
        else:
            missing.append(mesh)
    for outcome in _render_all(missing, root, settings, workers):
        if outcome.record is None:
            writer.skip(outcome.mesh.label, outcome.reason)
        else:
            writer.add(outcome.record)
        yield outcome
    writer.finish()


def render_object(mesh: MeshFile, root: Path, settings: RenderSettings) -> Outcome:
    """Render one mesh; a broken one gives an outcome with the reason."""
    try:
        surfaces = load_variant(mesh, settings.up)
    except MeshError as error:
        return Outcome(mesh, reason=str(error))
    name = object_id(mesh)
    # Split by the file's own name: it stays on its side wherever the file lies.
    record = ObjectRecord(
        name,
        mesh.label,
        mesh.sha256(),
        posixpath.dirname(mesh.name),
        split_of(posixpath.basename(mesh.name)),
        settings.views,
    )
    # Only whole folders bear an object's name: a kill came before its record.
    if not (root / name).is_dir():
        views = _render_views(mesh.label, surfaces, settings)
        write_object(root, name, views, settings.depth_unit())
    return Outcome(mesh, record)


def _render_views(
    label: str, surfaces: Sequence[Surface], settings: RenderSettings
) -> Views:
    # Each object draws from a sequence that no other object can shift.
    digest = hashlib.sha256(f"{settings.seed}/{label}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
    cameras = settings.draw_cameras(generator)
    renderer = MeshRenderer(surfaces, settings.draw_lighting(generator))
    seed = int.from_bytes(digest[7:10], "big")
    size = (settings.size, settings.size)
    views = renderer.render(cameras, size, settings.samples, seed, settings.depth)
    background = settings.background_color()
    if background is None:
        return views
    assert views.masks is not None
    # Exchange the white behind the object.
    empty = (1 - views.masks)[:, None] * (1 - background)[:, None, None]
    return dataclasses.replace(views, images=views.images - empty, masks=None)


def _render_all(
    meshes: Sequence[MeshFile], root: Path, settings: RenderSettings, workers: int
) -> Iterator[Outcome]:
    if workers == 0:
        for mesh in meshes:
            yield render_object(mesh, root, settings)
        return
    waiting = list(reversed(meshes))
    while waiting:
        suspects: list[MeshFile] = []
        yield from _render_until_crash(waiting, suspects, root, settings, workers)
        # One of those that were under way killed its worker: try each alone.
        for mesh in suspects:
            yield _render_alone(mesh, root, settings)


def _render_until_crash(
    waiting: list[MeshFile],
    suspects: list[MeshFile],
    root: Path,
    settings: RenderSettings,
    workers: int,
) -> Iterator[Outcome]:
    """Take from the end of `waiting`; after a crash, leave the unfinished in suspects.

    No more than two per worker are under way, so that few are suspects.
    """
    pool = _pool(min(workers, len(waiting)))
    running: dict[concurrent.futures.Future[Outcome], MeshFile] = {}
    try:
        while running or (waiting and not suspects):
            while waiting and not suspects and len(running) < 2 * workers:
                mesh = waiting.pop()
                try:
                    running[pool.submit(render_object, mesh, root, settings)] = mesh
                except BrokenProcessPool:
                    suspects.append(mesh)
            done, _ = concurrent.futures.wait(
                running, return_when=concurrent.futures.FIRST_COMPLETED
            )
            for future in done:
                mesh = running.pop(future)
                try:
                    yield future.result()
                except BrokenProcessPool:
                    suspects.append(mesh)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _render_alone(mesh: MeshFile, root: Path, settings: RenderSettings) -> Outcome:
    pool = _pool(1)
    try:
        return pool.submit(render_object, mesh, root, settings).result()
    except BrokenProcessPool:
        return Outcome(mesh, reason="the renderer crashed on it")
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _pool(workers: int) -> concurrent.futures.ProcessPoolExecutor:
    return concurrent.futures.ProcessPoolExecutor(
        workers, multiprocessing.get_context("spawn"), _start_worker
    )


def _start_worker() -> None:
    """One thread per worker; none outlives a killed parent, which alone gets Ctrl-C."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
