"""Small scenes of Gaussians for tests."""

from __future__ import annotations

import torch

from unseen.rendering.spherical_harmonics import num_coefficients
from unseen.scenes.gaussians import GaussianScene


def random_gaussians(
    count: int = 30, degree: int = 0, batch: tuple[int, ...] = (), seed: int = 0
) -> GaussianScene:
    """Gaussians of all sizes around the origin."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*batch, count, *shape, generator=generator)

    return GaussianScene(
        0.4 * normal(3),
        -2 + 0.5 * normal(3),
        normal(4),
        2 * normal(),
        0.5 * normal(num_coefficients(degree), 3),
        torch.tensor([0.2, 0.5, 1.0]),
    )
