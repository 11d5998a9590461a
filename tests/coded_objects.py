"""Coded fields with something to see, without training."""

from __future__ import annotations

import torch

from unseen.geometry.cameras import Cameras
from unseen.geometry.trajectories import sphere_cameras
from unseen.networks.coded_mlp import CodedMLP, CodedMLPConfig
from unseen.scenes.coded_field import CodedFieldScene
from unseen.scenes.coded_sampling import CodedSampling

NETWORK = CodedMLPConfig(
    width=16, code_width=8, shape_blocks=2, point_octaves=2, direction_octaves=2
)


def lively(network: CodedMLP) -> CodedMLP:
    """Enlarge weights so that there are blobs of several colours, and empty space."""
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.ndim == 2:
                parameter *= 1.8
            if name == "density.weight":
                parameter *= 40.0
            if name == "density.bias":
                parameter.fill_(-6.0)
    return network


def coded_scene(
    batch: int = 2, sampling: CodedSampling | None = None, seed: int = 0
) -> CodedFieldScene:
    """Scenes (batch,), turned and shifted a little against their network's frame."""
    torch.manual_seed(seed)
    network = lively(CodedMLP(NETWORK)).eval().requires_grad_(False)
    shapes, textures = torch.randn(2, batch, NETWORK.code_width)
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
