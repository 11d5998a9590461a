"""What a person takes away from sampled views where there is no scene behind them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxtyping import Float
from PIL import Image
from torch import Tensor

from unseen.export.colormap import to_bytes
from unseen.export.contact_sheet import draw_contact_sheet, save_contact_sheet
from unseen.export.page import Page, SamplePanel, build_page
from unseen.export.result import Origin, Report
from unseen.export.result_folder import MARKER, PRODUCER, result_folder
from unseen.export.video import Frames, write_video
from unseen.files import write_errors
from unseen.geometry.views import Views

FPS = 4
NOTE = "Views and no scene: this method has no mesh and no splats."
OF_AN_IMAGE = (
    "Views that this image could belong to, sampled one after the other; each video "
    "begins with the image itself."
)
OF_NO_IMAGE = "Views of one object each, sampled together and of no image."


def write_view_results(
    out: str | Path,
    given: Views,
    samples: Sequence[Views],
    image: Float[Tensor, "3 height width"] | None,
    origin: Origin,
    overwrite: bool = False,
    report: Report | None = None,
    turn: bool = True,
) -> list[Path]:
    """Write videos, pictures, cameras, a contact sheet and a page.

    `given` is the input view (1,), with which every video begins; `samples` are views
    (view,) at one set of cameras, which complete a `turn` or follow another path;
    `image` is the input as it is shown, in [0, 1]. Without an input they are (0,) and
    None. The
    folder `out` appears whole at the end or not at all; see `check_out` for what it may
    hold. Returns the written files.

    Raises:
        UserError: `out` is in use or cannot be written, or the disk is full.
    """
    if not samples:
        raise ValueError("there are no samples to write")
    with result_folder(out, overwrite) as folder, write_errors(out):
        orbits, panels = [], []
        for i, views in enumerate(samples):
            name = f"sample_{i:02d}"
            orbits.append(_write_sample(folder / name, given, views))
            links = {"cameras": f"{name}/cameras.json", "video": f"{name}/views.mp4"}
            video = folder / name / "views.mp4"
            panels.append(SamplePanel(f"Sample {i}", video, None, links, NOTE))
            if report is not None:
                report(i + 1, len(samples))
        sheet = draw_contact_sheet(image, orbits, origin.title, turn)
        save_contact_sheet(sheet, folder / "contact_sheet.png")
        picture = None
        if image is not None:
            picture = folder / "input.png"
            _save_png(to_bytes(image), picture)
        page = Page(
            title=origin.title,
            summary=OF_NO_IMAGE if image is None else OF_AN_IMAGE,
            image=picture,
            sheet=folder / "contact_sheet.png",
            samples=panels,
            settings=origin.settings,
            command=origin.command,
        )
        (folder / "index.html").write_text(build_page(page), encoding="utf-8")
        files = sorted(str(p.relative_to(folder)) for p in folder.rglob("*.*"))
        settings = {"producer": PRODUCER, "command": origin.command, **origin.settings}
        _write_json(folder / MARKER, {**settings, "files": [*files, MARKER]})
        written = sorted(p.relative_to(folder) for p in folder.rglob("*.*"))
    return [Path(out) / path for path in written]


def _write_sample(folder: Path, given: Views, views: Views) -> Frames:
    folder.mkdir()
    first = Views(given.images, given.cameras)
    both = Views.cat([first.to("cpu"), views.to("cpu")])
    colors = to_bytes(both.images)
    for i, picture in enumerate(colors):
        _save_png(picture, folder / f"view_{i:03d}.png")
    write_video(colors, folder / "views.mp4", FPS)
    _write_json(folder / "cameras.json", _describe_cameras(both, len(given)))
    return Frames(colors, None)


def _describe_cameras(views: Views, num_given: int) -> dict[str, Any]:
    """Every picture's camera, for programs that read the pictures."""
    cameras = views.cameras
    return {
        "convention": "camera to world, OpenCV axes (x right, y down, z forward), "
        "world z up; intrinsics divided by the image's width and height",
        "frames": [
            {
                "file": f"view_{i:03d}.png",
                "given": i < num_given,
                "camera_to_world": cameras.extrinsics[i].tolist(),
                "intrinsics": cameras.intrinsics[i].tolist(),
                "near": float(cameras.near[i]),
                "far": float(cameras.far[i]),
            }
            for i in range(len(views))
        ],
    }


def _save_png(picture: Tensor, path: Path) -> None:
    Image.fromarray(picture.permute(1, 2, 0).contiguous().numpy()).save(path)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    text = json.dumps(content, indent=2, default=str) + "\n"
    path.write_text(text, encoding="utf-8")
