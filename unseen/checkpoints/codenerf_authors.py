"""Weights in the layout of CodeNeRF's code, to ours.

Source: https://github.com/wbjang/code-nerf (MIT). Its authors released no weights; this
reads what its training writes: `{'model_params', 'shape_code_params',
'texture_code_params'}`. Nothing in the file is executed when it is read.
"""

from __future__ import annotations

import re
from pathlib import Path

from torch import Tensor

from unseen.checkpoints.released_files import filled, read_checkpoint, tensors_of
from unseen.errors import UserError
from unseen.methods.codenerf import CodeNeRF, CodeNeRFConfig
from unseen.networks.coded_mlp import CodedMLPConfig
from unseen.scenes.coded_sampling import AUTHORS_SAMPLING

_LAYERS = {
    "encoding_xyz.0": "point_in",
    "encoding_shape": "shape_out",
    "sigma.0": "density",
    "encoding_viewdir.0": "view_in",
    "rgb.0": "color.0",
    "rgb.2": "color.2",
}
_BLOCKS = {
    "shape_latent_layer": "shape_in",
    "shape_layer": "shape_layers",
    "texture_latent_layer": "texture_in",
    "texture_layer": "texture_layers",
}
_TABLES = {"shape_code_params": "shapes", "texture_code_params": "textures"}


def read_codenerf(
    path: str | Path, image_size: int = 128, extent: float = 0.75
) -> CodeNeRF:
    """The method with the weights and codes of a file, in evaluation mode.

    The file does not say how large images were, nor how large objects are: the
    half-width `extent` is 0.5 for the cars of ShapeNet-SRN and 0.75 for its chairs.

    Raises:
        UserError: the file is missing, damaged or another system's; or a tensor is
            missing, unknown, misshapen or not finite.
    """
    content = read_checkpoint(path, "CodeNeRF")
    official = tensors_of(content, "model_params", path, "CodeNeRF")
    tensors = {
        f"network.{rename(key)}" if rename(key) else key: value
        for key, value in official.items()
    }
    for entry, name in _TABLES.items():
        table = tensors_of(content, entry, path, "CodeNeRF")
        tensors |= {f"{name}.{key}": value for key, value in table.items()}
    config = _config(tensors, image_size, extent, path)
    return filled(config, tensors, path)


def rename(key: str) -> str | None:
    """Our name, inside of the network, of an official tensor; None if it has none."""
    stem, _, kind = key.rpartition(".")
    if stem in _LAYERS:
        return f"{_LAYERS[stem]}.{kind}"
    block = re.fullmatch(r"(\w+)_([1-9]\d*)\.0", stem)
    if block is None or block[1] not in _BLOCKS:
        return None
    return f"{_BLOCKS[block[1]]}.{int(block[2]) - 1}.{kind}"


def _config(
    tensors: dict[str, Tensor], image_size: int, extent: float, path: str | Path
) -> CodeNeRFConfig:
    """The sizes of the tensors and the authors' conventions."""

    def blocks(name: str) -> int:
        pattern = re.compile(rf"network\.{name}\.\d+\.weight")
        return sum(pattern.fullmatch(key) is not None for key in tensors)

    try:
        width, points = tensors["network.point_in.weight"].shape
        directions = tensors["network.view_in.weight"].shape[1] - width
        num_objects, code_width = tensors["shapes.weight"].shape
    except (KeyError, ValueError, IndexError) as error:
        raise UserError(
            f"{path} does not hold the weights of CodeNeRF ({error}): give its file."
        ) from error
    network = CodedMLPConfig(
        width,
        code_width,
        blocks("shape_layers"),
        blocks("texture_layers"),
        max(0, points // 3 - 1) // 2,
        max(0, directions // 3 - 1) // 2,
    )
    return CodeNeRFConfig(
        num_objects=num_objects,
        image_size=image_size,
        network=network,
        sampling=AUTHORS_SAMPLING,
        extent=extent,
        rays=2048,
        chunk_rays=2048,
        # The table holds the codes as they are.
        code_rate=1.0,
    )
