"""Pinhole cameras: OpenCV camera-to-world extrinsics, normalised intrinsics."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor


@dataclasses.dataclass(frozen=True)
class Cameras:
    """A batch of pinhole cameras.

    The camera frame is OpenCV's: x right, y down, z forward. The world is
    right-handed with z up. Intrinsics are normalised by the image's width (first
    row) and height (second row), so resizing an image leaves its camera unchanged.
    `near` and `far` bound the scene in depth (z in the camera frame), in world units.
    """

    extrinsics: Float[Tensor, "*batch 4 4"]
    intrinsics: Float[Tensor, "*batch 3 3"]
    near: Float[Tensor, "*batch"]
    far: Float[Tensor, "*batch"]

    @property
    def shape(self) -> torch.Size:
        """The batch shape."""
        return self.near.shape

    @property
    def device(self) -> torch.device:
        return self.near.device

    @property
    def centers(self) -> Float[Tensor, "*batch 3"]:
        """Camera centres in the world."""
        return self.extrinsics[..., :3, 3]

    def _map(self, function) -> Cameras:
        return Cameras(
            function(self.extrinsics),
            function(self.intrinsics),
            function(self.near),
            function(self.far),
        )

    def __getitem__(self, index) -> Cameras:
        """Index the batch axes, as one would index `near`."""
        return self._map(lambda x: x[index])

    def __len__(self) -> int:
        return len(self.near)

    def to(self, device: torch.device | str | torch.dtype) -> Cameras:
        return self._map(lambda x: x.to(device))

    def reshape(self, *shape: int) -> Cameras:
        """Reshape the batch axes."""
        return Cameras(
            self.extrinsics.reshape(*shape, 4, 4),
            self.intrinsics.reshape(*shape, 3, 3),
            self.near.reshape(shape),
            self.far.reshape(shape),
        )

    def expand(self, *shape: int) -> Cameras:
        """Expand the batch axes."""
        return Cameras(
            self.extrinsics.expand(*shape, 4, 4),
            self.intrinsics.expand(*shape, 3, 3),
            self.near.expand(*shape),
            self.far.expand(*shape),
        )

    def transform(self, motion: Float[Tensor, "*#batch 4 4"]) -> Cameras:
        """Move the world: left-multiply the extrinsics by a rigid motion."""
        return dataclasses.replace(self, extrinsics=motion @ self.extrinsics)

    @staticmethod
    def stack(cameras: Sequence[Cameras], dim: int = 0) -> Cameras:
        """Stack along a new batch axis. `dim` counts from the front (0 or more)."""
        return _join(torch.stack, cameras, dim)

    @staticmethod
    def cat(cameras: Sequence[Cameras], dim: int = 0) -> Cameras:
        """Concatenate along a batch axis. `dim` counts from the front (0 or more)."""
        return _join(torch.cat, cameras, dim)


def _join(join, cameras: Sequence[Cameras], dim: int) -> Cameras:
    if dim < 0:
        raise ValueError(f"dim must be 0 or more, it is {dim}")
    return Cameras(
        join([c.extrinsics for c in cameras], dim),
        join([c.intrinsics for c in cameras], dim),
        join([c.near for c in cameras], dim),
        join([c.far for c in cameras], dim),
    )


def intrinsics_from_fov(
    fov: Float[Tensor, "*batch"],
) -> Float[Tensor, "*batch 3 3"]:
    """Normalised intrinsics of a square image with a full field of view in radians."""
    focal = 0.5 / torch.tan(0.5 * fov)
    zero, half, one = torch.zeros_like(fov), torch.full_like(fov, 0.5), focal * 0 + 1
    rows = [
        torch.stack([focal, zero, half], dim=-1),
        torch.stack([zero, focal, half], dim=-1),
        torch.stack([zero, zero, one], dim=-1),
    ]
    return torch.stack(rows, dim=-2)


def look_at(
    centers: Float[Tensor, "*batch 3"],
    targets: Float[Tensor, "*#batch 3"],
) -> Float[Tensor, "*batch 4 4"]:
    """Extrinsics of cameras that look from `centers` at `targets`, world z up.

    A camera that looks straight up or down gets an arbitrary but fixed roll.
    """
    forward = torch.nn.functional.normalize(targets - centers, dim=-1)
    up = torch.tensor([0.0, 0.0, 1.0]).to(forward).expand_as(forward)
    fallback = torch.tensor([0.0, 1.0, 0.0]).to(forward).expand_as(forward)
    vertical = (forward * up).sum(-1, keepdim=True).abs() > 1 - 1e-6
    up = torch.where(vertical, fallback, up)
    right = torch.nn.functional.normalize(torch.linalg.cross(forward, up), dim=-1)
    down = torch.linalg.cross(forward, right)
    extrinsics = torch.eye(4).to(forward).repeat(*forward.shape[:-1], 1, 1)
    extrinsics[..., :3, 0] = right
    extrinsics[..., :3, 1] = down
    extrinsics[..., :3, 2] = forward
    extrinsics[..., :3, 3] = centers
    return extrinsics


def scene_middle(cameras: Cameras) -> Float[Tensor, "*batch 3"]:
    """The point on each optical axis in the middle of the depth range.

    This is where an object that fills the range stands.
    """
    middle = 0.5 * (cameras.near + cameras.far)
    return cameras.centers + middle[..., None] * cameras.extrinsics[..., :3, 2]


def turn_cameras(cameras: Cameras, azimuths: Float[Tensor, "turn"]) -> Cameras:
    """Turn each camera about a vertical axis; angles in radians, (*batch turn) out.

    The axis goes through each camera's `scene_middle`.
    """
    pivot = scene_middle(cameras)
    motion = torch.eye(4).to(pivot).repeat(*cameras.shape, len(azimuths), 1, 1)
    cos, sin = azimuths.cos(), azimuths.sin()
    motion[..., 0, 0], motion[..., 0, 1] = cos, -sin
    motion[..., 1, 0], motion[..., 1, 1] = sin, cos
    # x -> R (x - pivot) + pivot.
    pivot = pivot[..., None, :].expand(*cameras.shape, len(azimuths), 3)
    rotated = torch.einsum("...ij,...j->...i", motion[..., :3, :3], pivot)
    motion[..., :3, 3] = pivot - rotated
    repeated = cameras._map(lambda x: x.unsqueeze(len(cameras.shape)))
    return repeated.expand(*cameras.shape, len(azimuths)).transform(motion)
