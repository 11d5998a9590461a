"""Small SRN and LFN, and examples to train and fit them on."""

from __future__ import annotations

import dataclasses

import torch

from unseen.data.cameras import object_cameras
from unseen.data.procedural import make_object
from unseen.encoders.auto_decoder import FitConfig
from unseen.geometry.views import Example, Views
from unseen.methods.lfn import LFN, LFNConfig
from unseen.methods.srn import SRN, SRNConfig
from unseen.networks.hypernetwork import HyperNetworkConfig
from unseen.networks.ray_marcher import RayMarcherConfig
from unseen.scenes.ray_marched import Marching

SIZE = (16, 16)
FIT = FitConfig(num_steps=30, learning_rate=0.02)
TINY_SRN = SRNConfig(
    image_size=16,
    num_objects=2,
    hyper=HyperNetworkConfig(
        code_width=16,
        width=32,
        num_hidden=1,
        sizes=(3, 32, 32),
        plain_last=False,
        split="layer",
    ),
    marcher=RayMarcherConfig(features=32, memory=8, num_steps=4, color_layers=1),
    marching=Marching(start_depth=None),
    fit=FIT,
)
TINY_LFN = LFNConfig(
    image_size=16,
    num_objects=2,
    hyper=HyperNetworkConfig(
        code_width=16, width=32, num_hidden=1, sizes=(6, 32, 32, 3)
    ),
    fit=FIT,
)


def make_method(config: SRNConfig | LFNConfig) -> SRN | LFN:
    torch.manual_seed(0)
    return SRN(config) if isinstance(config, SRNConfig) else LFN(config)


def make_views(batch: int = 2, views: int = 3) -> Views:
    """Views (batch, view) of different crates."""
    generator = torch.Generator().manual_seed(0)
    rendered = []
    for i in range(batch):
        cameras = object_cameras(views, generator)
        rendered.append(make_object("crate", i).render(cameras, SIZE))
    return dataclasses.replace(Views.stack(rendered), depths=None)


def make_example(batch: int = 2) -> Example:
    views = make_views(batch)
    return Example(views[:, :1], views[:, 1:], torch.arange(batch))


def train(method: SRN | LFN, example: Example, steps: int) -> list[float]:
    """The losses of some steps of Adam."""
    optimizer = torch.optim.Adam(method.parameters(), lr=5e-3)
    losses = []
    for step in range(steps):
        loss = method.loss(example, torch.Generator().manual_seed(step)).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses
