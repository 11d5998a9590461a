"""The weights of MVDream, to ours.

Sources: https://github.com/bytedance/MVDream (MIT; a bare state dict of an LDM), and
folders in the layout of diffusers, whose U-Net has the names of the LDM in some and
those of diffusers in others. Nothing in a file is executed.

The text encoder comes with the weights, and its tokenizer only with the folders: for
the authors' file it is given as the `merges.txt` of any CLIP model of OpenAI's
vocabulary, which all of them share.
"""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unseen.checkpoints import latent_files as files
from unseen.checkpoints.clip_keys import convert_text_encoder
from unseen.checkpoints.released_files import (
    count_blocks,
    filled,
    read_checkpoint,
    tensors_of,
)
from unseen.errors import UserError
from unseen.methods.mvdream import MVDream, MVDreamConfig
from unseen.networks.clip_tokenizer import parse_merges

OWNER = "MVDream"
UNET = "model.diffusion_model."
AUTOENCODER = "first_stage_model."
OPEN_CLIP = "cond_stage_model.model."
TRANSFORMERS = "cond_stage_model.transformer."
MERGES = "merges.txt"
# What the two layers of the cameras are called, by LDM and by diffusers.
_CAMERA = {
    "camera_embed.0.": "0.",
    "camera_embed.2.": "2.",
    "camera_matrix_embedding.linear_1.": "0.",
    "camera_matrix_embedding.linear_2.": "2.",
}

Parts = dict[str, Mapping[str, Tensor]]
Settings = dict[str, dict[str, Any]]


def read_mvdream(path: str | Path, tokenizer: str | Path | None = None) -> MVDream:
    """The method with the weights of a file or a folder, in evaluation mode.

    Args:
        path: The authors' file, or a folder in the layout of diffusers.
        tokenizer: The file `merges.txt` of CLIP's tokenizer, or a folder that holds it;
            by default that of the folder.

    Raises:
        UserError: the file or folder is missing, damaged, incomplete or another
            system's; a tensor is missing, unknown, misshapen or not finite; or there is
            no tokenizer, or another one's.
    """
    path = Path(path)
    is_folder = path.is_dir()
    try:
        parts, settings = _of_folder(path) if is_folder else _of_file(path)
        config = MVDreamConfig(
            unet=files.unet_settings(parts["unet__model"], **settings["unet"]),
            autoencoder=files.autoencoder_settings(
                parts["autoencoder__model"], **settings["autoencoder"]
            ),
            text_encoder=files.text_encoder_settings(
                parts["text_encoder__encoder"], **settings["text_encoder"]
            ),
        )
        vocabulary = len(parts["text_encoder__encoder"]["words.weight"])
    except (KeyError, TypeError, ValueError, IndexError, ZeroDivisionError) as error:
        raise UserError(
            f"{path} does not hold the weights of {OWNER} ({type(error).__name__}: "
            f"{error}): give its file, or its folder in the layout of diffusers."
        ) from error
    _check_channels(config, path)
    if tokenizer is None and is_folder:
        tokenizer = path / "tokenizer"
    merges = _read_merges(tokenizer, vocabulary - 514)
    parts["text_encoder__tokenizer"] = {"merges": merges}
    return filled(config, files.join(**parts), path)


def _of_file(path: Path) -> tuple[Parts, Settings]:
    """The networks in the authors' state dict; their settings are not in it."""
    content = read_checkpoint(path, OWNER, mmap=True)
    entry = "state_dict" if "state_dict" in content else None
    official = tensors_of(content, entry, path, OWNER)
    camera, unet = _split_cameras(files.select(official, UNET))
    text, settings = files.select(official, TRANSFORMERS), {}
    if text:
        # Of Stable Diffusion 1: all layers of OpenAI's encoder, filled with its end.
        encoder = convert_text_encoder(text)
        settings = {"activation": "quick_gelu", "padding": None}
    else:
        text = files.select(official, OPEN_CLIP)
        # All layers but the last, as Stable Diffusion 2 reads them.
        blocks = count_blocks(text, r"transformer\.resblocks\.(\d+)\.")
        encoder = convert_text_encoder(text, blocks - 1)
    parts: Parts = {
        "unet__model": files.ldm_unet(unet),
        "camera": camera,
        "autoencoder__model": files.ldm_autoencoder(
            files.select(official, AUTOENCODER)
        ),
        "text_encoder__encoder": encoder,
    }
    return parts, {"unet": {}, "autoencoder": {}, "text_encoder": settings}


def _of_folder(path: Path) -> tuple[Parts, Settings]:
    """The networks in a folder with one sub-folder each."""
    unet, unet_json = files.read_part(path, ["unet"], OWNER)
    autoencoder, autoencoder_json = files.read_part(path, ["vae"], OWNER)
    text, text_json = files.read_part(path, ["text_encoder"], OWNER)
    camera, unet = _split_cameras(unet)
    is_ldm = any(key.startswith("input_blocks.") for key in unet)
    settings = files.encoder_json(text_json)
    # The tokenizer of Stable Diffusion 2 fills texts with token 0, and that of Stable
    # Diffusion 1, which has OpenAI's activation, with the token of their end.
    if settings.get("activation") == "quick_gelu":
        settings["padding"] = None
    parts: Parts = {
        "unet__model": files.ldm_unet(unet) if is_ldm else unet,
        "camera": camera,
        "autoencoder__model": files.folder_autoencoder(autoencoder),
        "text_encoder__encoder": convert_text_encoder(text),
    }
    return parts, {
        # The settings of a U-Net with the LDM's names are in words of their own.
        "unet": {} if is_ldm else files.unet_json(unet_json),
        "autoencoder": files.autoencoder_json(autoencoder_json),
        "text_encoder": settings,
    }


def _split_cameras(
    tensors: Mapping[str, Tensor],
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The layers of the cameras under our names, and all other tensors."""
    camera, rest = {}, {}
    for key, value in tensors.items():
        name = next((n for n in _CAMERA if key.startswith(n)), None)
        if name is None:
            rest[key] = value
        else:
            camera[_CAMERA[name] + key.removeprefix(name)] = value
    return camera, rest


def _check_channels(config: MVDreamConfig, path: Path) -> None:
    latent = config.autoencoder.latent_channels
    if config.unet.in_channels != latent:
        raise UserError(
            f"{path} holds another model than {OWNER}: its U-Net takes "
            f"{config.unet.in_channels} channels where a latent has {latent}."
        )


def _read_merges(tokenizer: str | Path | None, count: int) -> Tensor:
    if tokenizer is None:
        raise UserError(
            f"the file of {OWNER} has no tokenizer: name the {MERGES} of CLIP's with "
            "--tokenizer."
        )
    path = Path(tokenizer)
    path = path / MERGES if path.is_dir() else path
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
        lines = content.decode("utf-8").splitlines()
    except (OSError, EOFError, ValueError) as error:
        raise UserError(
            f"{path} cannot be read as a tokenizer's {MERGES}: name another file with "
            "--tokenizer."
        ) from error
    merges = parse_merges(lines, count)
    return merges.to(torch.int32)
