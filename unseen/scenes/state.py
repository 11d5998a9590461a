"""What scenes share when they are written to tensors and read back."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from unseen.geometry.cameras import Cameras


def camera_tensors(cameras: Cameras) -> dict[str, Tensor]:
    """Cameras as tensors, for `cameras_of`."""
    return {
        "extrinsics": cameras.extrinsics,
        "intrinsics": cameras.intrinsics,
        "near": cameras.near,
        "far": cameras.far,
    }


def cameras_of(tensors: Mapping[str, Tensor]) -> Cameras:
    """The cameras among some tensors. Raises KeyError if there are none."""
    names = ("extrinsics", "intrinsics", "near", "far")
    return Cameras(*(tensors[name] for name in names))


def module_tensors(prefix: str, module: nn.Module) -> dict[str, Tensor]:
    """A network's tensors, named `prefix`.name, for `module_state`."""
    return {f"{prefix}.{name}": x for name, x in module.state_dict().items()}


def module_state(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What `load_state_dict` of the network takes that was saved under a prefix."""
    start = f"{prefix}."
    return {k.removeprefix(start): x for k, x in tensors.items() if k.startswith(start)}
