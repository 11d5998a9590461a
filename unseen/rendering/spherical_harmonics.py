"""Colours that depend on the direction of view: real spherical harmonics."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

MAX_DEGREE = 3
SH_C0 = 0.28209479177387814
"""The constant spherical harmonic, 1 / (2 sqrt(pi))."""


def num_coefficients(degree: int) -> int:
    """Harmonics up to a degree."""
    return (degree + 1) ** 2


def degree_of(coefficients: int) -> int:
    """The degree that a number of harmonics belongs to; ValueError if none does."""
    degree = math.isqrt(coefficients) - 1
    if not 0 <= degree <= MAX_DEGREE or num_coefficients(degree) != coefficients:
        raise ValueError(
            f"{coefficients} spherical harmonics belong to no degree of 0 to "
            f"{MAX_DEGREE}: there must be 1, 4, 9 or 16"
        )
    return degree


def spherical_harmonics(
    directions: Float[Tensor, "*batch 3"], degree: int
) -> Float[Tensor, "*batch coefficient"]:
    """All real spherical harmonics up to `degree` (0 to 3) at unit directions.

    They are ordered by degree l, then by m from -l to l, orthonormal on the sphere,
    and have the Condon-Shortley phase (signs (-1)^m), which is what the files of 3D
    Gaussian Splatting (Kerbl et al., 2023) hold coefficients of.
    """
    x, y, z = directions.unbind(dim=-1)
    found = [torch.full_like(x, SH_C0)]
    if degree >= 1:
        scale = math.sqrt(3 / (4 * math.pi))
        found += [-scale * y, scale * z, -scale * x]
    if degree >= 2:
        scale = math.sqrt(15 / (4 * math.pi))
        found += [
            scale * x * y,
            -scale * y * z,
            math.sqrt(5 / (16 * math.pi)) * (2 * z * z - x * x - y * y),
            -scale * x * z,
            0.5 * scale * (x * x - y * y),
        ]
    if degree >= 3:
        outer, inner = math.sqrt(35 / (32 * math.pi)), math.sqrt(21 / (32 * math.pi))
        cross = math.sqrt(105 / (4 * math.pi))
        found += [
            -outer * y * (3 * x * x - y * y),
            cross * x * y * z,
            -inner * y * (4 * z * z - x * x - y * y),
            math.sqrt(7 / (16 * math.pi)) * z * (2 * z * z - 3 * x * x - 3 * y * y),
            -inner * x * (4 * z * z - x * x - y * y),
            0.5 * cross * z * (x * x - y * y),
            -outer * x * (x * x - 3 * y * y),
        ]
    return torch.stack(found, dim=-1)


def colors_from_harmonics(
    harmonics: Float[Tensor, "point coefficient 3"],
    directions: Float[Tensor, "point 3"],
) -> Float[Tensor, "point 3"]:
    """Colours (at least 0, with no upper limit) seen along unit directions.

    A colour is one half plus the coefficients' sum, as in 3D Gaussian Splatting.
    """
    degree = degree_of(harmonics.shape[-2])
    if degree == 0:
        found = SH_C0 * harmonics[:, 0]
    else:
        basis = spherical_harmonics(directions, degree)
        found = torch.einsum("pk,pkc->pc", basis, harmonics)
    return (found + 0.5).clamp(min=0)
