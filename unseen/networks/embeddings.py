"""Fixed embeddings of numbers: sinusoids of time, of position and of points."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor


def sinusoidal_embedding(
    values: Float[Tensor, "*batch"],
    width: int,
    *,
    cosine_first: bool = False,
    endpoint: bool = True,
    max_period: float = 10_000.0,
) -> Float[Tensor, "*batch width"]:
    """Sines and cosines of `values` at `width / 2` geometric frequencies.

    Frequencies fall from 1 towards 1 / `max_period`; with `endpoint` the last one is
    exactly that (as in the DDPM code), without it the series stops one step short (as
    in DiT and in guided diffusion). The two blocks are (sin, cos), or (cos, sin) with
    `cosine_first`. Time is expected in steps (0 to 999, say), not in [0, 1].

    Source: Vaswani et al. 2017, section 3.5; Ho et al. 2020, appendix B.
    """
    if width % 2:
        raise ValueError(f"width must be even, it is {width}")
    half = width // 2
    index = torch.arange(half, device=values.device, dtype=torch.float32)
    # Rounded as in the respective code: weights that were trained with large values
    # see the last bits of the frequencies.
    exponent = (
        index * (-math.log(max_period) / (half - 1))
        if endpoint
        else -math.log(max_period) * (index / half)
    )
    angles = values[..., None].float() * torch.exp(exponent)
    blocks = (angles.sin(), angles.cos())
    return torch.cat(blocks[::-1] if cosine_first else blocks, dim=-1)


def sinusoidal_grid(
    size: tuple[int, int], width: int, device: torch.device | str = "cpu"
) -> Float[Tensor, "token width"]:
    """Fixed 2D position embedding of a (height, width) grid of tokens, row by row.

    The first half of the channels encodes the column, the second half the row, each
    as (sin, cos) blocks of integer positions.

    Source: Dosovitskiy et al. 2021 (appendix D.4), as in MAE and DiT.
    """
    if width % 4:
        raise ValueError(f"width must be a multiple of 4, it is {width}")
    columns = torch.arange(size[1], device=device).repeat(size[0])
    rows = torch.arange(size[0], device=device).repeat_interleave(size[1])
    frequencies = 10_000.0 ** -(
        torch.arange(width // 4, device=device, dtype=torch.float64) / (width // 4)
    )
    blocks = []
    for position in (columns, rows):
        angles = position[:, None] * frequencies
        blocks += [angles.sin(), angles.cos()]
    return torch.cat(blocks, dim=-1).float()


def octave_encoding(
    points: Float[Tensor, "*batch coordinate"], octaves: int, scale: float
) -> Float[Tensor, "*batch encoding"]:
    """(x, then for each octave k: sin(scale 2^k x), cos(scale 2^k x)).

    Every entry of that list is a block of all coordinates: the order of pixelNeRF
    (Yu et al. 2021, section 4.1), whose `scale` is 1.5 with 6 octaves.
    """
    frequencies = scale * 2.0 ** torch.arange(octaves, device=points.device)
    angles = points[..., None, :] * frequencies[:, None]
    waves = torch.stack([angles.sin(), angles.cos()], dim=-2)
    return torch.cat([points, waves.flatten(-3)], dim=-1)


def blocked_encoding(
    values: Float[Tensor, "*batch 3"], octaves: int
) -> Float[Tensor, "*batch encoding"]:
    """(x, sin x, sin 2x, sin 4x, ..., cos x, cos 2x, ...), each of all coordinates.

    Frequencies are powers of two, without pi; all sines precede all cosines.
    """
    frequencies = 2.0 ** torch.arange(octaves, device=values.device)
    angles = (values[..., None, :] * frequencies[:, None]).flatten(-2)
    return torch.cat([values, angles.sin(), angles.cos()], dim=-1)


def harmonic_embedding(
    values: Float[Tensor, "*batch coordinate"], octaves: int
) -> Float[Tensor, "*batch embedding"]:
    """(sin block, cos block, values); in a block, each coordinate's octaves adjoin."""
    frequencies = 2.0 ** torch.arange(octaves, device=values.device)
    angles = (values[..., None] * frequencies).flatten(-2)
    return torch.cat([angles.sin(), angles.cos(), values], dim=-1)
