"""A latent volume that is turned and decoded (Dupont et al., ICML 2020).

The volume is what one camera sees: to see the scene from elsewhere it is turned by the
rotation between the two cameras, and a network decodes it into an image. Nothing in it
has a place or a size in the world, so **of a camera only its orientation counts**: the
scene turns about the point that the source camera looked at, and cameras that differ in
distance, position or intrinsics, but not in orientation, get the same picture.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from unseen.configuration import from_json, to_json
from unseen.geometry.boxes import box_around, object_box
from unseen.geometry.cameras import Cameras
from unseen.networks.voxel_resnet import VoxelDecoder, VoxelNetworkConfig
from unseen.rendering.rendering import Rendering
from unseen.scenes.scene import PixelRendering, Scene
from unseen.scenes.state import (
    camera_tensors,
    cameras_of,
    module_state,
    module_tensors,
)

VIEWS_AT_ONCE = 16
"""Pictures that are decoded together; this bounds the memory."""


def relative_rotation(
    source: Float[Tensor, "*batch 4 4"], target: Float[Tensor, "*batch 4 4"]
) -> Float[Tensor, "*batch 3 3"]:
    """How the volume of one camera turns into that of another, given extrinsics.

    In a volume's frame x is its depth axis (towards the camera), y its height (down)
    and z its width (right). For cameras that look at the middle of the scene this is
    R_t R_s^T with R = R_z(elevation) R_y(azimuth) for each.
    """
    # From OpenCV's camera frame (right, down, forward) to (backward, down, right).
    axes = source.new_tensor([[0.0, 0.0, -1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    turn = target[..., :3, :3].transpose(-1, -2) @ source[..., :3, :3]
    return axes @ turn @ axes.T


def rotate_volumes(
    volumes: Float[Tensor, "batch channel depth height width"],
    rotations: Float[Tensor, "batch 3 3"],
) -> Float[Tensor, "batch channel depth height width"]:
    """Turn cubes about their middle; trilinear, and zero outside of them.

    What was at position p (depth, height, width, from the middle) goes to R p.
    """
    # The sampler wants to know where each output voxel comes from, and names axes
    # from the last (width) to the first (depth).
    origin = rotations.transpose(-1, -2).flip(-1, -2)
    affine = functional.pad(origin, (0, 1))
    grid = functional.affine_grid(affine, list(volumes.shape), align_corners=False)
    return functional.grid_sample(volumes, grid, align_corners=False)


@dataclasses.dataclass(frozen=True)
class VoxelLatentScene(Scene):
    """Latent volumes and the network that decodes them.

    `cameras` (*batch) are those that the volumes were inferred at. Renderings have
    neither depth nor opacity. The decoder makes pictures of one size, the size of the
    images that it was trained with; others are resized from these, by averaging over
    pixels where both sides shrink and bilinearly otherwise, whatever their aspect.
    """

    volumes: Float[Tensor, "*batch channel size size size"]
    cameras: Cameras
    decoder: VoxelDecoder

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.cameras.shape)

    def __getitem__(self, index: int | slice) -> VoxelLatentScene:
        return dataclasses.replace(
            self, volumes=self.volumes[index], cameras=self.cameras[index]
        )

    def rotated(self, cameras: Cameras) -> Float[Tensor, "*batch channel s s s"]:
        """The volumes as cameras (*batch view) see them. They are not masked again."""
        source = self.cameras.extrinsics[..., None, :, :].expand_as(cameras.extrinsics)
        rotations = relative_rotation(source, cameras.extrinsics)
        axis = len(self.shape)
        volumes = self.volumes.unsqueeze(axis)
        shape = self.volumes.shape[axis:]
        volumes = volumes.expand(*cameras.shape, *shape).reshape(-1, *shape)
        turned = rotate_volumes(volumes, rotations.reshape(-1, 3, 3))
        return turned.reshape(*cameras.shape, *shape)

    def render(self, cameras: Cameras, size: tuple[int, int]) -> Rendering:
        pieces = []
        every = (slice(None),) * len(self.shape)
        views = max(1, VIEWS_AT_ONCE // max(1, self.cameras.near.numel()))
        for start in range(0, cameras.shape[-1], views):
            part = cameras[(*every, slice(start, start + views))]
            volumes = self.rotated(part).flatten(0, len(part.shape) - 1)
            images = _resized(self.decoder(volumes), size)
            pieces.append(images.unflatten(0, tuple(part.shape)))
        return Rendering(torch.cat(pieces, dim=len(cameras.shape) - 1))

    def render_pixels(
        self,
        cameras: Cameras,
        size: tuple[int, int],
        pixels: Int[Tensor, "*batch ray"],
        generator: torch.Generator | None = None,
    ) -> PixelRendering:
        """Pixels of whole pictures: they cannot be decoded alone, nor jittered."""
        color = self.render(cameras, size).color.flatten(-2).transpose(-1, -2)
        index = pixels[..., None].expand(*pixels.shape, 3)
        return PixelRendering(color.gather(-2, index))

    def bounds(self) -> Float[Tensor, "2 3"]:
        """The box that the source cameras' depth ranges suggest (see `object_box`); the
        volume itself has no size."""
        return box_around(object_box(self.cameras))

    def tensors(self) -> dict[str, Tensor]:
        return {
            "volumes": self.volumes,
            **camera_tensors(self.cameras),
            **module_tensors("decoder", self.decoder),
        }

    def config(self) -> dict[str, Any]:
        return {"network": to_json(self.decoder.config)}

    @classmethod
    def from_state(
        cls, tensors: dict[str, Tensor], config: dict[str, Any]
    ) -> VoxelLatentScene:
        # Where a tensor lies in memory may change the last bits of a product: as
        # copies they lie as they did before they were saved.
        tensors = {name: value.clone() for name, value in tensors.items()}
        cameras = cameras_of(tensors)
        network = from_json(
            VoxelNetworkConfig, config["network"], "the scene's network"
        )
        channels, depth = network.channels_3d[-1], network.depth
        expected = (*cameras.shape, channels, depth, depth, depth)
        if tensors["volumes"].shape != expected:
            raise ValueError(f"the volumes do not have the shape {expected}")
        with torch.device("meta"):
            decoder = VoxelDecoder(network)
        decoder.load_state_dict(module_state("decoder", tensors), assign=True)
        decoder = decoder.eval().requires_grad_(False)
        return cls(tensors["volumes"], cameras, decoder)


def _resized(
    images: Float[Tensor, "batch 3 height width"], size: tuple[int, int]
) -> Float[Tensor, "batch 3 new_height new_width"]:
    height, width = images.shape[-2:]
    if size == (height, width):
        return images
    if size[0] <= height and size[1] <= width:
        return functional.adaptive_avg_pool2d(images, size)
    return functional.interpolate(images, size, mode="bilinear", antialias=True)
