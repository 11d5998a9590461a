"""The weights that the authors of LFN trained, to ours.

Source: https://github.com/vsitzmann/light-field-networks (MIT). A file holds the bare
weights. Nothing in it is executed when it is read.
"""

from __future__ import annotations

import re
from pathlib import Path

from torch import Tensor

from unseen.checkpoints.hypernetwork_keys import block_name, num_hidden, width_of
from unseen.checkpoints.released_files import filled, read_checkpoint, tensors_of
from unseen.errors import UserError
from unseen.methods.lfn import LFN, LFNConfig
from unseen.networks.hypernetwork import HyperNetworkConfig

OWNER = "Light Field Networks"
_CODES = "latent_codes.weight"
_HYPER = re.compile(r"hyper_phi\.nets\.(\d+)\.(.+)")
DEAD_KEYS = re.compile(r"phi\.net\.(\d+)(?:\.net\.0)?\.(weight|bias)")
"""Weights of the MLP itself: in the file, but the predicted ones take their place."""


def read_lfn(path: str | Path, image_size: int = 128) -> LFN:
    """The method with the weights of a file, in evaluation mode.

    Sizes, and the number of codes, are those of the tensors; the image size is not
    among them. Pixel centres follow the authors' convention.

    Raises:
        UserError: the file is missing, damaged or another system's; or a tensor is
            missing, unknown, misshapen or not finite.
    """
    content = read_checkpoint(path, OWNER)
    official = tensors_of(content, None, path, OWNER)
    config = infer_config(official, image_size)
    check_dead(official, config, path)
    tensors = {
        # Unknown names stay as they are, to be refused by them.
        rename(key) or key: x
        for key, x in official.items()
        if not DEAD_KEYS.fullmatch(key)
    }
    return filled(config, tensors, path)


def rename(key: str) -> str | None:
    """Our name of an official tensor; None for one without influence, or unknown."""
    if key == _CODES:
        return "codes.weight"
    match = _HYPER.fullmatch(key)
    name = block_name(match[2]) if match else None
    return f"hyper.nets.{match[1]}.{name}" if match and name else None


def infer_config(official: dict[str, Tensor], image_size: int = 128) -> LFNConfig:
    """The sizes of official tensors, and the authors' conventions.

    Raises:
        UserError: a tensor that tells a size is missing.
    """

    def size(key: str, axis: int = 0) -> int:
        return width_of(official, key, axis, OWNER)

    hidden = num_hidden(official, "hyper_phi.nets.0.")
    nets = {int(m[1]) for m in map(_HYPER.fullmatch, official) if m}
    # Networks with odd numbers predict biases.
    widths = [
        size(f"hyper_phi.nets.{i}.net.{hidden}.bias") for i in range(1, len(nets), 2)
    ]
    return LFNConfig(
        image_size=image_size,
        num_objects=size(_CODES),
        hyper=HyperNetworkConfig(
            code_width=size(_CODES, 1),
            width=size("hyper_phi.nets.0.net.0.net.0.weight"),
            num_hidden=hidden,
            sizes=(6, *widths),
        ),
        pixel_grid="integer",
    )


def check_dead(
    official: dict[str, Tensor], config: LFNConfig, path: str | Path
) -> None:
    """Weights that are not used must at least be those of this MLP.

    Raises:
        UserError: one is of another shape than the one that is predicted for it.
    """
    sizes = config.hyper.sizes
    for key, value in official.items():
        match = DEAD_KEYS.fullmatch(key)
        if match is None:
            continue
        layer, kind = int(match[1]), match[2]
        known = layer < len(sizes) - 1
        shape = sizes[layer + 1 : layer + 2] if known else ()
        shape += sizes[layer : layer + 1] if kind == "weight" else ()
        if not known or tuple(value.shape) != shape:
            raise UserError(
                f"{path}: the tensor '{key}' of shape {tuple(value.shape)} does not "
                f"belong with the others: give the authors' file."
            )
