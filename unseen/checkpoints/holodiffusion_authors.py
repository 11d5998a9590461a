"""Weights in the layout of HoloDiffusion's code, to ours.

Source: https://github.com/facebookresearch/holo_diffusion (CC BY-NC 4.0). Its trainer
writes `model_epoch_XXXXXXXX.pth`, a plain dictionary of tensors; the authors published
none. Nothing in the file is executed when it is read. Settings that tensors do not tell
(the cube's side, image sizes, samples along rays) are those of the authors' CO3D runs,
and what their code does beyond the paper are settings of ours (`HoloDiffusionConfig`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from unseen.checkpoints.released_files import (
    count_blocks,
    filled,
    read_checkpoint,
    tensors_of,
)
from unseen.encoders.unprojection import UnprojectionConfig
from unseen.errors import UserError
from unseen.methods.holodiffusion import HoloDiffusion, HoloDiffusionConfig
from unseen.networks.render_mlp import RenderMLPConfig
from unseen.networks.resnet34 import ResNetConfig
from unseen.networks.unet3d import UNet3dConfig

OWNER = "HoloDiffusion"
_IMAGES, _POOLING = "image_feature_extractor.", "view_pooler.feature_aggregator."
_NET, _RENDERER = "net_3d._net.", "_implicit_functions.1._fn.render_mlp."
# One module under two names: the one that is listed last is the one in effect.
_SAME_RENDERER = "_implicit_functions.0._fn.render_mlp."
_NAMES = {
    f"{_IMAGES}stem.0.": "encoder.trunk.conv1.",
    f"{_IMAGES}stem.1.": "encoder.trunk.bn1.",
    f"{_IMAGES}proj_layers.": "encoder.projections.",
    f"{_POOLING}_first_sampled.": "encoder.from_view.",
    f"{_POOLING}_first_mean.": "encoder.from_mean.",
    f"{_POOLING}_mlp.mlp.0.0.": "encoder.hidden.",
    f"{_POOLING}_last.": "encoder.pooled.",
    "pooled_feature_mapper.": "encoder.mapper.",
    f"{_NET}input_blocks.0.0.": "network.stem.",
    f"{_NET}time_embed.": "network.time.",
    f"{_NET}out.0.": "network.norm.",
    f"{_NET}out.2.": "network.head.",
    f"{_RENDERER}_radiance_net.mlp.0.0.": "decoder.radiance.",
}
_INNER = {
    "in_layers.0": "block.norm_1",
    "in_layers.2": "block.conv_1",
    "emb_layers.1": "block.film",
    "out_layers.0": "block.norm_2",
    "out_layers.3": "block.conv_2",
    "skip_connection": "block.skip",
    "norm": "attention.norm",
    "qkv": "attention.qkv",
    "proj_out": "attention.out",
}
_STAGE = re.compile(rf"{re.escape(_NET)}(input|output)_blocks\.(\d+)\.\d+\.(.+)\.(\w+)")
_MIDDLE = re.compile(rf"{re.escape(_NET)}middle_block\.(\d)\.(.+)\.(\w+)")
_TRUNK = re.compile(rf"{re.escape(_IMAGES)}layers\.(\d+)\.(.+)")
_DENSITY = re.compile(rf"{re.escape(_RENDERER)}_density_net\.mlp\.(\d+)\.0\.(\w+)")


def read_holodiffusion(
    path: str | Path, image_size: int = 512, extent: float = 8.0
) -> HoloDiffusion:
    """The method with the weights of a file of the authors' trainer.

    The result is in evaluation mode. `image_size` is that of the images it was trained
    with, `extent` the side of its cube in world units. The grid is taken to be the
    smallest that the network can reduce, 16 voxels a side for the authors' settings.

    Raises:
        UserError: the file is missing, damaged or another system's; or a tensor is
            missing, unknown, misshapen or not finite.
    """
    content = read_checkpoint(path, OWNER, mmap=True)
    official = tensors_of(content, None, path, OWNER)
    official = {
        key: value
        for key, value in official.items()
        if not key.startswith(_SAME_RENDERER)
        or key.replace(_SAME_RENDERER, _RENDERER) not in official
    }
    config = read_settings(official, path, image_size, extent)
    tensors: dict[str, Tensor] = {}
    for key, value in official.items():
        # Unknown names stay as they are, to be refused by them.
        name = rename(key, config.network) or key
        attends = name.endswith(("attention.qkv.weight", "attention.out.weight"))
        tensors[name] = value[..., 0] if attends and value.ndim == 3 else value
    return filled(config, tensors, path)


def rename(key: str, network: UNet3dConfig) -> str | None:
    """Our name of an official tensor; None for one that has no counterpart."""
    for start, ours in _NAMES.items():
        if key.startswith(start):
            return ours + key.removeprefix(start)
    if match := _TRUNK.fullmatch(key):
        return f"encoder.trunk.layer{int(match[1]) + 1}.{match[2]}"
    if match := _DENSITY.fullmatch(key):
        return f"decoder.density.{match[1]}.{match[2]}"
    if match := _MIDDLE.fullmatch(key):
        stage = "middle_2" if match[1] == "2" else "middle_1"
        return _at(stage, match[2], match[3])
    if match := _STAGE.fullmatch(key):
        index, inner, kind = int(match[2]), match[3], match[4]
        down = match[1] == "input"
        # Blocks are counted through. On the way down the stem is the first of all, and
        # each resolution's last one halves it.
        level, block = divmod(index - down, network.num_blocks + 1)
        if down and inner == "op":
            return f"network.downsample.{level}.{kind}"
        if down:
            return _at(f"down.{level}.{block}", inner, kind)
        # The way up begins at the coarsest resolution; ours counts from the finest.
        level = len(network.multipliers) - 1 - level
        if inner == "conv":
            return f"network.upsample.{level - 1}.{kind}"
        return _at(f"up.{level}.{block}", inner, kind)
    return None


def _at(place: str, inner: str, kind: str) -> str | None:
    return f"network.{place}.{_INNER[inner]}.{kind}" if inner in _INNER else None


def read_settings(
    official: Mapping[str, Tensor], path: str | Path, image_size: int, extent: float
) -> HoloDiffusionConfig:
    """Our configuration, as far as tensors tell it."""
    try:
        network, features = _network(official)
        resolution = 2 ** (len(network.multipliers) - 1)
        return HoloDiffusionConfig(
            _encoder(official),
            network,
            _decoder(official, features),
            resolution,
            extent,
            image_size,
            last_pass=True,
            swapped_axes=True,
        )
    except (KeyError, ValueError, IndexError, ZeroDivisionError) as error:
        raise UserError(
            f"{path} does not hold the weights of {OWNER} ({type(error).__name__}: "
            f"{error}): give a file of its trainer."
        ) from error


def _network(official: Mapping[str, Tensor]) -> tuple[UNet3dConfig, int]:
    """The denoiser's settings, and its channels."""
    halvings = [
        int(match[1])
        for key in official
        if (match := re.fullmatch(rf"{_NET}input_blocks\.(\d+)\.0\.op\.weight", key))
    ]
    blocks, levels = min(halvings) - 1, len(halvings) + 1
    channels = official[f"{_NET}time_embed.0.weight"].shape[1]
    firsts = [f"{_NET}input_blocks.{1 + k * (blocks + 1)}" for k in range(levels)]
    widths = [official[f"{first}.0.in_layers.2.weight"].shape[0] for first in firsts]
    if any(width % channels for width in widths):
        raise ValueError("its layers make no network")
    network = UNet3dConfig(
        channels,
        tuple(width // channels for width in widths),
        blocks,
        tuple(f"{first}.1.qkv.weight" in official for first in firsts),
    )
    return network, official[f"{_NET}input_blocks.0.0.weight"].shape[1]


def _decoder(official: Mapping[str, Tensor], features: int) -> RenderMLPConfig:
    density = rf"{re.escape(_RENDERER)}_density_net\.mlp\.(\d+)\.0\.weight"
    layers = count_blocks(official, density)
    inputs = [
        official[f"{_RENDERER}_density_net.mlp.{k}.0.weight"].shape[1]
        for k in range(layers)
    ]
    width = official[f"{_RENDERER}_density_net.mlp.0.0.weight"].shape[0]
    again = [k for k in range(1, layers) if inputs[k] > width]
    seen = official[f"{_RENDERER}_radiance_net.mlp.0.0.weight"].shape[1]
    octaves = ((seen - width) // 3 - 1) // 2
    skip = again[0] if again else 0
    return RenderMLPConfig(features, width, layers, skip, octaves, "last")


def _encoder(official: Mapping[str, Tensor]) -> UnprojectionConfig:
    stages = count_blocks(official, rf"{re.escape(_IMAGES)}proj_layers\.(\d+)\.weight")
    blocks = [
        count_blocks(official, rf"{re.escape(_IMAGES)}layers\.{k}\.(\d+)\.conv1\.")
        for k in range(stages)
    ]
    width = official[f"{_IMAGES}stem.0.weight"].shape[0]
    projection = official[f"{_IMAGES}proj_layers.0.weight"].shape[0]
    hidden, sampled = official[f"{_POOLING}_first_sampled.weight"].shape
    octaves = ((sampled - projection * stages - 4) // 3 - 1) // 2
    return UnprojectionConfig(
        ResNetConfig(width, tuple(blocks)),
        projection=projection,
        width=hidden,
        direction_octaves=octaves,
    )
