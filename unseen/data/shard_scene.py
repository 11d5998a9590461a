"""One scene of a shard: views to the members of a tar file, and back."""

from __future__ import annotations

import dataclasses
import io
import json
import re
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from unseen.data.dataset import PosedDataset
from unseen.data.frame_dataset import DecodedFrame, decode_image
from unseen.data.shards import CAMERAS
from unseen.errors import UserError
from unseen.geometry.cameras import Cameras
from unseen.geometry.views import Views

VIEWS_AT_ONCE = 16
"""Views that are decoded at a time: a whole video as floats may not fit into memory."""

LARGEST_STEP = 65535


@dataclasses.dataclass(frozen=True)
class PackedScene:
    """A scene as the members of its sample: (name, bytes), the cameras first."""

    id: str
    views: int
    members: tuple[tuple[str, bytes], ...]


def pack_scene(dataset: PosedDataset, index: int) -> PackedScene:
    """Encode a scene: images in 8 bits, depths in 16 from 0 to the scene's largest.

    Raises UserError for what cannot be read, and for images of different sizes.
    """
    count = dataset.num_views(index)
    parts = []
    for first in range(0, count, VIEWS_AT_ONCE):
        chosen = list(range(first, min(first + VIEWS_AT_ONCE, count)))
        parts.append(_pack(dataset.load(index, chosen)))
    sizes = sorted({part.size for part in parts})
    if len(sizes) > 1:
        raise UserError(
            f"{dataset.root / dataset.scene_ids[index]} has images of different sizes "
            f"({sizes[0]} and {sizes[1]}); bring them to one size, or ask for a side."
        )
    cameras = Cameras.cat([part.cameras for part in parts])
    images = [image for part in parts for image in part.images]
    masks = [mask for part in parts for mask in part.masks]
    depths = [depth for part in parts for depth in part.depths]
    masks = masks if len(masks) == count else []
    depths = depths if len(depths) == count else []
    unit = max((float(depth.max()) for depth in depths), default=0.0) / LARGEST_STEP
    encoded = [_png((d / (unit or 1) + 0.5).astype(np.uint16)) for d in depths]
    members: list[tuple[str, bytes]] = []
    for view in range(count):
        members.append((f"{view:04d}.png", images[view]))
        members += [(f"{view:04d}.mask.png", masks[view])] if masks else []
        members += [(f"{view:04d}.depth.png", encoded[view])] if encoded else []
    scene = dataset.scene_ids[index]
    header = {
        "scene": scene,
        "size": list(sizes[0]),
        "depth_unit": unit,
        "members": [[name, len(content)] for name, content in members],
        "frames": list(dataset.frame_numbers(index)),
        **_cameras_to_json(cameras),
    }
    whole = [(CAMERAS, json.dumps(header).encode()), *members]
    named = [(f"{_key(index, scene)}.{name}", content) for name, content in whole]
    return PackedScene(scene, count, tuple(named))


def parse_header(content: bytes, scene: str) -> tuple[dict[str, Any], Cameras]:
    """What a scene's cameras.json says; ValueError unless it is that scene's."""
    header = json.loads(content)
    if not isinstance(header, dict) or header.get("scene") != scene:
        raise ValueError("another scene")
    count = len(header["near"])
    # Shards of before this entry was thought of number their views one by one.
    frames = header.setdefault("frames", list(range(count)))
    if len(frames) != count or not all(type(number) is int for number in frames):
        raise ValueError("no numbers of its views")

    def tensor(name: str, *shape: int) -> Tensor:
        return torch.tensor(header[name], dtype=torch.float32).reshape(count, *shape)

    cameras = Cameras(
        tensor("extrinsics", 4, 4),
        tensor("intrinsics", 3, 3),
        tensor("near"),
        tensor("far"),
    )
    return header, cameras


def decode_frame(
    image: bytes, mask: bytes | None, depth: bytes | None, unit: float, where: str
) -> DecodedFrame:
    """A view of a shard; UserError, naming `where`, for damaged bytes."""
    steps = None
    if depth is not None:
        try:
            with Image.open(io.BytesIO(depth)) as opened:
                steps = np.asarray(opened).astype(np.float32) * np.float32(unit)
        except (OSError, SyntaxError) as error:
            raise UserError(f"The depths {where} are damaged.") from error
    return DecodedFrame(
        decode_image(image, "RGB", where),
        None if mask is None else decode_image(mask, "L", where),
        steps,
    )


@dataclasses.dataclass(frozen=True)
class _Part:
    """Some views, encoded but for their depths, whose unit is the whole scene's."""

    size: tuple[int, int]
    cameras: Cameras
    images: list[bytes]
    masks: list[bytes]
    depths: list[np.ndarray]


def _pack(views: Views) -> _Part:
    images = _to_bytes(views.images.permute(0, 2, 3, 1))
    masks = [] if views.masks is None else list(_to_bytes(views.masks))
    depths = [] if views.depths is None else list(views.depths.numpy())
    return _Part(
        views.size,
        views.cameras,
        [_png(image) for image in images],
        [_png(mask) for mask in masks],
        depths,
    )


def _to_bytes(values: Tensor) -> np.ndarray:
    return (values.clamp(0, 1) * 255 + 0.5).to(torch.uint8).numpy()


def _png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=4)
    return file.getvalue()


def _cameras_to_json(cameras: Cameras) -> dict[str, Any]:
    """float32 as decimals that read back to the same bits."""
    return {
        "extrinsics": cameras.extrinsics.flatten(1).tolist(),
        "intrinsics": cameras.intrinsics.flatten(1).tolist(),
        "near": cameras.near.tolist(),
        "far": cameras.far.tolist(),
    }


def _key(index: int, scene: str) -> str:
    """Unique, in order, and free of what tar and webdataset give a meaning."""
    return f"{index:07d}-{re.sub(r'[^A-Za-z0-9_-]', '-', scene)[:48]}"
