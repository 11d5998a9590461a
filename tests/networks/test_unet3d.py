"""The 3D U-Net. Parity with the authors' is in tests/parity."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from einops import rearrange

from unseen.networks.unet3d import UNet3d, UNet3dConfig

THIN = UNet3dConfig(
    channels=8,
    multipliers=(1, 2),
    num_blocks=1,
    attention=(False, True),
    num_groups=4,
)


def made(config: UNet3dConfig, channels: int) -> UNet3d:
    torch.manual_seed(0)
    return UNet3d(config, channels).eval()


def test_a_volume_keeps_its_shape_and_the_noise_level_counts(generator) -> None:
    network, x = made(THIN, 3), torch.randn(2, 3, 4, 8, 2, generator=generator)
    levels = torch.tensor([3.0, 3.0]), torch.tensor([3.0, 700.0])
    first, second = (network(x, level) for level in levels)
    assert first.shape == x.shape
    assert torch.equal(first[0], second[0])
    assert (first[1] - second[1]).abs().max() > 1e-3


def test_every_voxel_hears_of_every_other_at_the_coarsest_level(generator) -> None:
    x = torch.randn(1, 1, 4, 4, 4, generator=generator, requires_grad=True)
    network = made(THIN, 1)
    # Attention begins at zero; convolutions of two levels already span four voxels.
    network(x, torch.tensor([5.0]))[0, 0, 0, 0, 0].backward()
    assert x.grad is not None and (x.grad != 0).all()


def test_patches_are_channels(generator) -> None:
    """A network with patches is one without, on a volume rearranged beforehand."""
    patched = made(dataclasses.replace(THIN, patch=2), 3)
    plain = made(THIN, 24)
    plain.load_state_dict(patched.state_dict())
    x, steps = torch.randn(1, 3, 8, 8, 8, generator=generator), torch.tensor([9.0])
    where = {"i": 2, "j": 2, "k": 2}
    inside = rearrange(x, "b c (d i) (h j) (w k) -> b (c i j k) d h w", **where)
    # Spelled out: the second voxel along the width is channel 1 of its patch.
    assert torch.equal(inside[0, 1], x[0, 0, ::2, ::2, 1::2])
    out = plain(inside, steps)
    out = rearrange(out, "b (c i j k) d h w -> b c (d i) (h j) (w k)", **where)
    torch.testing.assert_close(patched(x, steps), out)


def test_the_two_starts(generator) -> None:
    x, steps = torch.randn(2, 3, 4, 4, 4, generator=generator), torch.ones(2)
    assert made(THIN, 3)(x, steps).std() > 0.1
    zero = made(dataclasses.replace(THIN, zero_start=True), 3)
    assert (zero(x, steps) == 0).all()


def test_impossible_settings() -> None:
    with pytest.raises(ValueError, match="one entry per entry"):
        dataclasses.replace(THIN, attention=(True,))
    with pytest.raises(ValueError, match="4 groups and 3 heads"):
        dataclasses.replace(THIN, heads=3)
    with pytest.raises(ValueError, match="reduces it 4-fold"):
        dataclasses.replace(THIN, patch=2).check(6)
    THIN.check(6)
