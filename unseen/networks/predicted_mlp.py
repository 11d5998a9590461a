"""A small MLP whose weights another network has predicted.

Every hidden layer is linear, layer normalisation without scale and shift, ReLU: the
scene functions of SRN and LFN, whose weights come from a hypernetwork.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

EPSILON = 1e-5
"""Of the layer normalisation, added to the variance."""

CACHE_ROWS, GPU_ROWS = 1024, 2**18
"""Points that a `PreparedMLP` takes through all layers at once."""


@dataclasses.dataclass(frozen=True)
class PredictedMLP:
    """Weights of one MLP, shape (), or of one for each batch entry, shape (batch,).

    `plain_last` says that the last layer is linear only; otherwise it is normalised
    and rectified like the others.

    Raises:
        ValueError: the layers do not fit together.
    """

    weights: tuple[Float[Tensor, "*batch _out _in"], ...]
    biases: tuple[Float[Tensor, "*batch _out"], ...]
    plain_last: bool

    def __post_init__(self) -> None:
        pairs = list(zip(self.weights, self.biases, strict=True))
        fit = all(w.shape[:-1] == b.shape for w, b in pairs) and all(
            a.shape[:-2] == b.shape[:-2] and a.shape[-2] == b.shape[-1]
            for a, b in zip(self.weights, self.weights[1:], strict=False)
        )
        if not pairs or not fit:
            shapes = [tuple(w.shape) for w in self.weights]
            raise ValueError(f"weights of shapes {shapes} do not make an MLP")

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.biases[0].shape[:-1])

    @property
    def device(self) -> torch.device:
        return self.biases[0].device

    @property
    def requires_grad(self) -> bool:
        return any(x.requires_grad for x in (*self.weights, *self.biases))

    def __getitem__(self, index: Any) -> PredictedMLP:
        """Index the batch axis, or add one (None)."""
        return PredictedMLP(
            tuple(w[index] for w in self.weights),
            tuple(b[index] for b in self.biases),
            self.plain_last,
        )

    def detach(self) -> PredictedMLP:
        """The same weights, without the graph that made them."""
        return PredictedMLP(
            tuple(w.detach() for w in self.weights),
            tuple(b.detach() for b in self.biases),
            self.plain_last,
        )

    def is_hidden(self, layer: int) -> bool:
        """Whether a layer is followed by normalisation and ReLU."""
        return layer < len(self.weights) - 1 or not self.plain_last

    def __call__(
        self, x: Float[Tensor, "*batch point in"]
    ) -> Float[Tensor, "*batch point out"]:
        """Evaluate, each batch entry with its own weights; differentiable."""
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            if self.shape:
                x = torch.baddbmm(bias[:, None], x, weight.transpose(1, 2))
            else:
                x = functional.linear(x, weight, bias)
            if self.is_hidden(i):
                x = functional.relu(functional.layer_norm(x, x.shape[-1:], eps=EPSILON))
        return x

    @torch.no_grad()
    def push_forward(
        self,
        x: Float[Tensor, "*batch point in"],
        tangents: Float[Tensor, "*batch direction point in"],
    ) -> Float[Tensor, "*batch direction point out"]:
        """Directional derivatives of the MLP at `x` along `tangents`; no gradients."""
        count = tangents.shape[-3]
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            hidden = self.is_hidden(i)
            if hidden:
                # Outputs without their mean, as in `PreparedMLP`.
                weight = weight - weight.mean(dim=-2, keepdim=True)
                bias = bias - bias.mean(dim=-1, keepdim=True)
            transposed = weight.transpose(-1, -2)
            x = (x @ transposed).add_(bias[..., None, :])
            # All directions as rows of one product.
            tangents = (tangents.flatten(-3, -2) @ transposed).unflatten(
                -2, (count, -1)
            )
            if not hidden:
                continue
            scale = (x.square().mean(dim=-1, keepdim=True) + EPSILON).rsqrt_()
            normal = x.mul_(scale).unsqueeze(-3)
            along = (tangents * normal).mean(dim=-1, keepdim=True)
            tangents.addcmul_(along, normal, value=-1)
            # ReLU's derivative and the scale, in one.
            tangents.mul_((scale * (x > 0)).unsqueeze(-3))
            x = x.relu_()
        return tangents

    def tensors(self) -> dict[str, Tensor]:
        """All weights, by name."""
        return {
            f"{kind}.{i}": tensor
            for kind, tensors in (("weight", self.weights), ("bias", self.biases))
            for i, tensor in enumerate(tensors)
        }

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor], plain_last: bool) -> PredictedMLP:
        """From what `tensors` returned (other names are ignored)."""
        count = sum(name.startswith("weight.") for name in tensors)
        return cls(
            tuple(tensors[f"weight.{i}"] for i in range(count)),
            tuple(tensors[f"bias.{i}"] for i in range(count)),
            plain_last,
        )


@dataclasses.dataclass(frozen=True)
class PreparedMLP:
    """A `PredictedMLP` of shape () laid out for many evaluations without gradients.

    Weights are transposed, and centred over the outputs of hidden layers once and for
    all: the mean that layer normalisation subtracts is then zero. What is left of it,
    the scale, and ReLU work in place, on pieces that stay in a processor's cache
    (`CACHE_ROWS` points; a GPU takes `GPU_ROWS`). With `dtype` bfloat16 the products
    of hidden layers are computed in it; the first layer, which sees coordinates, and
    the last stay in float32.
    """

    mlp: PredictedMLP
    dtype: torch.dtype = torch.float32

    @functools.cached_property
    def layers(
        self,
    ) -> list[tuple[Float[Tensor, "_in _out"], Float[Tensor, " _out"]]]:
        """Weights (in, out) and biases of every layer."""
        layers = []
        pairs = zip(self.mlp.weights, self.mlp.biases, strict=True)
        for i, (weight, bias) in enumerate(pairs):
            weight, bias = weight.detach(), bias.detach()
            if self.mlp.is_hidden(i):
                weight = weight - weight.mean(dim=0, keepdim=True)
                bias = bias - bias.mean()
            inner = 0 < i < len(self.mlp.weights) - 1
            dtype = self.dtype if inner else torch.float32
            layers.append((weight.T.to(dtype).contiguous(), bias.to(dtype)))
        return layers

    @torch.no_grad()
    def __call__(self, x: Float[Tensor, "point in"]) -> Float[Tensor, "point out"]:
        out = x.new_empty(len(x), self.layers[-1][1].shape[0])
        count = GPU_ROWS if x.is_cuda else CACHE_ROWS
        for rows, target in zip(x.split(count), out.split(count), strict=True):
            for i, (weight, bias) in enumerate(self.layers):
                rows = torch.addmm(bias, rows.to(weight.dtype), weight)
                if self.mlp.is_hidden(i):
                    length = torch.linalg.vector_norm(rows, dim=-1, keepdim=True)
                    variance = length.float().square_().div_(rows.shape[-1])
                    scale = variance.add_(EPSILON).rsqrt_()
                    rows = rows.relu_().mul_(scale.to(rows.dtype))
            target.copy_(rows)
        return out
