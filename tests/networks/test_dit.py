"""The diffusion transformer and DFM's image encoder, on small sizes."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from unseen.networks.dit import (
    Attention,
    DiT,
    DiTBlock,
    DiTConfig,
    DiTEncoder,
    DiTEncoderConfig,
    modulate,
)
from unseen.networks.embeddings import sinusoidal_grid

SMALL = DiTConfig(2, 16, 2, 2.0, 2, in_channels=6, out_channels=5)


def randomize(module: nn.Module, generator: torch.Generator) -> nn.Module:
    """Fill every parameter, those that start at zero included."""
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.2, generator=generator)
    return module


def encoder(generator: torch.Generator, absolute_pose: bool = False) -> DiTEncoder:
    config = DiTEncoderConfig(SMALL, 9, 4, 8, absolute_pose)
    model = randomize(DiTEncoder(config), generator)
    assert isinstance(model, DiTEncoder)
    return model


def test_attention_equals_its_formula(generator: torch.Generator) -> None:
    attention = randomize(Attention(16, 2), generator)
    x = torch.randn(3, 7, 16, generator=generator)
    heads = []
    q, k, v = attention.qkv(x).chunk(3, dim=-1)
    for h in (slice(0, 8), slice(8, 16)):
        scores = q[..., h] @ k[..., h].mT / 8**0.5
        heads.append(scores.softmax(dim=-1) @ v[..., h])
    expected = attention.out(torch.cat(heads, dim=-1))
    torch.testing.assert_close(attention(x), expected, rtol=1e-4, atol=1e-5)


def test_a_fresh_block_is_the_identity(generator: torch.Generator) -> None:
    x = torch.randn(2, 5, 16, generator=generator)
    condition = torch.randn(2, 16, generator=generator)
    torch.testing.assert_close(DiTBlock(SMALL)(x, condition), x)


def test_patches_come_back_to_their_place(generator: torch.Generator) -> None:
    config = DiTConfig(0, 16, 2, 2.0, 2, in_channels=6, out_channels=5)
    model = randomize(DiT(config), generator)
    x = torch.randn(1, 6, 4, 8, generator=generator)
    condition = torch.randn(1, 16, generator=generator)
    shift, scale = model.modulation(condition)
    found = model(x, condition)
    for row in range(2):
        for column in range(4):
            patch = x[:, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
            token = model.embed(patch).flatten(2).mT
            token = token + sinusoidal_grid((2, 4), 16)[4 * row + column]
            token = model.out(modulate(model.norm(token), shift, scale))
            expected = token.reshape(1, 2, 2, 5).permute(0, 3, 1, 2)
            part = found[:, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
            torch.testing.assert_close(part, expected, rtol=1e-4, atol=1e-5)


def test_features_have_the_size_of_the_image(generator: torch.Generator) -> None:
    model = encoder(generator)
    t = torch.tensor([0.0, 500.0])
    for size in ((8, 8), (12, 20)):
        clean = model(torch.randn(2, 3, *size, generator=generator), t, noisy=False)
        noisy = model(torch.randn(2, 9, *size, generator=generator), t, noisy=True)
        assert clean.shape == noisy.shape == (2, 5, *size)
    with pytest.raises(ValueError, match="multiple of 4"):
        model(torch.zeros(2, 3, 8, 10), t, noisy=False)


def test_only_the_step_distinguishes_equal_images(generator: torch.Generator) -> None:
    model = encoder(generator)
    images = torch.randn(1, 3, 8, 8, generator=generator).expand(3, -1, -1, -1)
    found = model(images, torch.tensor([0.0, 0.0, 300.0]), noisy=False)
    torch.testing.assert_close(found[0], found[1])
    assert (found[0] - found[2]).abs().max() > 1e-3


def test_the_skip_sees_colour_only(generator: torch.Generator) -> None:
    model = encoder(generator)
    with torch.no_grad():
        model.refine.weight[:, :5] = 0
    images = torch.randn(1, 9, 8, 8, generator=generator)
    t = torch.zeros(1)
    found = model(images, t, noisy=True)
    expected = model.refine(
        functional.pad(model.skip(images[:, :3]), (0, 0, 0, 0, 5, 0))
    )
    torch.testing.assert_close(found, expected)
    images[:, 3:] += 1
    torch.testing.assert_close(model(images, t, noisy=True), expected)


def test_absolute_poses(generator: torch.Generator) -> None:
    model = encoder(generator, absolute_pose=True)
    images = torch.randn(1, 3, 8, 8, generator=generator).expand(2, -1, -1, -1)
    poses = torch.eye(4).repeat(2, 1, 1)
    poses[1, 0, 3] = 0.5
    found = model(images, torch.zeros(2), noisy=False, extrinsics=poses)
    assert (found[0] - found[1]).abs().max() > 1e-3
    with pytest.raises(ValueError, match="extrinsics"):
        model(images, torch.zeros(2), noisy=False)


def test_zero_initialisations_do_not_block_learning(
    generator: torch.Generator,
) -> None:
    """Features start at zero, yet all of the encoder learns after two updates."""
    model = DiTEncoder(DiTEncoderConfig(SMALL, 9, 4, 8, absolute_pose=True))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    clean = torch.randn(2, 3, 8, 8, generator=generator)
    noisy = torch.randn(2, 9, 8, 8, generator=generator)
    goal = torch.randn(2, 5, 8, 8, generator=generator)
    t, poses = torch.tensor([10.0, 400.0]), torch.eye(4).repeat(2, 1, 1)
    assert model(clean, t, noisy=False, extrinsics=poses).abs().max() == 0
    for _ in range(4):
        optimizer.zero_grad()
        found = model(clean, t, noisy=False, extrinsics=poses)
        found = found + model(noisy, t, noisy=True, extrinsics=poses)
        (found - goal).square().sum().backward()
        optimizer.step()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name
