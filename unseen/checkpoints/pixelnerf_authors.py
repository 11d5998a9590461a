"""The weights that the authors of pixelNeRF released, to ours.

Source: https://github.com/sxyu/pixel-nerf (BSD-2-Clause). A released file is a bare
state dict. Which images it was trained for is not in it, so `read_pixelnerf` is told.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, get_args

import torch
from torch import Tensor

from unseen.checkpoints.released_files import (
    count_blocks,
    filled,
    read_checkpoint,
    tensors_of,
)
from unseen.errors import UserError
from unseen.methods.pixelnerf import PixelNeRF, PixelNeRFConfig
from unseen.networks.resnet34 import ResNetConfig
from unseen.scenes.aligned_radiance import AlignedReading

Release = Literal["srn", "nmr"]

# The conventions of the authors' code, which their weights need.
AUTHORS_READING = AlignedReading(pixel_grid="integer", measure="distance")

RELEASES: dict[str, PixelNeRFConfig] = {
    "srn": PixelNeRFConfig(reading=AUTHORS_READING),
    "nmr": PixelNeRFConfig(
        encoder=ResNetConfig(first_pool=False), image_size=64, reading=AUTHORS_READING
    ),
}
"""Settings of the released weights: ShapeNet cars and chairs at 128x128, and the
category-agnostic ones at 64x64, whose encoder does not pool its first layer."""

DEAD_KEYS = re.compile(r"encoder\.model\.layer4\..*")
"""Tensors of a released file that do not influence any output."""

COMPUTED_KEYS = re.compile(r"code\._(freqs|phases)")
"""Tensors of a released file that follow from its settings."""

# The authors' camera axes are OpenGL's: y and z are the opposite of ours.
_AXES = (1.0, -1.0, -1.0)


def infer_config(
    official: Mapping[str, Tensor], release: Release = "srn"
) -> PixelNeRFConfig:
    """The settings of official tensors: sizes by the tensors, the rest by release.

    Raises:
        UserError: a tensor that tells a size is missing.
    """
    settings = RELEASES[release]
    try:
        stem = official["encoder.model.conv1.weight"].shape[0]
        width, inputs = official["mlp_coarse.lin_in.weight"].shape
    except (KeyError, ValueError) as error:
        raise UserError(
            f"The checkpoint is not one of pixelNeRF ({error}): give the authors' file "
            "`pixel_nerf_latest`."
        ) from error
    layers = (rf"encoder\.model\.layer{i}\.(\d+)\." for i in (1, 2, 3))
    blocks = tuple(count_blocks(official, layer) for layer in layers)
    octaves = ((inputs - 3) // 3 - 1) // 2
    return dataclasses.replace(
        settings,
        encoder=dataclasses.replace(settings.encoder, width=stem, blocks=blocks),
        width=width,
        blocks=count_blocks(official, r"mlp_coarse\.blocks\.(\d+)\."),
        view_blocks=count_blocks(official, r"mlp_coarse\.lin_z\.(\d+)\."),
        reading=dataclasses.replace(settings.reading, octaves=octaves),
    )


def rename(key: str) -> str | None:
    """Our name of an official tensor, None for one that is not a plain copy.

    Those are the dead and computed ones, the first layer's weight, whose columns belong
    to other axes here, and the biases of the features' maps, which are added to those
    of the layers before.
    """
    if DEAD_KEYS.fullmatch(key) or COMPUTED_KEYS.fullmatch(key):
        return None
    if key.startswith("encoder.model."):
        return key.replace("encoder.model.", "encoder.", 1)
    part = re.fullmatch(r"mlp_(coarse|fine)\.(.+)", key)
    if part is None:
        return None
    network, name = part[1], part[2]
    if re.fullmatch(r"blocks\.\d+\.fc_[01]\.(weight|bias)", name):
        return f"{network}.{name}"
    if re.fullmatch(r"lin_z\.\d+\.weight", name):
        return f"{network}.{name.replace('lin_z', 'feature_in')}"
    names = {
        "lin_in.bias": "point_in.bias",
        "lin_out.weight": "out.weight",
        "lin_out.bias": "out.bias",
    }
    return f"{network}.{names[name]}" if name in names else None


def convert(
    official: Mapping[str, Tensor], config: PixelNeRFConfig
) -> dict[str, Tensor]:
    """Official state dict to that of a `PixelNeRF`.

    Tensors that we have no place for keep their official name, so that whoever checks
    the result finds them.
    """
    result: dict[str, Tensor] = {}
    biases: dict[str, Tensor] = {}
    for key, value in official.items():
        name = rename(key)
        bias = re.fullmatch(r"mlp_(coarse|fine)\.lin_z\.(\d+)\.bias", key)
        first = re.fullmatch(r"mlp_(coarse|fine)\.lin_in\.weight", key)
        if name is not None:
            result[name] = value
        elif bias:
            block = int(bias[2])
            before = f"blocks.{block - 1}.fc_1" if block else "point_in"
            biases[f"{bias[1]}.{before}.bias"] = value
        elif first and value.shape[-1] == config.reading.place:
            signs = _signs(config.reading.octaves).to(value)
            result[f"{first[1]}.point_in.weight"] = value * signs
        elif not (DEAD_KEYS.fullmatch(key) or COMPUTED_KEYS.fullmatch(key)):
            result[key] = value
    for network in ("coarse", "fine"):
        for block in range(config.view_blocks):
            before = f"blocks.{block - 1}.fc_1" if block else "point_in"
            name = f"{network}.{before}.bias"
            if name not in biases:
                # Then it is reported as missing.
                result.pop(name, None)
            elif name in result:
                same = result[name].shape == biases[name].shape
                # One of another shape takes the place, to be reported.
                result[name] = biases[name] + (result[name] if same else 0)
    return result


def _signs(octaves: int) -> Tensor:  # shape: private
    """Of the first layer's columns: points, their sines and directions are odd."""
    axes = torch.tensor(_AXES)
    waves = torch.cat([axes, torch.ones(3)]).repeat(octaves)
    return torch.cat([axes, waves, axes])


def read_pixelnerf(path: str | Path, release: Release = "srn") -> PixelNeRF:
    """A released file as our method, in evaluation mode.

    Args:
        path: The authors' `pixel_nerf_latest` (a state dict).
        release: "srn" for the weights of ShapeNet cars, chairs (128x128), "nmr" for the
            category-agnostic ones (64x64).

    Raises:
        UserError: the file cannot be read, runs code, or a tensor is missing, unknown,
            of the wrong shape, or not finite.
    """
    if release not in get_args(Release):
        raise UserError(
            f"pixelNeRF has no release '{release}': choose "
            f"{' or '.join(get_args(Release))}."
        )
    content = read_checkpoint(path, "pixelNeRF")
    official = tensors_of(content, None, path, "pixelNeRF")
    return load_official(official, release, path)


def load_official(
    official: Mapping[str, Tensor],
    release: Release = "srn",
    path: str | Path = "The checkpoint",
) -> PixelNeRF:
    """The method of official tensors; see `read_pixelnerf`."""
    config = infer_config(official, release)
    return filled(config, convert(official, config), path)
