"""Coded fields with something to see, without training."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from unseen.geometry.cameras import Cameras
from unseen.geometry.trajectories import sphere_cameras
from unseen.networks.coded_mlp import CodedMLP, CodedMLPConfig
from unseen.scenes.coded_field import CodedFieldScene
from unseen.scenes.coded_sampling import CodedSampling

NETWORK = CodedMLPConfig(
    width=16, code_width=8, shape_blocks=2, point_octaves=2, direction_octaves=2
)


@torch.no_grad()
def lively(network: CodedMLP, shapes: Float[Tensor, "object code"]) -> CodedMLP:
    """Enlarge weights so that there are blobs of several colours, and empty space.

    Objects of codes `shapes` fill about a fifth of the unit sphere, on average.
    """
    generator = torch.Generator().manual_seed(0)
    for name, parameter in network.named_parameters():
        if parameter.ndim == 2 and name != "density.weight":
            parameter *= 1.8
    points = torch.randn(1, 2000, 3, generator=generator)
    points = points / points.norm(dim=-1, keepdim=True)
    points = points * torch.rand(1, 2000, 1, generator=generator) ** (1 / 3)
    network.density.bias.zero_()
    points = points.expand(len(shapes), -1, -1)
    density, _ = network(points, points, shapes, shapes)
    # Softplus backwards, at high density the identity.
    evidence = density + torch.log(-torch.expm1(-density))
    scale = 8.0 / evidence.std()
    network.density.weight *= scale
    network.density.bias -= scale * evidence.quantile(0.8)
    return network


def coded_scene(
    batch: int = 2, sampling: CodedSampling | None = None, seed: int = 0
) -> CodedFieldScene:
    """Scenes (batch,), turned and shifted a little against their network's frame."""
    torch.manual_seed(seed)
    network = CodedMLP(NETWORK).eval().requires_grad_(False)
    shapes, textures = torch.randn(2, batch, NETWORK.code_width)
    lively(network, shapes)
    frames = torch.eye(4).repeat(batch, 1, 1)
    frames[:, :2, :2] = torch.tensor([[0.8, -0.6], [0.6, 0.8]])
    frames[:, 0, 3] = 0.1
    sampling = sampling or CodedSampling(num_samples=40)
    return CodedFieldScene(network, shapes, textures, frames, sampling)


def circle(views: int, distance: float = 3.0, elevation: float = 0.4) -> Cameras:
    """Cameras (view) around the unit sphere."""
    azimuths = 0.3 + 2 * torch.pi * torch.arange(views) / views
    return sphere_cameras(
        azimuths,
        torch.full((views,), elevation),
        torch.full((views,), distance),
        0.75,
        distance - 1,
        distance + 1,
    )
