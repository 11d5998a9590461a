"""The weights of a public port of GeNVS, to ours.

Source: https://github.com/JhihYangWu/UnofficialGeNVS (no licence; the authors of the
paper released none). What it published is a pickle of code, which is not read here:
docs/methods/genvs.md says how its tensors are taken out of it, in the port's own
environment. What is read is that dictionary of tensors, as a safetensors file or as
one that `torch.save` wrote. The port's deviations from the paper are settings of ours
(see `PORT_RENDERING`), without which its weights mean something else.
"""

from __future__ import annotations

import re
import zipfile
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
from unseen.files import read_tensors
from unseen.methods.genvs import GeNVS, GeNVSConfig
from unseen.networks.ddpm_plus_plus import DDPMPlusPlusConfig
from unseen.networks.feature_mlp import FeatureMLPConfig
from unseen.networks.frustum_encoder import FrustumEncoderConfig
from unseen.scenes.frustum_features import PORT_RENDERING

OWNER = "the public port of GeNVS"
_PREFIX = "ema."
_IMAGE_SIZE = 128

# The normalisation is there and never used; nor are the head of the library's network
# and the labels of augmentation.
_DEAD = re.compile(
    r"pixel_nerf_net\.encoder\.(encoder\.(.+\.)?(bn\d|downsample\.1)"
    r"|decoder\.aspp\.0\.(convs\.[0-3]\.1|convs\.4\.2|project\.1)|decoder\.aspp\.2"
    r"|decoder\.block[12]\.1|segmentation_head\.0)\.[a-z_]+"
    r"|denoiser\.model\.map_augment\.weight|.+\.resample_filter"
)
_ENCODER = {
    "encoder": "",
    "decoder.aspp.0.convs.0.0": "context.point.",
    "decoder.aspp.0.convs.4.1": "context.mean.",
    "decoder.aspp.0.project.0": "context.project.",
    "decoder.aspp.1": "smooth.",
    "decoder.block1.0": "fine.",
    "decoder.block2.0": "fuse.",
    "decoder.modified_up.stage1": "join_16.",
    "decoder.modified_up.upconv1": "up_8.",
    "decoder.modified_up.stage2": "join_8.",
    "decoder.modified_up.upconv2": "up_4.",
    "decoder.modified_up.stage3": "join_4.",
    "volume_head.up.upconv1": "up_2.",
    "volume_head.up.stage1": "join_2.",
    "volume_head.up.upconv2": "up_1.",
    "volume_head.up.stage2": "join_1.",
    "volume_head.reshape_conv": "head.",
}
_BLOCK = {
    "norm0": "norm_1",
    "conv0": "conv_1",
    "affine": "embed",
    "norm1": "norm_2",
    "conv1": "conv_2",
    "skip": "skip",
    "norm2": "attention.norm",
    "qkv": "attention.qkv",
    "proj": "attention.out",
}
_LAYER = re.compile(
    r"(enc|dec)\.(\d+)x\d+_(conv|aux_residual|aux_norm|aux_conv|down|up|in\d|block\d+)"
    r"\.(?:(\w+)\.)?(weight|bias)"
)


def read_genvs(path: str | Path) -> GeNVS:
    """The method with the weights of a file of the port, in evaluation mode.

    Raises:
        UserError: the file is missing, damaged, another system's, or a pickle of code;
            or a tensor is missing, unknown, misshapen or not finite.
    """
    official = _read(Path(path))
    official = {key.removeprefix(_PREFIX): value for key, value in official.items()}
    official = {k: v for k, v in official.items() if not _DEAD.fullmatch(k)}
    try:
        config = read_settings(official)
        tensors = rename_tensors(official, config)
    except (KeyError, TypeError, ValueError, IndexError, RuntimeError) as error:
        raise UserError(
            f"{path} does not hold the weights of {OWNER} ({type(error).__name__}: "
            f"{error}): give the file that docs/methods/genvs.md makes of them."
        ) from error
    return filled(config, tensors, path)


def _read(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        return read_tensors(path)[0]
    if path.is_file() and not zipfile.is_zipfile(path):
        # `torch.save` writes archives; the port's snapshots are bare pickles.
        raise UserError(
            f"{path} is a pickle that runs code when it is read, which is not done "
            "here: take the tensors out of it in the port's own environment, with the "
            "script of docs/methods/genvs.md, and import what that writes."
        )
    content = read_checkpoint(path, OWNER, mmap=True)
    return tensors_of(content, None, path, OWNER)


def rename_tensors(
    official: Mapping[str, Tensor], config: GeNVSConfig
) -> dict[str, Tensor]:
    """Our names and shapes of official tensors (without their prefix and dead ones)."""
    tensors: dict[str, Tensor] = {}
    places = _places(config.denoiser)
    for key, value in official.items():
        # Unknown names stay as they are, to be refused by them.
        name = rename(key, places) or key
        if name.startswith("encoder.head."):
            value = _turn_slices(value, config.encoder)
        if ".attention.qkv." in name:
            # The port's q, k and v of a channel are neighbours; ours are blocks.
            value = value.unflatten(0, (-1, 3)).transpose(0, 1).flatten(0, 1)
        tensors[name] = value
    return tensors


def rename(key: str, places: Mapping[str, str]) -> str | None:
    """Our name of an official tensor without its prefix; None for unknown ones."""
    for official, ours in _ENCODER.items():
        start = f"pixel_nerf_net.encoder.{official}."
        if key.startswith(start):
            return f"encoder.{ours}{key.removeprefix(start)}"
    if match := re.fullmatch(
        r"pixel_nerf_net\.encoder\.decoder\.aspp\.0\.convs\.([1-9])\.0\.(.+)", key
    ):
        return f"encoder.context.wide.{int(match[1]) - 1}.{match[2]}"
    if key.startswith("pixel_nerf_net.mlp."):
        return f"field.{key.removeprefix('pixel_nerf_net.mlp.')}"
    if match := re.fullmatch(r"denoiser\.model\.map_layer([01])\.(\w+)", key):
        return f"denoiser.embed_{int(match[1]) + 1}.{match[2]}"
    match = _LAYER.fullmatch(key.removeprefix("denoiser.model."))
    place = None if match is None else places.get(".".join(match.group(1, 2, 3)))
    if match is None or place is None:
        return None
    inner = "" if match[4] is None else f".{_BLOCK.get(match[4], match[4])}"
    return f"denoiser.{place}{inner}.{match[5]}"


def _places(config: DDPMPlusPlusConfig) -> dict[str, str]:
    """Where the layers of the port's U-Net lie in ours, by way, side and kind."""
    sides = [_IMAGE_SIZE >> level for level in range(len(config.multipliers))]
    last, down, up = sides[-1], 0, 0
    places = {
        f"enc.{sides[0]}.conv": "stem",
        f"dec.{sides[0]}.aux_norm": "norm",
        f"dec.{sides[0]}.aux_conv": "head",
        f"dec.{last}.in0": "middle.0",
        f"dec.{last}.in1": "middle.1",
    }
    for level, side in enumerate(sides):
        if level > 0:
            places[f"enc.{side}.down"] = f"down.{down}"
            places[f"enc.{side}.aux_residual"] = f"residual.{level - 1}"
            down += 1
        for block in range(config.num_blocks):
            places[f"enc.{side}.block{block}"] = f"down.{down}"
            down += 1
    for side in reversed(sides):
        if side != last:
            places[f"dec.{side}.up"] = f"up.{up}"
            up += 1
        for block in range(config.num_blocks + 1):
            places[f"dec.{side}.block{block}"] = f"up.{up}"
            up += 1
    return places


def _turn_slices(value: Tensor, config: FrustumEncoderConfig) -> Tensor:
    """The last layer's channels: from (feature, slice from far) to (slice, feature)."""
    shape = (config.features, config.slices)
    return value.unflatten(0, shape).flip(1).transpose(0, 1).flatten(0, 1)


def read_settings(official: Mapping[str, Tensor]) -> GeNVSConfig:
    """Our configuration of what the tensors' names and shapes say.

    `official` as for `rename_tensors`.
    """
    net, encoder = "pixel_nerf_net.", "pixel_nerf_net.encoder."
    features = official[f"{net}mlp.layers.0.weight"].shape[1]
    head = official[f"{encoder}volume_head.reshape_conv.weight"]
    trunk = [
        count_blocks(official, rf"{re.escape(encoder)}encoder\.layer{stage}\.(\d+)\.")
        for stage in (1, 2, 3, 4)
    ]
    model = "denoiser.model."
    channels = len(official[f"{model}enc.{_IMAGE_SIZE}x{_IMAGE_SIZE}_conv.bias"])
    multipliers, attention, side = [], [], _IMAGE_SIZE
    while (start := f"{model}enc.{side}x{side}_block0.") + "conv1.bias" in official:
        multipliers.append(len(official[f"{start}conv1.bias"]) // channels)
        attention.append(f"{start}qkv.weight" in official)
        side //= 2
    return GeNVSConfig(
        encoder=FrustumEncoderConfig(
            width=len(official[f"{encoder}encoder.conv1.weight"]),
            blocks=tuple(trunk),  # type: ignore[arg-type]
            decoder=head.shape[1],
            fine=len(official[f"{encoder}decoder.block1.0.weight"]),
            features=features,
            slices=len(head) // features,
            positive=True,
        ),
        field=FeatureMLPConfig(
            width=len(official[f"{net}mlp.layers.0.weight"]),
            hidden=count_blocks(official, rf"{net}mlp\.layers\.(\d+)\.") - 1,
            density="relu",
        ),
        rendering=PORT_RENDERING,
        denoiser=DDPMPlusPlusConfig(
            channels=channels,
            multipliers=tuple(multipliers),
            num_blocks=count_blocks(
                official,
                rf"{re.escape(model)}enc\.{_IMAGE_SIZE}x{_IMAGE_SIZE}_block(\d+)\.",
            ),
            attention=tuple(attention),
            embedding=len(official[f"{model}map_layer0.bias"]),
            input_residual=True,
        ),
        image_size=_IMAGE_SIZE,
    )
