"""Attention across views in the 2D U-Net, against a slow twin."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from unseen.networks.unet2d import AttentionBlock, UNet2d, UNet2dConfig


def attend_slowly(block: AttentionBlock, x: Tensor, group: int) -> Tensor:
    """Every pixel's answer by itself, from the pixels of its own group."""
    batch, channels = x.shape[:2]
    qkv = block.qkv(block.norm(x)).flatten(2)
    size = channels // block.num_heads
    out = torch.zeros_like(x.flatten(2))
    for entry in range(batch):
        first = entry // group * group
        tokens = torch.cat(list(qkv[first : first + group]), dim=-1)
        for head in range(block.num_heads):
            part = slice(head * size, (head + 1) * size)
            keys, values = tokens[channels:].chunk(2)
            query = qkv[entry, :channels][part]
            weights = (query.T @ keys[part] / math.sqrt(size)).softmax(dim=-1)
            out[entry, part] = values[part] @ weights.T
    return x + block.out(out.reshape(x.shape))


def random_block(generator: torch.Generator) -> AttentionBlock:
    block = AttentionBlock(16, groups=4, head_size=8)
    for parameter in block.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator)
    return block.double()


def test_attention_across_views_equals_its_slow_twin(
    generator: torch.Generator,
) -> None:
    block = random_block(generator)
    x = torch.randn(6, 16, 3, 2, generator=generator).double().requires_grad_()
    for group in (1, 2, 3):
        fast, slow = block(x, group), attend_slowly(block, x, group)
        assert torch.allclose(fast, slow, atol=1e-8)
        cotangent = torch.randn(fast.shape, generator=generator).double()
        grads = [torch.autograd.grad(y, x, cotangent)[0] for y in (fast, slow)]
        assert torch.allclose(*grads, atol=1e-8)


def test_groups_do_not_see_each_other(generator: torch.Generator) -> None:
    network = UNet2d(UNet2dConfig((8, 16), 1, (False, True), 8, 4), 3)
    for parameter in network.parameters():
        parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator)
    x = torch.randn(4, 3, 8, 8, generator=generator)
    embedding = torch.randn(4, 8, generator=generator)
    changed = x.clone()
    changed[3] += 1
    before, after = network(x, embedding, 2)[0], network(changed, embedding, 2)[0]
    assert torch.allclose(before[:2], after[:2], atol=1e-5)
    assert not torch.allclose(before[2], after[2], atol=1e-3)
