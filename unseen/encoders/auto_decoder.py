"""Auto-decoding: a code per training object, and codes of unseen images by fitting.

An auto-decoder has no encoder (Park et al., "DeepSDF", CVPR 2019). Every
object of the training data owns a code, which is learned together with the network.
What an unseen image shows is found by optimisation: the code whose rendering agrees
with the image, while the network stays as it is.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from unseen.errors import UserError


class CodeTable(nn.Module):
    """One code for each training object; drawn from N(0, std^2) at first."""

    def __init__(self, num_objects: int, width: int, std: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_objects, width))
        nn.init.normal_(self.weight, std=std)

    def forward(
        self, objects: Int[Tensor, "batch"] | None
    ) -> Float[Tensor, "batch width"]:
        """The codes of training objects.

        Raises:
            UserError: the data do not say which objects they show, or show others
                than those that there are codes for.
        """
        count = len(self.weight)
        if objects is None:
            raise UserError(
                "this method learns a code for each object, but the data do not say "
                "which object is which: give examples with `objects`."
            )
        if (
            objects.numel()
            and not 0 <= int(objects.min()) <= int(objects.max()) < count
        ):
            raise UserError(
                f"the data show object {int(objects.max())}, but there are codes for "
                f"{count} objects: set num_objects to the number of objects."
            )
        return self.weight[objects]

    def mean(self) -> Float[Tensor, "width"]:
        """The mean of all codes; zero where there are none."""
        return self.weight.detach().sum(dim=0) / max(1, len(self.weight))


@dataclasses.dataclass(frozen=True)
class FitConfig:
    """How codes are fitted to images."""

    num_steps: int = 300
    """Steps of optimisation, at most."""

    learning_rate: float = 1e-2
    """Step length of Adam."""

    optimizer: Literal["adam", "adamw"] = "adam"
    """AdamW shrinks the codes at every step, Adam does not."""

    weight_decay: float = 0.0
    """By how much AdamW shrinks them (times the learning rate)."""

    halve_every: int = 0
    """Steps after which the learning rate is halved and the optimiser starts anew, as
    in CodeNeRF; 0 is never."""

    patience: int = 0
    """An image's codes are final when its loss has not improved for so many steps;
    0 is never."""

    min_improvement: float = 0.01
    """Fraction of the best loss that counts as an improvement."""

    rays: int = 0
    """Pixels of each image that a step looks at, drawn anew; 0 is all of them."""


@dataclasses.dataclass(frozen=True)
class FittedCodes:
    """The result of `fit_codes`."""

    codes: dict[str, Float[Tensor, "batch ..."]]
    """The fitted tensors, detached, by the names they had."""

    losses: Float[Tensor, "step batch"]
    """The loss before every step, prior included. An entry that has stopped repeats
    its last loss."""

    steps: Int[Tensor, "batch"]
    """Steps that moved the entry's codes."""


Codes = Mapping[str, Tensor]
"""Tensors to be fitted, by name; batch first, the rest as the method likes."""

FitLoss = Callable[[dict[str, Tensor], Sequence[torch.Generator]], Tensor]
"""Takes codes and one generator per entry, returns one loss per entry, (batch,).

What is random about entry i must come from generator i, and loss i may depend on the
codes of entry i only."""


def fit_codes(
    start: Codes,
    loss: FitLoss,
    config: FitConfig,
    seeds: Sequence[int],
    prior: Callable[[dict[str, Tensor]], Tensor] | None = None,
    rates: Mapping[str, float] | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> FittedCodes:
    """Minimise `loss` plus `prior` over codes, each batch entry for itself.

    `start` holds tensors (batch, ...) by name, such as codes of shape and texture, or
    cameras' poses; `rates` are factors on the learning rate of some of them. `prior`
    takes the codes and returns one number per entry.

    Losses are added up over the batch, so an entry's gradient is its own, and Adam is
    elementwise: entry i is what it would be alone (up to the order of sums inside of
    matrix products). An entry stops by itself (`FitConfig.patience`, or when its loss
    is not finite, at the last codes whose loss was) and stays; the fit ends when all
    have stopped.

    Only the codes are differentiated, in a block with gradients on whatever the
    caller's mode: the weights of the method keep their values and their `grad`.
    `on_step` gets the number of steps done and of steps to do.

    Raises:
        UserError: there are no codes, or as many seeds as entries are not given.
    """
    batch = {len(x) for x in start.values()}
    if batch != {len(seeds)}:
        raise UserError(
            f"codes of {sorted(batch)} images cannot be fitted with {len(seeds)} "
            "seeds: give one seed and one row of each code per image."
        )
    device = next(iter(start.values())).device
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    codes = {name: x.detach().clone().requires_grad_() for name, x in start.items()}
    safe = {name: x.detach().clone() for name, x in codes.items()}
    stopping = _EarlyStop(len(seeds), config, device)
    curve: list[Tensor] = []
    for step in range(config.num_steps):
        if step == 0 or (config.halve_every and step % config.halve_every == 0):
            optimizer = _optimizer(codes, config, rates or {}, step)
        with torch.enable_grad():
            losses = loss(codes, generators)
            if prior is not None:
                losses = losses + prior(codes)
            grads = torch.autograd.grad(losses.sum(), list(codes.values()))
        curve.append(_carried(losses.detach(), curve, stopping.active))
        moving = stopping.update(curve[-1], step)
        safe = _advance(optimizer, codes, grads, moving, losses.isfinite(), safe)
        done = not bool(moving.any())
        if on_step is not None:
            on_step(step + 1, step + 1 if done else config.num_steps)
        if done:
            break
    found = {name: x.detach() for name, x in codes.items()}
    return FittedCodes(found, torch.stack(curve), stopping.steps)


def _optimizer(
    codes: Codes, config: FitConfig, rates: Mapping[str, float], step: int
) -> torch.optim.Optimizer:
    halvings = step // config.halve_every if config.halve_every else 0
    rate = config.learning_rate * 0.5**halvings
    groups = [
        {"params": [x], "lr": rate * rates.get(name, 1.0)} for name, x in codes.items()
    ]
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, weight_decay=config.weight_decay)
    return torch.optim.Adam(groups)


def _advance(
    optimizer: torch.optim.Optimizer,
    codes: Codes,
    grads: Sequence[Tensor],
    moving: Tensor,
    finite: Tensor,
    safe: Codes,
) -> dict[str, Tensor]:
    """One step of the moving entries; the others stay, or go back to `safe` codes.

    Returns the latest codes whose loss was finite.
    """
    safe = {
        name: torch.where(_wide(finite, x), x.detach(), safe[name])
        for name, x in codes.items()
    }
    for x, grad in zip(codes.values(), grads, strict=True):
        # NaN in one entry must not reach the optimiser's state.
        x.grad = torch.where(_wide(moving, grad), grad, 0)
    optimizer.step()
    with torch.no_grad():
        for name, x in codes.items():
            x.copy_(torch.where(_wide(moving, x), x, safe[name]))
    return safe


def _wide(mask: Tensor, like: Tensor) -> Tensor:
    """A mask (batch,) that broadcasts against (batch, ...)."""
    return mask.reshape(-1, *[1] * (like.dim() - 1))


def _carried(losses: Tensor, curve: list[Tensor], active: Tensor) -> Tensor:
    """Losses, with those of stopped entries as they were."""
    return torch.where(active, losses, curve[-1]) if curve else losses


class _EarlyStop:
    """Which entries still move."""

    def __init__(self, batch: int, config: FitConfig, device: torch.device) -> None:
        self.config = config
        self.active = torch.ones(batch, dtype=torch.bool, device=device)
        self.best = torch.full((batch,), math.inf, device=device)
        self.best_step = torch.zeros(batch, dtype=torch.long, device=device)
        self.steps = torch.zeros(batch, dtype=torch.long, device=device)

    def update(self, losses: Tensor, step: int) -> Tensor:
        """The entries that this step may move, given their losses before it."""
        # Beyond zero too: a loss may be negative.
        enough = self.best - self.config.min_improvement * self.best.abs()
        better = (losses < enough) | self.best.isinf()
        self.best = torch.where(better, losses.to(self.best), self.best)
        self.best_step = torch.where(better, step, self.best_step)
        self.active = self.active & losses.isfinite()
        if self.config.patience:
            self.active = self.active & (step - self.best_step < self.config.patience)
        self.steps = self.steps + self.active
        return self.active


def mean_square_prior(codes: Float[Tensor, "batch width"]) -> Float[Tensor, "batch"]:
    """Mean of the squared entries: a Gaussian prior, as in SRN and LFN."""
    return codes.square().mean(dim=-1)


def norm_prior(codes: Float[Tensor, "batch width"]) -> Float[Tensor, "batch"]:
    """Euclidean length (not squared), as in CodeNeRF."""
    return codes.norm(dim=-1)
