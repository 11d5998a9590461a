"""A picture of what a method samples: context | truth | samples."""

from __future__ import annotations

from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from unseen.files import atomic_file
from unseen.geometry.views import Example
from unseen.methods.method import Method, evaluating
from unseen.training.random import derive_generator


def sample_grid(
    method: Method, example: Example, seed: int, num_samples: int = 2
) -> Float[Tensor, "3 height width"]:
    """One row per scene: its context views, its target views, `num_samples` samples.

    A sample shows the target's cameras; a deterministic method has only one, and one
    that can do without an image is not given the context. Values are
    in [0, 1]; blocks are two white pixels apart. The method is in evaluation mode
    meanwhile and no gradients are recorded, unless the method fits something and asks
    for them itself. The same seed gives the same noise, so that grids of one run can
    be compared.
    """
    given = example.context[:, : None if method.min_context > 0 else 0]
    if not method.varies(given.shape[1]):
        num_samples = 1
    with evaluating(method):
        samples = [
            method.sample(
                given,
                example.target.cameras,
                derive_generator(seed, index),
            ).images
            for index in range(num_samples)
        ]
    blocks = [example.context.images, example.target.images, *samples]
    rows = [
        _row([block[scene] for block in blocks]) for scene in range(len(samples[0]))
    ]
    return torch.cat(rows, dim=-2).clamp(0, 1)


def _row(
    blocks: list[Float[Tensor, "_ channel height width"]],
) -> Float[Tensor, "3 padded_height padded_width"]:
    """Blocks of views side by side, with a gap after each block and below."""
    padded = []
    for block in blocks:
        strip = torch.cat(list(block[:, :3].float().cpu()), dim=-1)
        padded.append(torch.nn.functional.pad(strip, (0, 2, 0, 2), value=1.0))
    return torch.cat(padded, dim=-1)


def to_bytes(
    image: Float[Tensor, "3 height width"],
) -> UInt8[Tensor, "height width 3"]:
    """An image in [0, 1] as rounded bytes, channels last."""
    return (image.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0)


def save_sample_grid(image: Float[Tensor, "3 height width"], path: Path) -> None:
    """Write an image as PNG, atomically."""
    with atomic_file(path) as temporary:
        Image.fromarray(to_bytes(image).numpy()).save(temporary)
