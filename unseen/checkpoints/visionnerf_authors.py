"""The weights that the authors of VisionNeRF released, to ours.

Source: https://github.com/ken2576/vision-nerf (MIT). A released file holds three state
dicts, of the features and of the coarse and the fine network, beside the optimizer's.
"""

from __future__ import annotations

import dataclasses
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
from unseen.errors import UserError
from unseen.methods.visionnerf import VisionNeRF, VisionNeRFConfig
from unseen.networks.fused_features import FusedFeaturesConfig
from unseen.networks.vision_transformer import VisionTransformerConfig

PARTS = ("feature_net", "net_coarse", "net_fine")
"""State dicts of a released file that hold weights."""

DEAD_KEYS = re.compile(r"feature_net\.pretrained\.model\.(norm|head)\.(weight|bias)")
"""Tensors of a released file that do not influence any output."""

_NETWORKS = {"net_coarse": "coarse", "net_fine": "fine"}
_REASSEMBLE = {"0.project.0": "readout", "3": "project", "4": "resize"}
_HEAD_WIDTH = 64


def infer_config(official: Mapping[str, Tensor]) -> VisionNeRFConfig:
    """The settings of official tensors (with `PARTS` as prefixes).

    Raises:
        UserError: a tensor that tells a size is missing.
    """
    net = "feature_net."
    try:
        vit = f"{net}pretrained.model."
        width, _, patch, _ = official[f"{vit}patch_embed.proj.weight"].shape
        side = round((official[f"{vit}pos_embed"].shape[1] - 1) ** 0.5)
        hidden = official[f"{vit}blocks.0.mlp.fc1.weight"].shape[0]
        levels = tuple(
            official[f"{net}pretrained.act_postprocess{i}.3.weight"].shape[0]
            for i in (1, 2, 3, 4)
        )
        fusion = official[f"{net}scratch.layer1_rn.weight"].shape[0]
        half = official[f"{net}scratch.output_conv.3.weight"].shape[0]
        stem = official[f"{net}scratch.skip_conv.0.weight"].shape[0]
        mlp = official["net_coarse.input_layer.weight"].shape[0]
    except (KeyError, ValueError) as error:
        raise UserError(
            f"The checkpoint is not one of VisionNeRF ({error}): give the authors' "
            "file."
        ) from error
    defaults = VisionNeRFConfig()
    depth = count_blocks(official, re.escape(vit) + r"blocks\.(\d+)\.")
    transformer = VisionTransformerConfig(
        image_size=side * patch,
        patch=patch,
        width=width,
        depth=depth,
        heads=max(1, width // _HEAD_WIDTH),
        mlp_ratio=hidden // width,
    )
    encoder = FusedFeaturesConfig(
        transformer,
        taps=tuple((i + 1) * depth // 4 - 1 for i in range(4)),  # type: ignore[arg-type]
        levels=levels,  # type: ignore[arg-type]
        fusion=fusion,
        stem=stem,
        features=2 * half,
        statistics="batch",
    )
    return VisionNeRFConfig(
        encoder=encoder,
        width=mlp,
        blocks=count_blocks(official, r"net_coarse\.blocks\.(\d+)\."),
        rectified_shortcut=True,
        image_size=side * patch,
        reading=dataclasses.replace(
            defaults.reading, pixel_grid="integer", world_density=False
        ),
    )


def rename(key: str) -> str | None:
    """Our name of an official tensor, None for one that is not a plain copy.

    Those are the dead ones, and the networks' first weights, whose columns are in
    another order here and are split over two tensors.
    """
    stem, _, kind = key.rpartition(".")
    if DEAD_KEYS.fullmatch(key) or (stem.endswith("input_layer") and kind == "weight"):
        return None
    part = key.partition(".")[0]
    if part in _NETWORKS:
        name = key.removeprefix(f"{part}.")
        name = name.replace("input_layer", "point_in").replace("output_layer", "out")
        return f"{_NETWORKS[part]}.{name}"
    if key.startswith("feature_net.pretrained.model."):
        return "encoder.transformer." + key.removeprefix(
            "feature_net.pretrained.model."
        )
    level = re.fullmatch(r"feature_net\.pretrained\.act_postprocess([1-4])\.(.+)", stem)
    if level and level[2] in _REASSEMBLE:
        return f"encoder.reassemble.{int(level[1]) - 1}.{_REASSEMBLE[level[2]]}.{kind}"
    level = re.fullmatch(r"feature_net\.scratch\.layer([1-4])_rn", stem)
    if level:
        return f"encoder.unify.{int(level[1]) - 1}.{kind}"
    for old, new in (("output_conv", "fuse"), ("skip_conv", "skip")):
        if key.startswith(f"feature_net.scratch.{old}."):
            return f"encoder.{new}." + key.removeprefix(f"feature_net.scratch.{old}.")
    return None


def _encoding_columns(octaves: int) -> list[int]:
    """The authors' column of each of our encoding's: they go coordinate by coordinate.

    A coordinate's block is (x, all sines, all cosines); ours goes octave by octave.
    """
    block = 1 + 2 * octaves
    columns = [axis * block for axis in range(3)]
    for octave in range(octaves):
        columns += [axis * block + 1 + octave for axis in range(3)]
        columns += [axis * block + 1 + octaves + octave for axis in range(3)]
    return columns


def convert(
    official: Mapping[str, Tensor], config: VisionNeRFConfig
) -> dict[str, Tensor]:
    """Official tensors (with `PARTS` as prefixes) to the state dict of a `VisionNeRF`.

    Tensors that we have no place for keep their official name, so that whoever checks
    the result finds them.
    """
    features, octaves = config.encoder.features, config.reading.octaves
    encoding = 3 * (1 + 2 * octaves)
    # Theirs: encoding, colour, features, direction. Ours: encoding, direction, colour.
    first, last = encoding + 3, encoding + 3 + features
    place = _encoding_columns(octaves)
    place += [*range(last, last + 3), *range(encoding, encoding + 3)]
    result: dict[str, Tensor] = {}
    for key, value in official.items():
        name = rename(key)
        network = _NETWORKS.get(key.removesuffix(".input_layer.weight"))
        if network and value.ndim == 2 and value.shape[1] == last + 3:
            result[f"{network}.point_in.weight"] = value[:, place]
            result[f"{network}.feature_in.0.weight"] = value[:, first:last].contiguous()
        elif not DEAD_KEYS.fullmatch(key):
            result[name or key] = value
    return result


def read_visionnerf(path: str | Path) -> VisionNeRF:
    """A released file as our method, in evaluation mode.

    Raises:
        UserError: the file cannot be read, runs code, or a tensor is missing, unknown,
            of the wrong shape, or not finite.
    """
    content = read_checkpoint(path, "VisionNeRF")
    official = {
        f"{part}.{key}": value
        for part in PARTS
        for key, value in tensors_of(content, part, path, "VisionNeRF").items()
    }
    return load_official(official, path)


def load_official(
    official: Mapping[str, Tensor], path: str | Path = "The checkpoint"
) -> VisionNeRF:
    """The method of official tensors (with `PARTS` as prefixes), in evaluation mode."""
    config = infer_config(official)
    return filled(config, convert(official, config), path)
