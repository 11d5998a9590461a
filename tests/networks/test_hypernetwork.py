"""Predicted MLPs, and the networks that predict them."""

from __future__ import annotations

import math
from typing import Literal

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from unseen.networks.hypernetwork import HyperNetwork, HyperNetworkConfig, fc_block
from unseen.networks.predicted_mlp import CACHE_ROWS, PredictedMLP, PreparedMLP

SIZES = (6, 16, 16, 3)


def make_mlp(
    batch: tuple[int, ...] = (), plain_last: bool = True, sizes=SIZES
) -> PredictedMLP:
    generator = torch.Generator().manual_seed(1)
    pairs = list(zip(sizes[1:], sizes[:-1], strict=True))
    return PredictedMLP(
        tuple(
            torch.randn(*batch, n, m, generator=generator) / m**0.5 for n, m in pairs
        ),
        tuple(torch.randn(*batch, n, generator=generator) for n, _ in pairs),
        plain_last,
    )


def slow(mlp: PredictedMLP, x: Tensor) -> Tensor:
    """One point at a time, normalisation written out."""
    rows = []
    for point in x:
        for i, (weight, bias) in enumerate(zip(mlp.weights, mlp.biases, strict=True)):
            point = weight @ point + bias
            if i < len(mlp.weights) - 1 or not mlp.plain_last:
                centred = point - point.mean()
                point = centred / (centred.square().mean() + 1e-5).sqrt()
                point = point.clamp(min=0)
        rows.append(point)
    return torch.stack(rows)


@pytest.mark.parametrize("plain_last", [True, False])
def test_a_predicted_mlp_equals_its_slow_twin(plain_last: bool) -> None:
    mlp, x = make_mlp((2,), plain_last), torch.randn(2, 7, 6)
    for tensor in (*mlp.weights, *mlp.biases):
        tensor.requires_grad_()
    fast, expected = mlp(x), torch.stack([slow(mlp[i], x[i]) for i in range(2)])
    torch.testing.assert_close(fast, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(mlp[0](x[0]), expected[0], atol=1e-5, rtol=1e-5)
    leaves, cotangent = [*mlp.weights, *mlp.biases], torch.randn_like(fast)
    found = torch.autograd.grad(fast, leaves, cotangent)
    wanted = torch.autograd.grad(expected, leaves, cotangent)
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("plain_last", [True, False])
def test_the_prepared_mlp_equals_the_plain_one(plain_last: bool) -> None:
    """More points than one piece, and of layers whose outputs have a large mean."""
    mlp = make_mlp((), plain_last, (6, 64, 64, 64, 3))
    mlp = PredictedMLP(mlp.weights, tuple(b + 3 for b in mlp.biases), plain_last)
    x = torch.randn(CACHE_ROWS + 100, 6)
    found = PreparedMLP(mlp)(x)
    torch.testing.assert_close(found, mlp(x), atol=1e-5, rtol=1e-5)
    assert not found.requires_grad

    rough = PreparedMLP(mlp, torch.bfloat16)(x)
    error = (rough - mlp(x)).square().mean().sqrt() / mlp(x).std()
    assert 1e-5 < error < 1e-2, "not in bfloat16, or not close"


@pytest.mark.parametrize("plain_last", [True, False])
def test_directional_derivatives(plain_last: bool) -> None:
    mlp = make_mlp((2,), plain_last)
    x, tangents = torch.randn(2, 5, 6), torch.randn(2, 4, 5, 6)
    found = mlp.push_forward(x, tangents)
    for i in range(4):
        expected = torch.func.jvp(mlp, (x,), (tangents[:, i],))[1]
        torch.testing.assert_close(found[:, i], expected, atol=1e-5, rtol=1e-4)


def test_layers_that_do_not_fit() -> None:
    mlp = make_mlp()
    with pytest.raises(ValueError, match="do not make an MLP"):
        PredictedMLP(mlp.weights[::-1], mlp.biases[::-1], True)
    with pytest.raises(ValueError, match="do not make an MLP"):
        PredictedMLP((), (), True)


def test_tensors_round_trip() -> None:
    mlp = make_mlp((3,))
    again = PredictedMLP.from_tensors({**mlp.tensors(), "box": torch.ones(2)}, True)
    x = torch.randn(3, 5, 6)
    assert torch.equal(again(x), mlp(x)) and again.shape == (3,)


def config(split: Literal["tensor", "layer"]) -> HyperNetworkConfig:
    return HyperNetworkConfig(
        code_width=8, width=32, sizes=SIZES, plain_last=split == "tensor", split=split
    )


def test_the_layout_of_predicted_vectors() -> None:
    """One vector per layer: the weight's rows, then the bias. Or one per tensor."""
    torch.manual_seed(0)
    code = torch.randn(2, 8)
    hyper = HyperNetwork(config("layer"))
    mlp, vector = hyper(code), hyper.nets[1](code)
    assert len(hyper.nets) == 3 and vector.shape == (2, 16 * 16 + 16)
    assert torch.equal(mlp.weights[1][1, 2], vector[1, 32:48])
    assert torch.equal(mlp.biases[1], vector[:, 256:])
    assert mlp.is_hidden(2)

    hyper = HyperNetwork(config("tensor"))
    mlp = hyper(code)
    assert len(hyper.nets) == 6
    assert torch.equal(mlp.weights[2], hyper.nets[4](code).reshape(2, 3, 16))
    assert torch.equal(mlp.biases[2], hyper.nets[5](code))
    assert not mlp.is_hidden(2)
    numbers = sum(x[0].numel() for x in (*mlp.weights, *mlp.biases))
    assert hyper.num_predicted() == numbers


def test_initial_weights() -> None:
    """Kaiming for ReLU, and a tenth of it in the last layer of a hypernetwork."""
    torch.manual_seed(0)
    block = fc_block(256, 256, 1, 4096, last_scale=0.1)
    first, last = block[0].weight, block[-1].weight
    assert isinstance(first, Tensor) and isinstance(last, Tensor)
    assert first.std().item() == pytest.approx(math.sqrt(2 / 256), rel=0.02)
    assert last.std().item() == pytest.approx(0.1 * math.sqrt(2 / 256), rel=0.02)
    x = torch.randn(3, 256)
    hidden = functional.relu(
        functional.layer_norm(functional.linear(x, first, block[0].bias), (256,))  # type: ignore[arg-type]
    )
    torch.testing.assert_close(block[:3](x), hidden)


def test_sizes_of_the_published_networks() -> None:
    """104,628,998 numbers of LFN are its hypernetworks, and the MLP has 397,315."""
    with torch.device("meta"):
        hyper = HyperNetwork(HyperNetworkConfig())
    assert hyper.num_predicted() == 397_315
    assert sum(p.numel() for p in hyper.parameters()) == 104_628_998 - 397_315
