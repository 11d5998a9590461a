"""The weights that the authors of Equivariant Neural Rendering released, to ours.

Source: https://github.com/apple/ml-equivariant-neural-rendering (Apple Sample Code
License; the weights of chairs are a file of that repository). A released file holds
`{'config', 'state_dict'}`. Nothing in the file is executed when it is read.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unseen.checkpoints.released_files import filled, read_checkpoint, tensors_of
from unseen.errors import UserError
from unseen.methods.enr import ENR, ENRConfig
from unseen.networks.voxel_resnet import VoxelNetworkConfig, inner_ball

_MASK = "spherical_mask.mask"
_NETWORKS = {
    "inv_transform_2d": "encoder.image_net",
    "inv_projection": "encoder.unfold",
    "inv_transform_3d": "encoder.volume_net",
    "transform_3d": "decoder.volume_net",
    "projection": "decoder.fold",
    "transform_2d": "decoder.image_net",
}
_LISTS = {
    "channels_2d": "channels_2d",
    "strides_2d": "strides_2d",
    "num_channels_inv_projection": "unfold",
    "channels_3d": "channels_3d",
    "strides_3d": "strides_3d",
    "num_channels_projection": "fold",
}
_PATH = re.compile(
    r"(\w+)\.forward_layers\.(\d+)(?:\.residual_layers\.forward_layers\.(\d+))?"
    r"\.(weight|bias)"
)


def read_enr(path: str | Path) -> ENR:
    """The method with the weights of a released file, in evaluation mode.

    Raises:
        UserError: the file is missing, damaged or another system's; its settings are
            not those of its tensors; or a tensor is missing, unknown, misshapen or not
            finite.
    """
    content = read_checkpoint(path, "Equivariant Neural Rendering")
    official = tensors_of(content, "state_dict", path, "Equivariant Neural Rendering")
    config = _config(content.get("config"), path)
    _check_mask(official, config.network, path)
    # Unknown names stay as they are, to be refused by them.
    tensors = {
        rename(key) or key: value for key, value in official.items() if key != _MASK
    }
    return filled(config, tensors, path)


def rename(key: str) -> str | None:
    """Our name of an official tensor; None for one that is no weight of a layer."""
    match = _PATH.fullmatch(key)
    if match is None or match[1] not in _NETWORKS:
        return None
    inner = f".layers.{match[3]}" if match[3] else ""
    return f"{_NETWORKS[match[1]]}.{match[2]}{inner}.{match[4]}"


def _config(settings: Any, path: str | Path) -> ENRConfig:
    """Our configuration of the settings in a file."""
    try:
        lists = {ours: tuple(settings[name]) for name, ours in _LISTS.items()}
        size, mode = settings["img_shape"][-1], settings.get("mode", "bilinear")
        if not all(isinstance(x, int) for values in lists.values() for x in values):
            raise ValueError("its channels and strides are not numbers")
        if mode != "bilinear":
            raise ValueError(f"volumes are turned by '{mode}' interpolation")
        return ENRConfig(size, VoxelNetworkConfig(**lists))
    except (KeyError, TypeError, ValueError, IndexError, ZeroDivisionError) as error:
        raise UserError(
            f"{path} does not hold settings of Equivariant Neural Rendering "
            f"({type(error).__name__}: {error}): give the authors' file."
        ) from error


def _check_mask(
    official: dict[str, Tensor], network: VoxelNetworkConfig, path: str | Path
) -> None:
    """The file's mask, where it has one, is the one that we compute."""
    expected = inner_ball(network.depth)
    expected = expected.expand(network.channels_3d[-1], -1, -1, -1)
    mask = official.get(_MASK)
    if mask is not None and not torch.equal(mask.float(), expected):
        raise UserError(
            f"{path} masks its volumes by another shape than the ball inside of the "
            "cube: give the authors' file."
        )
