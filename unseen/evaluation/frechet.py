"""How far apart two sets of images are: distances between sets of features.

Any features will do, and a distance bears the name of its features. FID and KID are the
Frechet and the kernel distance of `inception.InceptionFeatures`, which need weights.
What this package ships is another space, that of a fixed random convolutional network
("random-conv"): three layers of orthogonal 5x5 filters with ReLU, at three scales,
described by the mean and the standard deviation of every channel. It sees colour, edges
and their arrangement over a few pixels. Its distances are comparable only among images
of one size, and they are no FIDs: call them random-conv distances.
"""

from __future__ import annotations

import dataclasses
import itertools

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from unseen.errors import UserError

WIDTHS = (3, 32, 32, 32)


def random_conv_features(
    images: Float[Tensor, "image 3 height width"], chunk: int = 64
) -> Float[Tensor, "image 192"]:
    """Random-conv features of images in [0, 1], which are not those of Inception.

    They are the channels' means and deviations after each of three layers.
    """
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


@dataclasses.dataclass(frozen=True)
class KernelDistance:
    """Mean and standard deviation over subsets of an unbiased squared distance."""

    mean: float
    std: float


def frechet_distance(
    first: Float[Tensor, "first feature"], second: Float[Tensor, "second feature"]
) -> float:
    """|mu_1 - mu_2|^2 + tr(S_1 + S_2 - 2 (S_1 S_2)^(1/2)) of two sets of features.

    (Dowson & Landau 1982; Heusel et al. 2017.) It is biased upwards by small sets, so
    compare sets of one size only; tables have 50,000 images, or say how many.

    With centred features A and B divided by the root of their number less one,
    S_1 = A^T A and S_2 = B^T B, and tr (S_1 S_2)^(1/2) is the sum of the singular
    values of A B^T. No root of a covariance is taken, so that covariances without
    full rank, as of fewer samples than features, lose no digits.

    Raises:
        UserError: a set of fewer than two.
    """
    _check(first, second)
    (a, a_mean), (b, b_mean) = _centred(first), _centred(second)
    shared = torch.linalg.svdvals(_compact(a) @ _compact(b).T).sum()
    shift = (a_mean - b_mean).square().sum()
    return float(shift + a.square().sum() + b.square().sum() - 2 * shared)


def kernel_distance(
    first: Float[Tensor, "first feature"],
    second: Float[Tensor, "second feature"],
    generator: torch.Generator,
    subsets: int = 100,
    subset_size: int = 1000,
) -> KernelDistance:
    """Squared maximum mean discrepancy under the kernel (x.y / features + 1)^3.

    With features of Inception this is KID (Binkowski et al., "Demystifying MMD GANs",
    ICLR 2018), which tables often show times 1000. It is the unbiased estimate, which
    may be negative, on subsets that are drawn without replacement; sets that are
    smaller than `subset_size` lend all they have.

    Raises:
        UserError: a set of fewer than two.
    """
    _check(first, second)
    a, b = first.double(), second.double()
    size = min(subset_size, len(a), len(b))

    def draw(x: Float[Tensor, "all feature"]) -> Float[Tensor, "drawn feature"]:
        order = torch.randperm(len(x), generator=generator, device=generator.device)
        return x[order[:size].to(x.device)]

    found = torch.stack(
        [_squared_discrepancy(draw(a), draw(b)) for _ in range(subsets)]
    )
    return KernelDistance(float(found.mean()), float(found.std(correction=0)))


def _squared_discrepancy(
    a: Float[Tensor, "sample feature"], b: Float[Tensor, "sample feature"]
) -> Float[Tensor, ""]:
    def kernel(x: Tensor, y: Tensor) -> Tensor:
        return (x @ y.T / x.shape[1] + 1) ** 3

    count = len(a)
    inside = kernel(a, a) + kernel(b, b)
    inside = (inside.sum() - inside.trace()) / (count * (count - 1))
    return inside - 2 * kernel(a, b).mean()


def _centred(
    features: Float[Tensor, "sample feature"],
) -> tuple[Float[Tensor, "sample feature"], Float[Tensor, " feature"]]:
    """A with A^T A the covariance, and the mean; both in double precision."""
    x = features.double()
    mean = x.mean(dim=0)
    return (x - mean) / (len(x) - 1) ** 0.5, mean


def _compact(a: Float[Tensor, "sample feature"]) -> Float[Tensor, "row feature"]:
    """At most as many rows as features, with the same A^T A."""
    return torch.linalg.qr(a, mode="r").R if len(a) > a.shape[1] else a


def _check(
    first: Float[Tensor, "a feature"], second: Float[Tensor, "b feature"]
) -> None:
    if min(len(first), len(second)) < 2:
        raise UserError(
            f"sets of {len(first)} and {len(second)} images have no distance: give at "
            "least two of each."
        )
