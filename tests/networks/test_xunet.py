"""The X-UNet: what its frames see of each other, and the bugs of the listing."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch import Tensor

from unseen.networks.embeddings import blocked_encoding
from unseen.networks.xunet import XUNet, XUNetConfig, encode_octaves
from unseen.networks.xunet_blocks import FrameAttention, ResnetBlock

TINY = XUNetConfig(8, (1, 2), 1, (False, True), 2, 16, 4, 0.0, 3, 2)
PORT = dataclasses.replace(
    TINY,
    noise_level="log_snr",
    film_activation=False,
    attention_projection=True,
    resample="output",
)


def make(config: XUNetConfig = TINY) -> XUNet:
    """A network in which nothing is zero: zero layers would hide what precedes them."""
    torch.manual_seed(0)
    network = XUNet(config, 8).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape))
    return network


def inputs(batch: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    frames = torch.randn(batch, 2, 3, 8, 8, generator=generator)
    log_snr = torch.stack([torch.full((batch,), 20.0), torch.arange(batch) - 1.0], 1)
    return frames, log_snr, torch.randn(batch, 2, 6, 8, 8, generator=generator)


def test_size_of_the_published_networks() -> None:
    """461.7 M as the paper's listing, 136.7 M as the port."""
    port = dataclasses.replace(XUNetConfig(channels=128), attention_projection=True)
    with torch.device("meta"):
        sizes = [
            sum(p.numel() for p in XUNet(config, side).parameters())
            for config, side in ((XUNetConfig(), 128), (port, 64))
        ]
    assert [round(size / 1e6, 1) for size in sizes] == [461.7, 136.7]


@pytest.mark.parametrize("config", [TINY, PORT])
def test_every_parameter_has_a_gradient(config: XUNetConfig) -> None:
    network = make(config)
    out = network(*inputs())
    out.backward(torch.randn(out.shape, generator=torch.Generator().manual_seed(2)))
    assert out.shape == (2, 3, 8, 8)
    silent = [
        name
        for name, parameter in network.named_parameters()
        if parameter.grad is None or not parameter.grad.abs().sum() > 0
    ]
    assert silent == []


def test_it_begins_at_zero() -> None:
    assert not XUNet(TINY, 8)(*inputs()).any()


@torch.no_grad()
@pytest.mark.parametrize("config", [TINY, PORT])
def test_entries_of_a_batch_are_alone(config: XUNetConfig) -> None:
    network, given = make(config), inputs(3)
    whole = network(*given)
    for i in range(3):
        torch.testing.assert_close(
            network(*(x[i : i + 1] for x in given)), whole[i : i + 1]
        )


@torch.no_grad()
def test_the_frames_meet_in_cross_attention_only() -> None:
    network, (frames, log_snr, rays) = make(), inputs()
    other = frames.clone()
    other[:, 0] = 0
    assert not torch.allclose(
        network(frames, log_snr, rays), network(other, log_snr, rays)
    )
    for module in network.modules():
        if isinstance(module, FrameAttention) and module.across:
            module.out.weight.zero_()
    torch.testing.assert_close(
        network(frames, log_snr, rays), network(other, log_snr, rays)
    )


@torch.no_grad()
def test_dropped_poses_are_not_seen() -> None:
    network, (frames, log_snr, rays) = make(), inputs()
    kept = torch.tensor([True, False])
    first = network(frames, log_snr, rays, kept)
    second = network(frames, log_snr, rays.flip(-1), kept)
    assert torch.equal(first[1], second[1]) and not torch.allclose(first[0], second[0])


@torch.no_grad()
def test_learned_embeddings_tell_frames_and_pixels_apart() -> None:
    conditioning = make().conditioning
    rays = torch.zeros(1, 2, 6, 8, 8)
    pose = conditioning.embed_poses(rays)[0]
    assert not torch.allclose(pose[0], pose[1])
    assert not torch.allclose(pose[0, :, 3, 3], pose[0, :, 4, 4])
    conditioning.frames.zero_()
    pose = conditioning.embed_poses(rays)[0]
    torch.testing.assert_close(pose[0], pose[1])


# The bugs of the printed listing, and what is meant.


@torch.no_grad()
def test_bug_group_norm_loses_the_frames() -> None:
    """Every frame is normalised by itself: scaling one does not change the other."""
    attention = FrameAttention(TINY, 8, across=False)
    x = torch.randn(2, 8, 4, 4, generator=torch.Generator().manual_seed(0))
    changed = torch.stack([100 * x[0], x[1]])
    torch.testing.assert_close(attention(x)[1], attention(changed)[1])
    torch.testing.assert_close(attention.norm(x)[0].mean(), torch.tensor(0.0))


@torch.no_grad()
def test_bug_cross_attention_overwrites_the_first_frame() -> None:
    """Both frames read the state that entered: swapping frames swaps the result."""
    attention = make().middle.cross_attention
    x = torch.randn(4, 16, 4, 4, generator=torch.Generator().manual_seed(0))
    order = [1, 0, 3, 2]
    torch.testing.assert_close(attention(x[order]), attention(x)[order])


@torch.no_grad()
def test_attention_equals_its_definition() -> None:
    attention = make().middle.cross_attention
    x = torch.randn(2, 16, 2, 2, generator=torch.Generator().manual_seed(0))
    tokens = attention.norm(x).flatten(2).transpose(1, 2)
    query, key, value = attention.qkv(tokens).chunk(3, dim=-1)
    out = torch.zeros(2, 4, 16)
    for frame in range(2):
        for head in (slice(0, 8), slice(8, 16)):
            scores = query[frame, :, head] @ key[1 - frame, :, head].T / math.sqrt(8)
            out[frame, :, head] = scores.softmax(-1) @ value[1 - frame, :, head]
    expected = attention.out(out).transpose(1, 2).unflatten(-1, (2, 2))
    torch.testing.assert_close(attention(x), (x + expected) / math.sqrt(2))


@torch.no_grad()
@pytest.mark.parametrize("resample", ["inside", "output"])
@pytest.mark.parametrize("change, side", [("halve", 4), ("double", 16)])
def test_bug_resampling_is_never_applied(resample, change, side: int) -> None:
    """A block that changes the resolution does, and keeps its input (`h_in`)."""
    config = dataclasses.replace(TINY, resample=resample)
    block = ResnetBlock(config, 8, 8, change)
    modulated = side if resample == "inside" else 8
    x = torch.randn(1, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    out = block(x, torch.zeros(1, 16, modulated, modulated))
    assert out.shape == (1, 8, side, side)
    # The last convolution starts at zero, so only the skip connection is left.
    torch.testing.assert_close(
        out.mean(dim=(2, 3)), x.mean(dim=(2, 3)) / math.sqrt(2), rtol=0, atol=1e-5
    )


@torch.no_grad()
def test_bug_the_result_is_of_the_noisy_frame() -> None:
    """Without attention and embeddings the clean frame has no influence at all."""
    config = dataclasses.replace(TINY, attention=(False, False))
    network, (frames, log_snr, rays) = make(config), inputs()
    clean, noisy = frames.clone(), frames.clone()
    clean[:, 0] += 1
    noisy[:, 1] += 1
    expected = network(frames, log_snr, rays)
    torch.testing.assert_close(network(clean, log_snr, rays), expected)
    assert not torch.allclose(network(noisy, log_snr, rays), expected)


@torch.no_grad()
def test_noise_levels() -> None:
    """The paper's are bounded, the port's are not; both clamp the log-SNR."""
    for config in (TINY, PORT):
        conditioning = make(config).conditioning
        levels = conditioning.embed_level(torch.tensor([-30.0, -20.0, 20.0, 25.0]))
        assert torch.equal(levels[0], levels[1]) and torch.equal(levels[2], levels[3])
        assert not torch.allclose(levels[1], levels[2])


def test_encoding_is_sines_and_cosines() -> None:
    values = torch.rand(4, 3, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        encode_octaves(values, 5), blocked_encoding(values, 5), rtol=0, atol=1e-5
    )


def test_settings_that_make_no_network() -> None:
    with pytest.raises(ValueError, match="one entry per entry"):
        dataclasses.replace(TINY, attention=(True,))
    with pytest.raises(ValueError, match="cannot be divided"):
        dataclasses.replace(TINY, num_groups=3)
    with pytest.raises(ValueError, match="cannot be halved"):
        XUNet(TINY, 9)
