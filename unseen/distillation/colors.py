"""Colours of a scene that was distilled in a prior's latents."""

from __future__ import annotations

import dataclasses

import torch
from torch.nn import functional

from unseen.distillation.prior import ViewPrior
from unseen.geometry.cameras import Cameras
from unseen.scenes.scene import Scene
from unseen.scenes.value_grid import ValueGridScene


@torch.no_grad()
def with_colors(scene: Scene, prior: ViewPrior, cameras: Cameras) -> Scene:
    """A scene whose latents have the colours that the prior's decoder gives them.

    The scene's latents are rendered at `cameras` (view) and decoded; the map from a
    latent to its colour is the affine one that fits the decoded pictures best, averaged
    to the latents' resolution. It lets the scene be seen from anywhere, and exported,
    without the prior; what the decoder adds in detail is lost. Other scenes stay.
    """
    if not isinstance(scene, ValueGridScene) or not scene.holds_latents:
        return scene
    side = prior.abilities.shape[1]
    features = scene.render(cameras, (side, side)).features
    assert features is not None
    images = torch.cat([prior.decode(view[None]) for view in features])
    images = functional.adaptive_avg_pool2d(images, (side, side))
    latents = features.movedim(1, -1).flatten(0, 2)
    known = functional.pad(latents, (0, 1), value=1.0).double()
    wanted = images.movedim(1, -1).flatten(0, 2).double()
    # A little ridge keeps the fit finite where the latents are all alike.
    square = known.T @ known + 1e-6 * len(known) * torch.eye(known.shape[1]).to(known)
    matrix = torch.linalg.solve(square, known.T @ wanted).T
    return dataclasses.replace(scene, to_color=matrix.to(scene.to_color))
