"""Videos along camera paths: rendering and encoding."""

from __future__ import annotations

import dataclasses
import errno
import math
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from unseen.data.cameras import sphere_cameras
from unseen.export.colormap import colorize, to_bytes
from unseen.files import atomic_file
from unseen.geometry.cameras import Cameras
from unseen.scenes.scene import Scene

RAYS_AT_ONCE = 2**17
"""Pixels per call of the renderer, which bounds the memory."""


@dataclasses.dataclass(frozen=True)
class Frames:
    """A rendered trajectory: sRGB colour, and depth as a picture where there is any."""

    color: UInt8[Tensor, "frame 3 height width"]
    depth: UInt8[Tensor, "frame 3 height width"] | None


def orbit_cameras(num_frames: int, fov: float, elevation: float) -> Cameras:
    """One turn (frame) around the unit sphere, counter-clockwise from azimuth 0.

    `fov` (full) and `elevation` are in degrees. The first camera is the one that input
    images are assumed to be taken with.
    """
    azimuths = torch.arange(num_frames) * (2 * math.pi / num_frames)
    elevations = torch.full((num_frames,), math.radians(elevation))
    return sphere_cameras(azimuths, elevations, torch.tensor(math.radians(fov)))


@torch.no_grad()
def render_frames(
    scene: Scene,
    cameras: Cameras,
    size: tuple[int, int],
    advance: Callable[[int], None] | None = None,
) -> Frames:
    """Render one scene along a trajectory (frame) into images of (height, width).

    Depth is shown from light (the camera's near) to dark (its far), on black where
    the scene knows its opacity. `advance` is called with the number of frames that
    were just finished.
    """
    cameras = cameras.to(scene.bounds().device)
    step = max(1, RAYS_AT_ONCE // (size[0] * size[1]))
    colors, depths = [], []
    for start in range(0, len(cameras), step):
        part = cameras[start : start + step]
        rendered = scene.render(part, size)
        colors.append(to_bytes(rendered.color))
        if rendered.depth is not None:
            depths.append(_picture_depth(rendered.depth, rendered.opacity, part))
        if advance is not None:
            advance(len(part))
    return Frames(torch.cat(colors), torch.cat(depths) if depths else None)


def _picture_depth(
    depth: Float[Tensor, "frame height width"],
    opacity: Float[Tensor, "frame height width"] | None,
    cameras: Cameras,
) -> UInt8[Tensor, "frame 3 height width"]:
    near, far = cameras.near[:, None, None], cameras.far[:, None, None]
    shown = ((far - depth) / (far - near)).clamp(0, 1)
    # The darkest fifth of the map is left to the background.
    picture = colorize(0.2 + 0.8 * shown)
    if opacity is not None:
        picture = picture * opacity[:, None].clamp(0, 1)
    return to_bytes(picture)


def write_video(
    frames: UInt8[Tensor, "frame 3 height width"], path: str | Path, fps: int = 24
) -> None:
    """Encode frames as an MP4 that plays everywhere, whole or not at all.

    H.264, yuv420p (which needs an even height and width: an odd last row or column is
    repeated), index at the front. Raises UserError if `path` cannot be written.
    """
    height, width = frames.shape[-2:]
    padded = torch.nn.functional.pad(
        frames.float(), (0, width % 2, 0, height % 2), mode="replicate"
    )
    pixels = padded.to(torch.uint8).permute(0, 2, 3, 1).contiguous()
    height, width = pixels.shape[1:3]
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", "-y"]
    command += ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}"]
    command += ["-r", str(fps), "-i", "-", "-an", "-c:v", "libx264", "-crf", "16"]
    # BT.709 is said and used, or players would guess, by size, and shift colours.
    command += ["-vf", "scale=out_color_matrix=bt709", "-colorspace", "bt709"]
    command += ["-color_primaries", "bt709", "-color_trc", "bt709"]
    command += ["-pix_fmt", "yuv420p", "-movflags", "+faststart", "-f", "mp4"]
    with atomic_file(path) as temporary:
        done = subprocess.run(
            [*command, str(temporary)], input=pixels.numpy().tobytes(), stderr=-1
        )
        if done.returncode != 0:
            message = done.stderr.decode(errors="replace").strip()
            full = "No space left" in message
            raise OSError(
                errno.ENOSPC if full else None,
                message.splitlines()[-1] if message else "the encoder failed",
            )


def write_animation(
    frames: UInt8[Tensor, "frame 3 height width"], path: str | Path, fps: int = 24
) -> None:
    """Write frames as an endless GIF or WebP, by the suffix, whole or not at all.

    A GIF has 256 colours per frame, and durations in hundredths of a second; a WebP
    has all colours, nearly without loss. Raises UserError if `path` cannot be written,
    ValueError for another suffix.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in (".gif", ".webp"):
        raise ValueError(f"an animation is a .gif or a .webp, not {suffix}")
    pixels = frames.permute(0, 2, 3, 1).contiguous().numpy()
    first, *others = [Image.fromarray(frame) for frame in pixels]
    options: dict[str, Any] = {"loop": 0, "duration": round(1000 / fps)}
    if suffix == ".webp":
        options |= {"quality": 90, "method": 4}
    with atomic_file(path) as temporary:
        first.save(temporary, save_all=True, append_images=others, **options)
