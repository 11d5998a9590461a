"""The weights of Zero-1-to-3, to ours.

Sources: https://github.com/cvlab-columbia/zero123 (MIT; the checkpoint of an LDM, also
that of Stable-Zero123), and folders in the layout of diffusers of which two kinds are
in use, which call the layer of the pose `cc_projection` and `clip_camera_projection`.
Nothing in a file is executed. Of a large file, what is not needed is not read.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from torch import Tensor

from unseen.checkpoints import latent_files as files
from unseen.checkpoints.clip_keys import convert_image_encoder
from unseen.checkpoints.released_files import (
    LIGHTNING,
    filled,
    read_checkpoint,
    tensors_of,
)
from unseen.errors import UserError
from unseen.methods.zero123 import Zero123, Zero123Config

Release = Literal["zero123", "stable-zero123"]
Weights = Literal["average", "plain"]

OWNER = "Zero-1-to-3"
UNET = "model.diffusion_model."
AUTOENCODER = "first_stage_model."
IMAGE_ENCODER = "cond_stage_model.model.visual."
PROJECTION = "cc_projection."
# Folders and prefixes that the layer of the pose has.
_PROJECTIONS = ("cc_projection", "clip_camera_projection")
_SPELLINGS = ("cc_projection.", "projection.", "proj.")


def read_zero123(
    path: str | Path, release: str = "zero123", weights: str | None = None
) -> Zero123:
    """The method with the weights of a file or a folder, in evaluation mode.

    Args:
        path: The authors' checkpoint, or a folder in the layout of diffusers.
        release: Stable-Zero123 was trained to be told another pose, and its file does
            not tell.
        weights: The moving average of the U-Net's weights, or the weights themselves.
            By default the average where there is one, as in the authors' demo.

    Raises:
        UserError: the file or folder is missing, damaged, incomplete or another
            system's, or has no moving average; or a tensor is missing, unknown,
            misshapen or not finite.
    """
    if release not in get_args(Release):
        raise UserError(
            f"there is no release '{release}' of {OWNER}: choose one of "
            f"{', '.join(get_args(Release))}."
        )
    if weights not in (None, *get_args(Weights)):
        raise UserError(
            f"there are no weights '{weights}': choose one of "
            f"{', '.join(get_args(Weights))}."
        )
    path = Path(path)
    if path.is_dir() and weights == "average":
        raise UserError(
            f"{path} is a folder, which has no average: leave out --weights."
        )
    try:
        parts, settings = _of_folder(path) if path.is_dir() else _of_file(path, weights)
        config = Zero123Config(
            unet=files.unet_settings(parts["unet__model"], **settings["unet"]),
            autoencoder=files.autoencoder_settings(
                parts["autoencoder__model"], **settings["autoencoder"]
            ),
            image_encoder=files.image_encoder_settings(
                parts["image_encoder"], **settings["image_encoder"]
            ),
            pose="stable" if release == "stable-zero123" else "relative",
        )
        _check_channels(config, path)
    except (KeyError, TypeError, ValueError, IndexError, ZeroDivisionError) as error:
        raise UserError(
            f"{path} does not hold the weights of {OWNER} ({type(error).__name__}: "
            f"{error}): give its file, or its folder in the layout of diffusers."
        ) from error
    return filled(config, files.join(**parts), path)


Parts = dict[str, Mapping[str, Tensor]]
Settings = dict[str, dict[str, Any]]


def _of_file(path: Path, weights: str | None) -> tuple[Parts, Settings]:
    """The networks in an LDM's checkpoint; their settings are not in it."""
    content = read_checkpoint(path, OWNER, mmap=True, mentioned=LIGHTNING)
    entry = "state_dict" if "state_dict" in content else None
    official = tensors_of(content, entry, path, OWNER)
    average = None if weights == "plain" else files.averaged_unet(official, UNET)
    if weights == "average" and average is None:
        raise UserError(
            f"{path} holds no moving average of all weights: leave out --weights."
        )
    unet = files.select(official, UNET) if average is None else average
    parts: Parts = {
        "unet__model": files.ldm_unet(unet),
        "autoencoder__model": files.ldm_autoencoder(
            files.select(official, AUTOENCODER)
        ),
        "image_encoder": convert_image_encoder(files.select(official, IMAGE_ENCODER)),
        "projection": files.select(official, PROJECTION),
    }
    return parts, {"unet": {}, "autoencoder": {}, "image_encoder": {}}


def _of_folder(path: Path) -> tuple[Parts, Settings]:
    """The networks in a folder with one sub-folder each."""
    unet, unet_json = files.read_part(path, ["unet"], OWNER)
    autoencoder, autoencoder_json = files.read_part(path, ["vae"], OWNER)
    encoder, encoder_json = files.read_part(path, ["image_encoder"], OWNER)
    projection, _ = files.read_part(path, _PROJECTIONS, OWNER)
    parts: Parts = {
        "unet__model": unet,
        "autoencoder__model": files.folder_autoencoder(autoencoder),
        "image_encoder": convert_image_encoder(encoder),
        "projection": {_plain(key): x for key, x in projection.items()},
    }
    settings: Settings = {
        "unet": files.unet_json(unet_json),
        "autoencoder": files.autoencoder_json(autoencoder_json),
        "image_encoder": files.encoder_json(encoder_json),
    }
    return parts, settings


def _plain(key: str) -> str:
    """A name in the layer of the pose without any of the prefixes in use."""
    for prefix in _SPELLINGS:
        key = key.removeprefix(prefix)
    return key


def _check_channels(config: Zero123Config, path: Path) -> None:
    latent = config.autoencoder.latent_channels
    if config.unet.in_channels != 2 * latent:
        raise UserError(
            f"{path} holds another model than {OWNER}: its U-Net takes "
            f"{config.unet.in_channels} channels and not {2 * latent}, a noisy latent "
            "and a given one."
        )
