"""`unseen export`: scenes into the files of other programs."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import tyro

from unseen.cli.checks import check_ranges
from unseen.cli.progress import Bar, progress_bars
from unseen.errors import UserError

if TYPE_CHECKING:
    from rich.progress import Progress

    from unseen.geometry.cameras import Cameras
    from unseen.scenes.scene import Scene

FormatName = Literal[
    "ply", "splat", "points", "glb", "glb-texture", "obj",
    "mp4", "gif", "webp", "cameras", "depth",
]  # fmt: skip
SCENE_FILE = "scene.safetensors"
VIEWS_FILE = "cameras.json"


@dataclasses.dataclass(frozen=True)
class Export:
    """Turn scenes into splats, meshes, videos, pictures, depth or camera files.

    Formats: ply and splat (3D Gaussians, fitted to the scene), points (PLY), glb (mesh
    with vertex colours), glb-texture and obj (mesh with a texture); mp4, gif and webp,
    along a camera path; cameras (pictures and a transforms.json as nerfstudio and
    instant-ngp read it) and depth (the same, with depth as 16-bit PNG and floats).
    """

    source: tyro.conf.Positional[Path]
    """A scene (.safetensors), splats of any program (.ply, .splat), or a folder that
    `unseen sample` wrote."""
    format: tuple[FormatName, ...]
    """What to write; several may be named."""
    out: Path = Path("unseen-export")
    """Folder to write to; or the file, if one scene becomes one file and the suffix is
    the format's."""
    path: str = "orbit"
    """Camera path of videos, pictures and depth: orbit, spiral, or a transforms.json
    in the scene's world."""
    frames: int = 48
    """Cameras on the path; a file has its own number."""
    size: int = 256
    """Side of videos, pictures and depth in pixels."""
    fov: float = 40.0
    """Full field of view of the path, in degrees."""
    elevation: float = 20.0
    """Degrees by which the cameras of the orbit look down."""
    fps: int = 24
    """Frames per second of videos."""
    resolution: int = 96
    """Voxels along the longest side of a mesh."""
    texels: int = 8
    """Side in texels of the block that two triangles share in a texture."""
    gaussians: int = 8000
    """Gaussians at most that a scene is baked into."""
    views: int = 48
    """Renderings that they are fitted to."""
    steps: int = 300
    """Steps of fitting them."""
    degree: int = 0
    """Degree of their spherical harmonics, 0 to 3: above 0, colours may depend on the
    direction of view."""
    measure: bool = False
    """Also compare splats and meshes with the scene on views that were not used."""
    overwrite: bool = False
    """Replace files that exist."""

    def run(self) -> None:
        """Write all formats of all scenes, and print the paths of what was written."""
        self._check()
        scenes = _find_scenes(self.source)
        places = self._places(list(scenes))
        # PyTorch takes seconds to import: `--help` and bad arguments need not wait.
        from unseen.export.formats import FORMATS

        loaded = {name: _load(file) for name, file in scenes.items()}
        for scene in loaded.values():
            for format_name in self.format:
                FORMATS[format_name].needs(scene)
        with progress_bars() as progress:
            for name, scene in loaded.items():
                self._write(scene, places[name], progress)

    def _write(self, scene: Scene, places: dict[str, Path], progress: Progress) -> None:
        """One scene into all formats; a line for each."""
        from unseen.cli.export_quality import quality
        from unseen.export.formats import FORMATS, Exporter, ExportOptions

        exporter = Exporter(scene, ExportOptions(self._cameras(scene), **self._made()))
        for name, path in places.items():
            start = time.monotonic()
            bar = Bar(progress, f"Writing {path.name}")
            exporter.report = bar.report
            FORMATS[name].write(exporter, path)
            bar.report(1, 1)
            seconds = time.monotonic() - start
            line = f"{path}: {_bytes(path)} in {seconds:.1f} s"
            if self.measure:
                line += quality(name, exporter)
            print(line, flush=True)

    def _made(self) -> dict[str, Any]:
        """What `ExportOptions` takes besides cameras."""
        from unseen.export.bake_splats import BakeOptions

        splats = BakeOptions(
            max_gaussians=self.gaussians,
            views=self.views,
            steps=self.steps,
            degree=self.degree,
        )
        return {
            "size": (self.size, self.size),
            "fps": self.fps,
            "resolution": self.resolution,
            "block": self.texels,
            "splats": splats,
        }

    def _cameras(self, scene: Scene) -> Cameras:
        """The path's cameras."""
        from unseen.export.camera_paths import named_path, read_cameras

        if self.path in ("orbit", "spiral"):
            return named_path(
                cast(Any, self.path), scene, self.frames, self.fov, self.elevation
            )
        return read_cameras(self.path, scene)

    def _check(self) -> None:
        """Refuse what makes no sense, before anything slow happens."""
        ranges = {
            "frames": (1, 10_000),
            "size": (1, 4096),
            "fov": (1, 150),
            "elevation": (-89, 89),
            "fps": (1, 240),
            "resolution": (4, 1024),
            "texels": (6, 64),
            "gaussians": (4, 1_000_000),
            "views": (1, 10_000),
            "steps": (0, 100_000),
            "degree": (0, 3),
        }
        check_ranges(self, ranges)
        named = self.path in ("orbit", "spiral")
        if not named and not self.path.endswith(".json"):
            raise UserError(
                f"--path must be orbit, spiral or a transforms.json, not {self.path}."
            )

    def _places(self, names: list[str]) -> dict[str, dict[str, Path]]:
        """Where each format of each scene goes; UserError if something is there."""
        from unseen.export.formats import FORMATS

        formats = list(dict.fromkeys(self.format))
        label = self.path if not self.path.endswith(".json") else Path(self.path).stem
        places: dict[str, dict[str, Path]] = {}
        for name in names:
            folder = self.out / name if len(names) > 1 else self.out
            files = {f: FORMATS[f].file.format(path=label) for f in formats}
            places[name] = {f: folder / file for f, file in files.items()}
        if len(names) == len(formats) == 1:
            suffix = FORMATS[formats[0]].suffix
            if suffix and self.out.suffix.lower() == suffix:
                places[names[0]] = {formats[0]: self.out}
        for chosen in places.values():
            for format_name, path in chosen.items():
                for file in FORMATS[format_name].files(path):
                    self._check_place(file, is_folder=not FORMATS[format_name].suffix)
        return places

    def _check_place(self, path: Path, is_folder: bool) -> None:
        from unseen.files import check_place

        if not path.exists():
            check_place(path)
        elif path.is_dir() != is_folder:
            raise UserError(f"{path} is in the way: name another place with --out.")
        elif not self.overwrite and not (is_folder and not any(path.iterdir())):
            raise UserError(
                f"{path} exists: replace it with --overwrite, or name another place "
                "with --out."
            )


def _find_scenes(source: Path) -> dict[str, Path]:
    """The scene files that are meant, by the name of their folder."""
    if not source.exists():
        raise UserError(
            f"{source} does not exist: name a scene or a folder of results."
        )
    if not source.is_dir():
        return {source.stem: source}
    if (source / SCENE_FILE).is_file():
        return {source.name: source / SCENE_FILE}
    found = sorted(source.glob(f"*/{SCENE_FILE}"))
    if not found:
        if any(source.glob(f"*/{VIEWS_FILE}")):
            raise UserError(
                f"{source} holds views and no scenes: name results of a model that "
                "samples scenes."
            )
        raise UserError(
            f"{source} holds no scenes ({SCENE_FILE}): name a folder that `unseen "
            "sample` wrote, or a scene file."
        )
    return {path.parent.name: path for path in found}


def _load(path: Path) -> Scene:
    from unseen.export.splat_files import read_splat_file
    from unseen.scenes.io import load_scene

    if path.suffix.lower() in (".ply", ".splat"):
        return read_splat_file(path)
    scene = load_scene(path)
    if scene.shape != ():
        raise UserError(
            f"{path} holds a batch of scenes: save them one by one (scene[0].save)."
        )
    return scene


def _bytes(path: Path) -> str:
    """The size of a file, or of all in a folder."""
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    size = sum(file.stat().st_size for file in files)
    return f"{size / 1e6:.2f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB"
