"""Random cameras, for hypothesis and for fixed seeds."""

import torch
from hypothesis import strategies as st

from unseen.geometry.cameras import Cameras


def random_rotations(num: int, generator: torch.Generator) -> torch.Tensor:
    """Rotation matrices (num, 3, 3) in double precision."""
    matrix = torch.randn(num, 3, 3, generator=generator, dtype=torch.float64)
    q, _ = torch.linalg.qr(matrix)
    return q * torch.linalg.det(q)[:, None, None]


def random_motions(num: int, generator: torch.Generator) -> torch.Tensor:
    """Rigid motions (num, 4, 4) in double precision."""
    motions = torch.eye(4, dtype=torch.float64).repeat(num, 1, 1)
    motions[:, :3, :3] = random_rotations(num, generator)
    motions[:, :3, 3] = torch.randn(num, 3, generator=generator, dtype=torch.float64)
    return motions


def random_cameras(num: int, generator: torch.Generator) -> Cameras:
    """Cameras (num,) anywhere, with unequal focal lengths, skew and shift."""

    def uniform(low: float, high: float) -> torch.Tensor:
        draws = torch.rand(num, generator=generator, dtype=torch.float64)
        return low + (high - low) * draws

    intrinsics = torch.eye(3, dtype=torch.float64).repeat(num, 1, 1)
    intrinsics[:, 0, 0], intrinsics[:, 1, 1] = uniform(0.4, 3), uniform(0.4, 3)
    intrinsics[:, 0, 2], intrinsics[:, 1, 2] = uniform(0.2, 0.8), uniform(0.2, 0.8)
    intrinsics[:, 0, 1] = uniform(-0.1, 0.1)
    near = uniform(0.1, 1)
    return Cameras(random_motions(num, generator), intrinsics, near, near * 10)


generators = st.integers(0, 2**31).map(lambda seed: torch.Generator().manual_seed(seed))
"""A strategy: seeded generators."""
