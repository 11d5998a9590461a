"""AdamW and its learning rate."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from unseen.training.config import TrainConfig


def make_optimizer(method: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW over the trainable parameters; no weight decay on vectors and scalars."""
    parameters = [p for p in method.parameters() if p.requires_grad]
    groups = [
        {
            "params": [p for p in parameters if p.ndim >= 2],
            "weight_decay": config.weight_decay,
        },
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=config.learning_rate,
        betas=config.betas,
        fused=True,
    )


def learning_rate(config: TrainConfig, step: int) -> float:
    """The learning rate of step number `step`, which counts from 0.

    Rises linearly over the first `warmup_steps` and then stays, or falls along a half
    cosine that would reach zero after the last step.
    """
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    if config.decay == "constant":
        return config.learning_rate
    rest = max(config.steps - config.warmup_steps, 1)
    fraction = min((step - config.warmup_steps) / rest, 1.0)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * fraction))


def optimizer_tensors(
    optimizer: torch.optim.Optimizer, method: nn.Module
) -> dict[str, Tensor]:
    """The optimizer's state as `PARAMETER.KEY` tensors."""
    return {
        f"{name}.{key}": tensor
        for name, parameter in method.named_parameters()
        for key, tensor in optimizer.state.get(parameter, {}).items()
    }


def load_optimizer_tensors(
    optimizer: torch.optim.Optimizer, method: nn.Module, tensors: dict[str, Tensor]
) -> None:
    """Restore what `optimizer_tensors` returned, in the memory layout of the weights.

    The layout matters: kernels sum in memory order, so another one would change the
    last bits of a resumed run.
    """
    parameters = dict(method.named_parameters())
    for full_name, tensor in tensors.items():
        name, key = full_name.rsplit(".", 1)
        parameter = parameters[name]
        if tensor.shape == parameter.shape and key != "step":
            value = torch.empty_like(parameter, dtype=tensor.dtype).copy_(tensor)
        else:
            value = tensor.to(parameter.device)
        optimizer.state[parameter][key] = value.detach()
