"""What scene models share whose 2D U-Net reads every view by itself."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from unseen.encoders.scene_model import SceneModel
from unseen.geometry.rays import plucker_images
from unseen.geometry.views import Views
from unseen.networks.unet2d import UNet2d, UNet2dConfig, sinusoidal_embedding

CLEAN, NOISY = 0, 1
"""Roles of a view."""


class ViewUNetSceneModel(SceneModel):
    """A U-Net that reads a view (image, rays, and for a noisy one what the context
    predicts of it) and writes features for every pixel.

    The U-Net works on images made `patch` times smaller (pixels become channels).
    """

    def __init__(
        self, unet: UNet2dConfig, patch: int, head_channels: int, num_maps: int
    ) -> None:
        super().__init__()
        self.patch, self.num_maps = patch, num_maps
        embedding, width = unet.embedding, unet.channels[0]
        # Pluecker rays have 6 channels.
        self.unet = UNet2d(unet, 3 * patch**2 + num_maps + 6)
        self.time = nn.Sequential(
            nn.Linear(64, embedding), nn.SiLU(), nn.Linear(embedding, embedding)
        )
        self.role = nn.Embedding(2, embedding)
        self.summarise = nn.Linear(unet.channels[-1], embedding)
        self.expand = nn.Conv2d(width, width * patch**2, 1)
        self.refine = nn.Conv2d(width + 3, head_channels, 3, padding=1)
        self.polish = nn.Conv2d(head_channels, head_channels, 3, padding=1)
        # At first every pixel of a patch has the patch's features, as they are.
        copies = torch.eye(width).repeat_interleave(patch**2, dim=0)
        self.expand.weight.data.copy_(copies[..., None, None])
        nn.init.zeros_(self.expand.bias)  # type: ignore[arg-type]
        nn.init.zeros_(self.polish.weight)
        nn.init.zeros_(self.polish.bias)  # type: ignore[arg-type]

    def small(self, size: tuple[int, int]) -> tuple[int, int]:
        """The size at which the U-Net works on images of `size`."""
        return size[0] // self.patch, size[1] // self.patch

    def _features(
        self,
        views: Views,
        maps: Float[Tensor, "batch view channel small_height small_width"] | None,
        reference: Float[Tensor, "batch 4 4"],
        embedding: Float[Tensor, "batch embedding"],
    ) -> tuple[
        Float[Tensor, "batch_view feature height width"],
        Float[Tensor, "batch view summary"],
    ]:
        """Full-resolution features of each view, and a summary vector.

        `images` are in [-1, 1]; `maps` are what is known of the views from elsewhere
        (nothing, for clean ones), at the U-Net's size. Poses are seen from `reference`.
        """
        patch = self.patch
        b, v = views.shape
        images = views.images.flatten(0, 1)
        small = self.small(views.size)
        # Poses relative to the first context view: the world frame is arbitrary.
        relative = views.cameras.transform(torch.linalg.inv(reference)[:, None])
        rays = plucker_images(relative, small).flatten(0, 1)
        if maps is None:
            maps = rays.new_zeros(b, v, self.num_maps, *small)
        x = [functional.pixel_unshuffle(images, patch), rays, maps.flatten(0, 1)]
        x = torch.cat(x, dim=1).contiguous(memory_format=torch.channels_last)
        features, bottleneck = self.unet(x, embedding.repeat_interleave(v, dim=0))
        features = functional.pixel_shuffle(self.expand(features), patch)
        features = functional.silu(self.refine(torch.cat([features, images], dim=1)))
        features = features + self.polish(features)
        return features, self.summarise(bottleneck).unflatten(0, (b, v))

    def _embed(
        self, t: Float[Tensor, "batch"], role: int
    ) -> Float[Tensor, "batch embedding"]:
        time = self.time(sinusoidal_embedding(t, 64))
        return functional.silu(time + self.role.weight[role])


def pixel_guess(
    images: Float[Tensor, "batch view 3 height width"],
    t: Float[Tensor, "batch"],
    detail: float,
) -> Float[Tensor, "batch view 3 height width"]:
    """Logits of the colours in [0, 1] that pixels in [-1, 1] suggest by themselves.

    The best linear guess of x_0 from the pixel alone, for detail of deviation d about a
    known mean (cf. EDM's c_skip, Karras et al. 2022, Eq. 7), with alpha and sigma of
    the cosine schedule: a clean pixel is kept, a noisy one is not.
    """
    alpha, sigma = torch.cos(0.5 * math.pi * t), torch.sin(0.5 * math.pi * t)
    signal = alpha * detail**2
    skip = signal / (alpha * signal + sigma**2)
    guess = 0.5 * (1 + skip[:, None, None, None, None] * images)
    return torch.logit(guess, eps=0.02)
