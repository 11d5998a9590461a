"""Frechet distance between sets of images, in a feature space that needs no download.

The space is that of a fixed random convolutional network ("random-conv"): three layers
of orthogonal 5x5 filters with ReLU, at three scales, described by the mean and the
standard deviation of every channel. It sees colour, edges and their arrangement over a
few pixels. Its distances are not Inception FIDs and must never be named so; they are
comparable only among images of one size.
"""

from __future__ import annotations

import itertools

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

WIDTHS = (3, 32, 32, 32)


def random_conv_features(
    images: Float[Tensor, "image 3 height width"], chunk: int = 64
) -> Float[Tensor, "image 192"]:
    """Features of images in [0, 1]: channel means and deviations of three layers."""
    generator = torch.Generator().manual_seed(2306_11719)
    filters = []
    for inputs, outputs in itertools.pairwise(WIDTHS):
        weight = torch.empty(outputs, inputs * 25)
        torch.nn.init.orthogonal_(weight, gain=2**0.5, generator=generator)
        filters.append(weight.reshape(outputs, inputs, 5, 5).to(images))
    return torch.cat([_describe(part, filters) for part in images.split(chunk)])


def _describe(
    images: Float[Tensor, "image 3 height width"], filters: list[Tensor]
) -> Float[Tensor, "image feature"]:
    x, features = 2 * images - 1, []
    for weight in filters:
        padded = functional.pad(x, (2, 2, 2, 2), mode="replicate")
        x = functional.relu(functional.conv2d(padded, weight))
        features += [x.mean(dim=(-1, -2)), x.std(dim=(-1, -2))]
        x = functional.avg_pool2d(x, 2)
    return torch.cat(features, dim=-1)


def frechet_distance(
    first: Float[Tensor, "first feature"], second: Float[Tensor, "second feature"]
) -> float:
    """|mu_1 - mu_2|^2 + tr(S_1 + S_2 - 2 (S_1 S_2)^(1/2)) of two sets of features.

    (Dowson & Landau 1982; Heusel et al. 2017.) Needs more images than features for a
    covariance of full rank; it is biased upwards by small sets, so compare sets of one
    size only.
    """
    a, b = first.double(), second.double()
    root = _symmetric_root(a.T.cov())
    # tr (S_1 S_2)^(1/2) = tr (S_1^(1/2) S_2 S_1^(1/2))^(1/2), which is symmetric.
    middle = torch.linalg.eigvalsh(root @ b.T.cov() @ root).clamp(min=0).sqrt().sum()
    shift = (a.mean(dim=0) - b.mean(dim=0)).square().sum()
    spread = a.var(dim=0).sum() + b.var(dim=0).sum()
    return float(shift + spread - 2 * middle)


def _symmetric_root(
    matrix: Float[Tensor, "feature feature"],
) -> Float[Tensor, "feature feature"]:
    values, vectors = torch.linalg.eigh(matrix)
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.T
