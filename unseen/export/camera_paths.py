"""Camera paths: named ones around a scene, and files of them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from unseen.data.cameras import MARGIN
from unseen.errors import UserError
from unseen.export.surrounding import surrounding_sphere
from unseen.files import atomic_file
from unseen.geometry.cameras import Cameras
from unseen.geometry.trajectories import orbit, spiral
from unseen.scenes.scene import Scene

PathName = Literal["orbit", "spiral"]
CAMERA_FILE = "transforms.json"
FLIP = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0]))
"""From OpenCV's camera frame to OpenGL's (x right, y up, z backward), and back."""
MAX_FILE = 2**26
UNDISTORTED = ("OPENCV", "PINHOLE", "SIMPLE_PINHOLE")
DISTORTION = ("k1", "k2", "k3", "k4", "k5", "k6", "p1", "p2")


def named_path(
    name: PathName, scene: Scene, num_views: int, fov: float, elevation: float
) -> Cameras:
    """Cameras (view) around one scene, which see all of it.

    "orbit" is one turn at `elevation`, "spiral" two turns that climb from 10 degrees
    below the horizon to 60 above. `fov` (full) and `elevation` are in degrees.
    """
    center, radius = surrounding_sphere(scene)
    distance = MARGIN * radius / math.sin(0.5 * math.radians(fov))
    near, far = distance - radius, distance + radius
    rest = (distance, math.radians(fov), near, far)
    if name == "orbit":
        return orbit(num_views, math.radians(elevation), *rest, center=center)
    low, high = math.radians(-10), math.radians(60)
    return spiral(num_views, (low, high), *rest, center=center)


def write_cameras(
    cameras: Cameras,
    size: tuple[int, int],
    path: str | Path,
    frames: Mapping[str, list[str]],
    more: Mapping[str, Any] | None = None,
) -> None:
    """Write cameras (view) as a transforms.json, whole or not at all.

    This is what instant-ngp (Mueller et al., 2022) and nerfstudio read: camera-to-world
    matrices with OpenGL's axes, in our world (z up) and its unit, and intrinsics in
    pixels of images of (height, width) `size`. Our near and far stand beside them.
    `frames` are columns of entries for every frame, such as its file_path; `more` are
    entries for all.
    """
    height, width = size
    matrices = (cameras.extrinsics.cpu() @ FLIP).tolist()
    pixels = torch.tensor([width, height, 1])
    intrinsics = (cameras.intrinsics.cpu() * pixels[:, None]).tolist()
    entries = []
    for index, (matrix, k) in enumerate(zip(matrices, intrinsics, strict=True)):
        entry: dict[str, Any] = {key: values[index] for key, values in frames.items()}
        entry |= {"fl_x": k[0][0], "fl_y": k[1][1], "cx": k[0][2], "cy": k[1][2]}
        entry |= {"w": width, "h": height, "transform_matrix": matrix}
        near, far = float(cameras.near[index]), float(cameras.far[index])
        entries.append({**entry, "near": near, "far": far})
    first = entries[0]
    document = {
        "camera_model": "PINHOLE",
        # instant-ngp reads the intrinsics of all frames here.
        "camera_angle_x": 2 * math.atan(0.5 * width / first["fl_x"]),
        **{key: first[key] for key in ("fl_x", "fl_y", "cx", "cy", "w", "h")},
        **(more or {}),
        "frames": entries,
    }
    with atomic_file(path) as temporary:
        temporary.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def read_cameras(path: str | Path, scene: Scene | None = None) -> Cameras:
    """Cameras (view) of a transforms.json, in the order of its frames.

    The file must be in the world of `scene`. Near and far are the file's or, where it
    has none, hold the sphere around the scene; without a scene that is the unit sphere,
    where objects stand. Raises UserError for a file that is
    missing or damaged, or whose lenses distort.
    """
    document = _load(Path(path))
    frames = document.get("frames")
    if not isinstance(frames, list) or not frames:
        raise _damaged(path, "it has no frames")
    try:
        matrices = torch.tensor(
            [frame["transform_matrix"] for frame in frames], dtype=torch.float32
        )
        intrinsics = torch.stack([_intrinsics({**document, **f}) for f in frames])
        if matrices.shape[1:] != (4, 4):
            raise ValueError("a transform_matrix is not 4 x 4")
        if any(
            abs(float({**document, **f}.get(k, 0))) for f in frames for k in DISTORTION
        ):
            raise UserError(
                f"{path} describes lenses that distort, which cannot be rendered: "
                "undistort its images first."
            )
        extrinsics = matrices @ FLIP
        near, far = _range(extrinsics, frames, scene)
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        what = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise _damaged(path, what) from error
    _check_motions(path, extrinsics)
    return Cameras(extrinsics, intrinsics, near, far)


def _load(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > MAX_FILE:
            raise UserError(f"{path} is too large for a file of cameras: name another.")
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UserError(f"cannot read the camera path {path}: {reason}.") from error
    except ValueError as error:
        raise _damaged(path, "it is no JSON") from error
    if not isinstance(document, dict):
        raise _damaged(path, "it holds no frames")
    model = document.get("camera_model", "PINHOLE")
    if model not in UNDISTORTED:
        raise UserError(
            f"{path} has cameras of the model {model!r}, which cannot be rendered: use "
            "pinhole cameras."
        )
    return document


def _damaged(path: str | Path, what: str) -> UserError:
    return UserError(
        f"{path} is no camera path: {what}; name a transforms.json as nerfstudio, "
        "instant-ngp and `unseen export --format cameras` write it."
    )


def _intrinsics(entry: Mapping[str, Any]) -> Float[Tensor, "3 3"]:
    """Normalised intrinsics of one frame's entries, merged with those for all."""
    width, height = float(entry["w"]), float(entry["h"])
    if "fl_x" in entry:
        focal_x = float(entry["fl_x"])
    else:
        focal_x = 0.5 * width / math.tan(0.5 * float(entry["camera_angle_x"]))
    focal_y = float(entry.get("fl_y", focal_x))
    x, y = float(entry.get("cx", width / 2)), float(entry.get("cy", height / 2))
    if not min(focal_x, focal_y, width, height) > 0:
        raise ValueError("sizes and focal lengths must be above 0")
    return torch.tensor(
        [[focal_x / width, 0, x / width], [0, focal_y / height, y / height], [0, 0, 1]]
    )


def _range(
    extrinsics: Float[Tensor, "view 4 4"], frames: list[Any], scene: Scene | None
) -> tuple[Float[Tensor, "view"], Float[Tensor, "view"]]:
    """Near and far: the file's, or around the scene's sphere."""
    center, radius = torch.zeros(3), 1.0
    if scene is not None:
        center, radius = surrounding_sphere(scene)
    depth = ((center - extrinsics[:, :3, 3]) * extrinsics[:, :3, 2]).sum(dim=-1)
    near = (depth - radius).clamp(min=0.01 * radius)
    far = (depth + radius).maximum(near + 0.01 * radius)
    for index, frame in enumerate(frames):
        near[index] = float(frame.get("near", near[index]))
        far[index] = float(frame.get("far", far[index]))
    if not bool(((near > 0) & (near < far)).all()):
        raise ValueError("near and far must be 0 < near < far")
    return near, far


def _check_motions(path: str | Path, extrinsics: Float[Tensor, "view 4 4"]) -> None:
    rotation = extrinsics[:, :3, :3]
    error = (rotation @ rotation.transpose(1, 2) - torch.eye(3)).abs().amax()
    last = extrinsics[:, 3] - torch.tensor([0.0, 0.0, 0.0, 1.0])
    right_handed = bool((torch.linalg.det(rotation) > 0).all())
    if not (float(error) < 1e-3 and float(last.abs().max()) < 1e-6 and right_handed):
        raise _damaged(path, "a transform_matrix is no rigid motion")
