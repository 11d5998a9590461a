"""Data-parallel training under torchrun: every process has its own examples.

Gradients are averaged once per optimizer step in one flat buffer. That needs no
wrapper around the method, works with gradient accumulation, and does not mind
parameters that took no part in a step.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Sequence

import torch
import torch.distributed
from jaxtyping import Float
from torch import Tensor, nn

TIMEOUT = datetime.timedelta(days=1)
"""How long processes wait for each other. What one does and the others wait for may
take hours: a larger rest of what is prepared, or sample grids of a slow sampler, and
torch's own 10 minutes (NCCL) or 30 (gloo) would end the run. It need not be short,
because torchrun notices a process that died, and ends the others."""


def rank() -> int:
    """The number of this process, 0 when there is only one."""
    return torch.distributed.get_rank() if torch.distributed.is_initialized() else 0


def world_size() -> int:
    """The number of processes."""
    if torch.distributed.is_initialized():
        return torch.distributed.get_world_size()
    return 1


def start(device: str) -> str:
    """Join the process group when torchrun started us; returns the device to use."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return device
    on_gpu = device.startswith("cuda") or (
        device == "auto" and torch.cuda.is_available()
    )
    if not torch.distributed.is_initialized():
        backend = "nccl" if on_gpu else "gloo"
        torch.distributed.init_process_group(backend, timeout=TIMEOUT)
    if not on_gpu:
        return "cpu"
    local = f"cuda:{os.environ['LOCAL_RANK']}"
    torch.cuda.set_device(local)
    return local


def stop() -> None:
    """Leave the process group, if there is one."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def wait() -> None:
    """Wait until all processes are here."""
    if torch.distributed.is_initialized():
        torch.distributed.barrier()


@torch.no_grad()
def average_gradients(
    parameters: Sequence[nn.Parameter], values: Float[Tensor, "value"]
) -> Float[Tensor, "value"]:
    """Average the gradients, in place, and `values`, returned, over all processes.

    A parameter without a gradient in this process counts as zero.
    """
    if world_size() == 1:
        return values
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    flat = torch.cat([g.reshape(-1) for g in gradients] + [values])
    torch.distributed.all_reduce(flat)
    flat /= world_size()
    sizes = [g.numel() for g in gradients] + [len(values)]
    *parts, values = flat.split(sizes)
    for parameter, gradient, part in zip(parameters, gradients, parts, strict=True):
        parameter.grad = gradient.copy_(part.view(gradient.shape))
    return values
