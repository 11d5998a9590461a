"""Everything that a person takes away from sampling, written into one folder."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxtyping import Float
from PIL import Image
from torch import Tensor

from unseen.errors import UserError
from unseen.export.bake_splats import QUICK, BakeOptions, bake_splats
from unseen.export.colormap import to_bytes
from unseen.export.contact_sheet import draw_contact_sheet, save_contact_sheet
from unseen.export.mesh import save_glb
from unseen.export.page import Page, SamplePanel, build_page
from unseen.export.result_folder import MARKER, PRODUCER, result_folder
from unseen.export.splat_files import write_splat_ply
from unseen.export.video import Frames, orbit_cameras, render_frames, write_video
from unseen.files import write_errors
from unseen.scenes.gaussians import GaussianScene
from unseen.scenes.io import save_scene
from unseen.scenes.scene import Scene

Report = Callable[[int, int], None]
"""Called with the steps that are done and the steps in all."""


@dataclasses.dataclass(frozen=True)
class ResultOptions:
    """What is made of every scene.

    `size` is the side of the videos in pixels, `frames` their length in frames, `fov`
    (full) and `elevation` of the orbit are in degrees, `mesh_resolution` is in voxels
    along the scene's longest side.
    """

    size: int = 128
    frames: int = 48
    fov: float = 40.0
    elevation: float = 20.0
    fps: int = 16
    mesh_resolution: int = 96
    splats: BakeOptions = QUICK


@dataclasses.dataclass(frozen=True)
class Origin:
    """Where the scenes came from.

    `title` heads the page; `settings` are shown and written to settings.json;
    `command` makes the same results again; `provenance` is written into every scene's
    file (with the sample's number), so it should hold nothing that does not determine
    the scene, such as the number of samples. `summary` is the page's first sentence,
    where it is not that of sampling.
    """

    title: str
    settings: Mapping[str, Any]
    command: str
    provenance: Mapping[str, Any]
    summary: str | None = None


def write_results(
    out: str | Path,
    scenes: Sequence[Scene],
    image: Float[Tensor, "3 height width"] | None,
    origin: Origin,
    options: ResultOptions = ResultOptions(),
    overwrite: bool = False,
    report: Report | None = None,
) -> list[Path]:
    """Write videos, meshes, splats, scene files, a contact sheet and a page.

    `scenes` are single scenes, sampled from `image` (in [0, 1]) or, where that is
    None, from no image. The folder `out` appears whole at the end or not at all; it
    must not hold anything, or, with `overwrite`, nothing but earlier results. Returns
    the written files. A scene without a surface, or that is no field, gets no mesh and
    no splats, which its page entry says; one without depth gets no video of it.

    Raises UserError if `out` is in use or cannot be written, or the disk is full.
    """
    if not scenes:
        raise ValueError("there are no scenes to write")
    steps = options.frames + 3
    counter = _Counter(report, len(scenes) * steps + 1)
    names = [f"scene_{i:02d}" for i in range(len(scenes))]
    with result_folder(out, overwrite) as folder, write_errors(out):
        orbits, panels = [], []
        for i, (name, scene) in enumerate(zip(names, scenes, strict=True)):
            provenance = {**origin.provenance, "sample": i}
            save_scene(scene, folder / name / "scene.safetensors", provenance)
            orbits.append(_write_videos(folder / name, scene, options, counter))
            splats, note = _write_geometry(folder / name, scene, options, counter)
            counter.reach((i + 1) * steps)
            panels.append(_panel(folder, name, i, splats, note))
        sheet = draw_contact_sheet(image, orbits, origin.title)
        save_contact_sheet(sheet, folder / "contact_sheet.png")
        if image is not None:
            picture = to_bytes(image).permute(1, 2, 0).contiguous().numpy()
            Image.fromarray(picture).save(folder / "input.png")
        _write_page(folder, panels, origin, options)
        _write_settings(folder, origin, options)
        counter.advance(1)
        written = sorted(p.relative_to(folder) for p in folder.rglob("*.*"))
    return [Path(out) / path for path in written]


class _Counter:
    """Counts finished steps and reports them."""

    def __init__(self, report: Report | None, total: int) -> None:
        self._report, self._total, self._done = report, total, 0

    def advance(self, steps: int) -> None:
        self.reach(self._done + steps)

    def reach(self, done: int) -> None:
        """Count up to `done`: what a scene lacks takes no steps."""
        self._done = done
        if self._report is not None:
            self._report(self._done, self._total)


def _write_videos(
    folder: Path, scene: Scene, options: ResultOptions, counter: _Counter
) -> Frames:
    cameras = orbit_cameras(options.frames, options.fov, options.elevation)
    size = (options.size, options.size)
    orbit = render_frames(scene, cameras, size, counter.advance)
    write_video(orbit.color, folder / "orbit.mp4", options.fps)
    if orbit.depth is not None:
        write_video(orbit.depth, folder / "orbit_depth.mp4", options.fps)
    counter.advance(1)
    return orbit


def _write_geometry(
    folder: Path, scene: Scene, options: ResultOptions, counter: _Counter
) -> tuple[GaussianScene | None, str]:
    """Mesh and splats; the splats, and what the scene lacks."""
    if isinstance(scene, GaussianScene):
        write_splat_ply(scene, folder / "splats.ply")
        return scene, "No mesh: these are splats, which have no surface."
    try:
        save_glb(scene, folder / "mesh.glb", options.mesh_resolution)
        counter.advance(1)
        splats = bake_splats(scene, options.splats)
        write_splat_ply(splats, folder / "splats.ply")
    except UserError as error:
        # One empty scene must not cost the others; a full disk must stop all.
        if isinstance(error.__cause__, OSError):
            raise
        return None, f"No mesh and no splats: {error}"
    return splats, ""


def _panel(
    folder: Path, name: str, index: int, splats: GaussianScene | None, note: str
) -> SamplePanel:
    files = {
        "mesh": "mesh.glb",
        "splats": "splats.ply",
        "scene": "scene.safetensors",
        "video": "orbit.mp4",
    }
    depth = folder / name / "orbit_depth.mp4"
    return SamplePanel(
        f"Sample {index}",
        folder / name / "orbit.mp4",
        depth if depth.exists() else None,
        {
            label: f"{name}/{file}"
            for label, file in files.items()
            if (folder / name / file).exists()
        },
        note,
        splats,
    )


def _write_page(
    folder: Path,
    panels: Sequence[SamplePanel],
    origin: Origin,
    options: ResultOptions,
) -> None:
    image = folder / "input.png"
    page = Page(
        title=origin.title,
        summary=origin.summary or _summary(len(panels), image.exists()),
        image=image if image.exists() else None,
        sheet=folder / "contact_sheet.png",
        samples=panels,
        settings=origin.settings,
        command=origin.command,
        fov=options.fov,
        elevation=options.elevation,
    )
    (folder / "index.html").write_text(build_page(page), encoding="utf-8")


def _summary(count: int, of_image: bool) -> str:
    """The page's first sentences."""
    if not of_image:
        noun = "scene" if count == 1 else "scenes"
        return f"{count} {noun} that the model sampled without an image."
    if count == 1:
        return "One scene that this image could belong to."
    return (
        f"{count} scenes that this image could belong to. They agree where the image "
        "says something, and differ where it does not."
    )


def _write_settings(folder: Path, origin: Origin, options: ResultOptions) -> None:
    """settings.json, which also lists the files, so that they can be replaced later."""
    files = sorted(str(p.relative_to(folder)) for p in folder.rglob("*.*"))
    content = {
        "producer": PRODUCER,
        "command": origin.command,
        **origin.settings,
        "output": dataclasses.asdict(options),
        "files": [*files, MARKER],
    }
    text = json.dumps(content, indent=2, default=str) + "\n"
    (folder / MARKER).write_text(text, encoding="utf-8")
