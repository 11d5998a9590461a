"""Every file that one scene can become, by the name that `unseen export` knows."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
import trimesh
from jaxtyping import UInt8
from torch import Tensor

from unseen.export.bake_splats import BakeOptions, bake_splats
from unseen.export.frames import no_depth, write_frames
from unseen.export.glb import write_glb
from unseen.export.grid import require_field
from unseen.export.mesh import extract_mesh
from unseen.export.obj import obj_files, write_obj
from unseen.export.points import write_points
from unseen.export.splat_files import write_splat, write_splat_ply
from unseen.export.surrounding import random_views
from unseen.export.texture import bake_texture
from unseen.export.textured_mesh import TexturedMesh
from unseen.export.video import render_frames, write_animation, write_video
from unseen.geometry.cameras import Cameras
from unseen.scenes.gaussians import GaussianScene
from unseen.scenes.scene import Scene

Report = Callable[[int, int], None]
"""Called with the steps that are done and the steps in all."""


@dataclasses.dataclass(frozen=True)
class ExportOptions:
    """How files are made.

    Videos, pictures and depth have (height, width) `size` and are rendered along
    `cameras` (view). `resolution` counts voxels along the longest side of a mesh,
    `block` the texels along the side of a texture's block.
    """

    cameras: Cameras
    size: tuple[int, int] = (256, 256)
    fps: int = 24
    resolution: int = 96
    block: int = 8
    splats: BakeOptions = dataclasses.field(default_factory=BakeOptions)


class Exporter:
    """One scene on its way into files; what several of them need is made once."""

    def __init__(
        self, scene: Scene, options: ExportOptions, report: Report | None = None
    ) -> None:
        self.scene, self.options = scene, options
        self.report = report
        self._splats: GaussianScene | None = None
        self._mesh: trimesh.Trimesh | None = None
        self._texture: TexturedMesh | None = None
        self._frames: Tensor | None = None

    def splats(self) -> GaussianScene:
        """The scene itself if it is made of Gaussians, else baked into them."""
        if self._splats is None:
            if isinstance(self.scene, GaussianScene):
                self._splats = self.scene
            else:
                self._splats = bake_splats(self.scene, self.options.splats, self.report)
        return self._splats

    def mesh(self) -> trimesh.Trimesh:
        """The surface with vertex colours."""
        if self._mesh is None:
            self._mesh = extract_mesh(self.scene, self.options.resolution)
        return self._mesh

    def textured_mesh(self) -> TexturedMesh:
        """The surface with a texture."""
        if self._texture is None:
            self._texture = bake_texture(self.scene, self.mesh(), self.options.block)
        return self._texture

    def frames(self) -> UInt8[Tensor, "frame 3 height width"]:
        """Colour along the camera path."""
        if self._frames is None:
            options = self.options
            self._frames = render_frames(
                self.scene, options.cameras, options.size, self._advance()
            ).color
        return self._frames

    def write_folder(self, folder: Path, with_depth: bool) -> None:
        """Pictures along the camera path, see `write_frames`."""
        options = self.options
        cameras, size = options.cameras, options.size
        write_frames(self.scene, cameras, size, folder, with_depth, self._advance())

    def _advance(self) -> Callable[[int], None]:
        done = 0

        def advance(count: int) -> None:
            nonlocal done
            done += count
            if self.report is not None:
                self.report(done, len(self.options.cameras))

        return advance


@dataclasses.dataclass(frozen=True)
class Format:
    """A kind of file.

    `file` is its usual name, in which {path} stands for the camera path's name; one
    without a suffix is a folder. `write` makes it.
    """

    file: str
    write: Callable[[Exporter, Path], None]
    needs: Callable[[Scene], None] = lambda scene: None

    @property
    def suffix(self) -> str:
        """The file's suffix with its dot, empty for a folder."""
        return Path(self.file).suffix

    def files(self, path: Path) -> list[Path]:
        """All that is written when it is written to `path`."""
        return obj_files(path) if self.suffix == ".obj" else [path]


def _needs_field(scene: Scene) -> None:
    require_field(scene)


@torch.no_grad()
def _needs_depth(scene: Scene) -> None:
    """Raise UserError if a scene renders no depth."""
    # Only a rendering tells, and a single pixel is enough.
    camera = random_views(scene, 1, 40.0, torch.Generator().manual_seed(0))
    if scene.render(camera.to(scene.bounds().device), (1, 1)).depth is None:
        raise no_depth(scene)


FORMATS: Mapping[str, Format] = {
    "ply": Format(
        "splats.ply", lambda e, path: write_splat_ply(e.splats(), path), _needs_depth
    ),
    "splat": Format(
        "splats.splat", lambda e, path: write_splat(e.splats(), path), _needs_depth
    ),
    "points": Format(
        "points.ply", lambda e, path: write_points(e.splats(), path), _needs_depth
    ),
    "glb": Format("mesh.glb", lambda e, path: write_glb(e.mesh(), path), _needs_field),
    "glb-texture": Format(
        "mesh_texture.glb",
        lambda e, path: write_glb(e.textured_mesh(), path),
        _needs_field,
    ),
    "obj": Format(
        "mesh.obj", lambda e, path: write_obj(e.textured_mesh(), path), _needs_field
    ),
    "mp4": Format(
        "{path}.mp4", lambda e, path: write_video(e.frames(), path, e.options.fps)
    ),
    "gif": Format(
        "{path}.gif", lambda e, path: write_animation(e.frames(), path, e.options.fps)
    ),
    "webp": Format(
        "{path}.webp", lambda e, path: write_animation(e.frames(), path, e.options.fps)
    ),
    "cameras": Format(
        "{path}_cameras", lambda e, path: e.write_folder(path, with_depth=False)
    ),
    "depth": Format(
        "{path}_depth",
        lambda e, path: e.write_folder(path, with_depth=True),
        _needs_depth,
    ),
}
