"""One small scene, written in every format, to be read back."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy.spatial.transform import Rotation

from unseen.data.cameras import object_cameras
from unseen.data.procedural import make_object
from unseen.geometry.cameras import Cameras
from unseen.geometry.views import Views

VIEWS, SIZE = 5, 24


def make_views() -> Views:
    """The truth: a mug from five sides, near and far about the origin."""
    cameras = object_cameras(VIEWS, torch.Generator().manual_seed(0))
    return make_object("mug", 1).render(cameras, SIZE)


def save_image(views: Views, index: int, path: Path, alpha: bool = True) -> None:
    """8-bit RGBA with straight alpha, or RGB on white."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = views.images[index]
    if alpha and views.masks is not None:
        mask = views.masks[index][None]
        color = ((image - (1 - mask)) / mask.clamp(min=1e-6)).clamp(0, 1)
        image = torch.cat([torch.where(mask > 0, color, 1.0), mask])
    array = (image * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
    Image.fromarray(array).save(path)


def opengl(cameras: Cameras) -> np.ndarray:
    """Camera to world with y up and z back."""
    poses = cameras.extrinsics.double().numpy().copy()
    poses[:, :, 1:3] *= -1
    return poses


def focal_pixels(cameras: Cameras) -> float:
    return float(cameras.intrinsics[0, 0, 0]) * SIZE


def write_zero123(root: Path, views: Views) -> None:
    for index, pose in enumerate(opengl(views.cameras)):
        save_image(views, index, root / f"{index:03d}.png")
        np.save(root / f"{index:03d}.npy", np.linalg.inv(pose)[:3])


def write_nerf_synthetic(root: Path, views: Views) -> None:
    parts = {"train": [0, 1], "val": [2], "test": [3, 4]}
    for part, members in parts.items():
        frames = []
        for number, index in enumerate(members):
            save_image(views, index, root / part / f"r_{number}.png")
            frames.append(
                {
                    "file_path": f"./{part}/r_{number}",
                    "transform_matrix": opengl(views.cameras)[index].tolist(),
                }
            )
        angle = 2 * np.arctan(0.5 / float(views.cameras.intrinsics[0, 0, 0]))
        content = {"camera_angle_x": angle, "frames": frames}
        (root / f"transforms_{part}.json").write_text(json.dumps(content))


def write_transforms(root: Path, views: Views, **more: object) -> None:
    focal, frames = focal_pixels(views.cameras), []
    for index, pose in enumerate(opengl(views.cameras)):
        save_image(views, index, root / "images" / f"{index}.png")
        frames.append(
            {"file_path": f"images/{index}.png", "transform_matrix": pose.tolist()}
        )
    content = {"fl_x": focal, "fl_y": focal, "cx": SIZE / 2, "cy": SIZE / 2}
    content |= {"w": SIZE, "h": SIZE, "frames": frames, **more}
    (root / "transforms.json").write_text(json.dumps(content))


def write_llff(root: Path, views: Views) -> None:
    """In images_4, as if the photographs had been four times as large."""
    rows = []
    for index, pose in enumerate(views.cameras.extrinsics.double().numpy()):
        save_image(views, index, root / "images_4" / f"IMG_{index}.png")
        right, down, forward, center = pose[:3].T
        hwf = [4 * SIZE, 4 * SIZE, 4 * focal_pixels(views.cameras)]
        matrix = np.stack([down, right, -forward, center, np.array(hwf)], axis=1)
        rows.append(
            [*matrix.ravel(), views.cameras.near[index], views.cameras.far[index]]
        )
    np.save(root / "poses_bounds.npy", np.array(rows, dtype=np.float64))


POINTS = np.random.default_rng(0).uniform(-0.5, 0.5, (40, 3))
"""Points of the COLMAP models: in a cube around the origin."""


def colmap_pose(pose: np.ndarray) -> tuple[list[float], list[float]]:
    """Quaternion (w first) and translation, world to camera."""
    inverse = np.linalg.inv(pose)
    x, y, z, w = Rotation.from_matrix(inverse[:3, :3]).as_quat()
    return [w, x, y, z], inverse[:3, 3].tolist()


def write_colmap_text(root: Path, views: Views) -> None:
    focal, model = focal_pixels(views.cameras), root / "sparse" / "0"
    model.mkdir(parents=True)
    (model / "cameras.txt").write_text(
        f"# Camera list\n7 SIMPLE_PINHOLE {SIZE} {SIZE} {focal} {SIZE / 2} {SIZE / 2}\n"
    )
    lines = ["# Image list", "# with two lines of data per image"]
    for index, pose in enumerate(views.cameras.extrinsics.double().numpy()):
        save_image(views, index, root / "images" / f"{index}.png")
        quaternion, translation = colmap_pose(pose)
        numbers = " ".join(repr(float(x)) for x in (*quaternion, *translation))
        lines.append(f"{index + 1} {numbers} 7 {index}.png")
        # The last image observed nothing; the others all points and one outlier.
        seen = [] if index == VIEWS - 1 else [*range(40), -1]
        lines.append(" ".join(f"1.5 2.5 {point}" for point in seen))
    (model / "images.txt").write_text("\n".join(lines) + "\n")
    points = [f"{n} {x} {y} {z} 9 9 9 0.5 1 0" for n, (x, y, z) in enumerate(POINTS)]
    (model / "points3D.txt").write_text("# Points\n" + "\n".join(points) + "\n")


def write_colmap_binary(root: Path, views: Views) -> None:
    focal, model = focal_pixels(views.cameras), root / "sparse"
    model.mkdir(parents=True)
    half = SIZE / 2
    data = struct.pack(
        "<QIiQQ8d", 1, 7, 4, SIZE, SIZE, focal, focal, half, half, *[0.0] * 4
    )
    (model / "cameras.bin").write_bytes(data)
    data = struct.pack("<Q", VIEWS)
    for index, pose in enumerate(views.cameras.extrinsics.double().numpy()):
        save_image(views, index, root / "images" / f"{index}.png")
        quaternion, translation = colmap_pose(pose)
        data += struct.pack("<I7dI", index + 1, *quaternion, *translation, 7)
        data += f"{index}.png".encode() + b"\0"
        seen = [] if index == VIEWS - 1 else [*range(40), -1]
        data += struct.pack("<Q", len(seen))
        for point in seen:
            data += struct.pack("<ddq", 1.5, 2.5, point)
    (model / "images.bin").write_bytes(data)
    data = struct.pack("<Q", 40)
    for number, point in enumerate(POINTS):
        data += struct.pack("<Q3d3BdQ2I", number, *point, 9, 9, 9, 0.5, 1, 1, 0)
    (model / "points3D.bin").write_bytes(data)


def write_posed_folder(root: Path, views: Views, **more: object) -> None:
    frames = []
    for index, pose in enumerate(views.cameras.extrinsics.tolist()):
        save_image(views, index, root / f"{index}.png")
        frames.append({"image": f"{index}.png", "extrinsics": pose})
    focal = float(views.cameras.intrinsics[0, 0, 0])
    intrinsics = {"fx": focal, "fy": focal, "cx": 0.5, "cy": 0.5}
    content = {
        "camera_to_world": "opencv",
        "intrinsics": intrinsics,
        "z_up": True,
        "frames": frames,
        **more,
    }
    (root / "poses.json").write_text(json.dumps(content))
