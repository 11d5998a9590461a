"""Images to latent volumes and back, by residual networks in 2D and in 3D.

The two networks of Equivariant Neural Rendering (Dupont et al., ICML 2020): an image
passes a 2D network, its channels are unfolded into depth, and a 3D network follows; the
decoder has the same steps in the opposite order. Volumes have the axes (channel, depth,
height, width), and depth grows towards the camera.
"""

from __future__ import annotations

import dataclasses
import math

import torch
from jaxtyping import Float
from torch import Tensor, nn


@dataclasses.dataclass(frozen=True)
class VoxelNetworkConfig:
    """Sizes of both networks; the defaults are those of the released weights.

    The lists describe the encoder, the decoder mirrors them. A stride of 1 is a
    residual block, 2 halves and -2 doubles every spatial axis.

    Raises:
        ValueError: the lists do not belong together.
    """

    channels_2d: tuple[int, ...] = (64, 64, 128, 128, 128, 128, 256, 256, 128, 128, 128)
    strides_2d: tuple[int, ...] = (1, 1, 2, 1, 2, 1, 2, 1, -2, 1, 1)
    unfold: tuple[int, ...] = (256, 512, 1024)
    """Channels of the 1x1 convolutions that end in (channel x depth)."""
    channels_3d: tuple[int, ...] = (32, 32, 128, 128, 128, 64, 64, 64)
    strides_3d: tuple[int, ...] = (1, 1, 2, 1, 1, -2, 1, 1)
    fold: tuple[int, ...] = (512, 256, 256)
    """Channels of the 1x1 convolutions that begin with (channel x depth)."""

    def __post_init__(self) -> None:
        for channels, strides in (
            (self.channels_2d, self.strides_2d),
            (self.channels_3d, self.strides_3d),
        ):
            if len(channels) != len(strides) or not set(strides) <= {1, 2, -2}:
                raise ValueError(
                    f"give one stride of 1, 2 or -2 for each of {channels}, not "
                    f"{strides}"
                )
            if strides[0] != 1:
                raise ValueError(f"the first stride must be 1, not {strides[0]}")
            for before, after, stride in zip(
                channels[:-1], channels[1:], strides[1:], strict=True
            ):
                if stride == 1 and before != after:
                    raise ValueError(
                        f"a residual block cannot turn {before} channels into {after}"
                    )
        if self.unfold[-1] % self.channels_3d[0]:
            raise ValueError(
                f"{self.unfold[-1]} channels cannot be unfolded into volumes of "
                f"{self.channels_3d[0]} channels"
            )

    @property
    def depth(self) -> int:
        """Voxels along the depth axis of the latent volume."""
        return round(
            self.unfold[-1] // self.channels_3d[0] / _shrinkage(self.strides_3d)
        )

    @property
    def image_size(self) -> int:
        """Height and width of the images whose latent volumes are cubes."""
        return round(self.depth * _shrinkage(self.strides_2d + self.strides_3d))


def _shrinkage(strides: tuple[int, ...]) -> float:
    return math.prod({1: 1.0, 2: 2.0, -2: 0.5}[stride] for stride in strides)


def _groups(channels: int) -> int:
    """Groups of the group norm of so many channels."""
    for limit, groups in ((8, 1), (32, 2), (64, 4), (128, 8), (256, 16)):
        if channels < limit:
            return groups
    return 32


def _norm(channels: int) -> list[nn.Module]:
    return [nn.GroupNorm(_groups(channels), channels), nn.LeakyReLU(0.2)]


def _convolution(dims: int) -> type[nn.Conv2d] | type[nn.Conv3d]:
    return nn.Conv2d if dims == 2 else nn.Conv3d


class BottleneckBlock(nn.Module):
    """x + convolutions of 1, 3 and 1 pixels, each after a norm and a leaky relu."""

    def __init__(self, channels: int, dims: int) -> None:
        super().__init__()
        conv = _convolution(dims)
        self.layers = nn.Sequential(
            *_norm(channels),
            conv(channels, channels, 1, bias=False),
            *_norm(channels),
            conv(channels, channels, 3, padding=1, bias=False),
            *_norm(channels),
            conv(channels, channels, 1, bias=False),
        )

    def forward(
        self, x: Float[Tensor, "batch channel *space"]
    ) -> Float[Tensor, "batch channel *space"]:
        return x + self.layers(x)


def residual_network(
    dims: int,
    in_channels: int,
    channels: tuple[int, ...],
    strides: tuple[int, ...],
    out_channels: int | None = None,
) -> nn.Sequential:
    """A 1x1 convolution, blocks and resizing convolutions, and maybe a 1x1 one."""
    conv = _convolution(dims)
    transposed = nn.ConvTranspose2d if dims == 2 else nn.ConvTranspose3d
    layers: list[nn.Module] = [conv(in_channels, channels[0], 1)]
    previous = channels[0]
    for width, stride in zip(channels, strides, strict=True):
        if stride == 1:
            layers.append(BottleneckBlock(width, dims))
        else:
            kind = conv if stride == 2 else transposed
            layers += [kind(previous, width, 4, stride=2, padding=1), *_norm(width)]
        previous = width
    if out_channels is not None:
        layers.append(conv(previous, out_channels, 1))
    return nn.Sequential(*layers)


def pointwise_network(in_channels: int, channels: tuple[int, ...]) -> nn.Sequential:
    """1x1 convolutions with a norm and a leaky relu between them."""
    layers: list[nn.Module] = []
    for index, width in enumerate(channels):
        if index:
            layers += _norm(in_channels)
        layers.append(nn.Conv2d(in_channels, width, 1))
        in_channels = width
    return nn.Sequential(*layers)


class VoxelEncoder(nn.Module):
    """Images to latent volumes; voxels outside of the largest ball are zero."""

    ball: Tensor

    def __init__(self, config: VoxelNetworkConfig) -> None:
        super().__init__()
        c = config
        self.image_net = residual_network(2, 3, c.channels_2d, c.strides_2d)
        self.unfold = pointwise_network(c.channels_2d[-1], c.unfold)
        self.volume_net = residual_network(
            3, c.channels_3d[0], c.channels_3d, c.strides_3d
        )
        self.volume_channels = c.channels_3d[0]
        self.register_buffer("ball", inner_ball(c.depth), persistent=False)

    def forward(
        self, images: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch channel size size size"]:
        """`images` are in [0, 1] and of `VoxelNetworkConfig.image_size`."""
        flat = self.unfold(self.image_net(images))
        volumes = flat.unflatten(1, (self.volume_channels, -1))
        return self.volume_net(volumes) * self.ball


class VoxelDecoder(nn.Module):
    """Latent volumes to images in [0, 1], seen from the end of the depth axis."""

    def __init__(self, config: VoxelNetworkConfig) -> None:
        super().__init__()
        self.config = config
        channels_3d, strides_3d = _mirrored(config.channels_3d, config.strides_3d)
        channels_2d, strides_2d = _mirrored(config.channels_2d, config.strides_2d)
        self.volume_net = residual_network(
            3, config.channels_3d[-1], channels_3d, strides_3d
        )
        self.fold = pointwise_network(config.unfold[-1], config.fold)
        self.image_net = residual_network(
            2, config.fold[-1], channels_2d, strides_2d, out_channels=3
        )

    def forward(
        self, volumes: Float[Tensor, "batch channel size size size"]
    ) -> Float[Tensor, "batch 3 height width"]:
        flat = self.volume_net(volumes).flatten(1, 2)
        return self.image_net(self.fold(flat)).sigmoid()


def _mirrored(
    channels: tuple[int, ...], strides: tuple[int, ...]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The decoder's lists: the encoder's backwards, with halving for doubling."""
    opposite = {1: 1, 2: -2, -2: 2}
    backwards = tuple(opposite[stride] for stride in strides[:0:-1])
    return (*channels[-2::-1], channels[0]), (*backwards, strides[0])


def inner_ball(size: int) -> Float[Tensor, "size size size"]:
    """1 where a voxel's centre is within (size - 1) / 2 voxels of the middle, else 0.

    The ball that stays inside of the cube however it is turned: a radius of 15.5 for
    32 voxels.
    """
    radius = (size - 1) / 2
    offset = torch.arange(size) - radius
    squares = torch.stack(torch.meshgrid([offset] * 3, indexing="ij")).square().sum(0)
    return (squares <= radius**2).float()
