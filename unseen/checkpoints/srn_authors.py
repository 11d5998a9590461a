"""The weights that the authors of SRN trained, to ours.

Source: https://github.com/vsitzmann/scene-representation-networks (MIT). A file holds
`{'model', 'optimizer'}`. Nothing in it is executed when it is read.
"""

from __future__ import annotations

import re
from pathlib import Path

from torch import Tensor

from unseen.checkpoints.hypernetwork_keys import block_name, num_hidden, width_of
from unseen.checkpoints.released_files import filled, read_checkpoint, tensors_of
from unseen.errors import UserError
from unseen.methods.srn import SRN, SRNConfig
from unseen.networks.hypernetwork import HyperNetworkConfig
from unseen.networks.ray_marcher import RayMarcherConfig
from unseen.scenes.ray_marched import Marching

OWNER = "Scene Representation Networks"
_CODES = "latent_codes.weight"
_HYPER = re.compile(r"hyper_phi\.layers\.(\d+)\.hyper_linear\.hypo_params\.(.+)")


def read_srn(path: str | Path, image_size: int = 128) -> SRN:
    """The method with the weights of a file, in evaluation mode.

    Sizes, and the number of codes, are those of the tensors; the image size is not
    among them. Pixel centres follow the authors' convention.

    Raises:
        UserError: the file is missing, damaged or another system's; or a tensor is
            missing, unknown, misshapen or not finite.
    """
    content = read_checkpoint(path, OWNER)
    official = tensors_of(content, "model", path, OWNER)
    config = infer_config(official, image_size)
    # Unknown names stay as they are, to be refused by them.
    return filled(config, {rename(key) or key: x for key, x in official.items()}, path)


def rename(key: str) -> str | None:
    """Our name of an official tensor; None for one that SRN does not have."""
    if key == _CODES:
        return "codes.weight"
    match = _HYPER.fullmatch(key)
    if match:
        name = block_name(match[2])
        return None if name is None else f"hyper.nets.{match[1]}.{name}"
    if key.startswith("pixel_generator."):
        name = block_name(key.removeprefix("pixel_generator."))
        return None if name is None else f"marcher.color.{name}"
    part, _, rest = key.removeprefix("ray_marcher.").partition(".")
    ours = {"lstm": "marcher.lstm", "out_layer": "marcher.step"}.get(part)
    return f"{ours}.{rest}" if ours and key.startswith("ray_marcher.") else None


def infer_config(official: dict[str, Tensor], image_size: int = 128) -> SRNConfig:
    """The sizes of official tensors, and the authors' conventions.

    Raises:
        UserError: a tensor that tells a size is missing, or they do not fit together.
    """

    def size(key: str, axis: int = 0) -> int:
        return width_of(official, key, axis, OWNER)

    hyper, color = "hyper_phi.layers.{}.hyper_linear.hypo_params.", "pixel_generator."
    hidden = num_hidden(official, hyper.format(0))
    sizes = [3]
    layers = {int(m[1]) for m in map(_HYPER.fullmatch, official) if m}
    for layer in range(len(layers)):
        numbers = size(f"{hyper.format(layer)}net.{hidden}.bias")
        if numbers % (sizes[-1] + 1):
            raise UserError(
                f"The checkpoint predicts {numbers} numbers in layer {layer}, which "
                f"make no weights of {sizes[-1]} inputs: give a file of {OWNER}."
            )
        sizes.append(numbers // (sizes[-1] + 1))
    return SRNConfig(
        image_size=image_size,
        num_objects=size(_CODES),
        hyper=HyperNetworkConfig(
            code_width=size(_CODES, 1),
            width=size(f"{hyper.format(0)}net.0.net.0.weight"),
            num_hidden=hidden,
            sizes=tuple(sizes),
            plain_last=False,
            split="layer",
        ),
        marcher=RayMarcherConfig(
            features=sizes[-1],
            memory=size("ray_marcher.lstm.weight_hh", 1),
            color_layers=num_hidden(official, color),
        ),
        marching=Marching(pixel_grid="integer"),
    )
