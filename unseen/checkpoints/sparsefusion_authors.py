"""The weights of SparseFusion's authors, to ours.

Source: https://github.com/zhizdev/sparsefusion (no licence: facts about the layout
only). There are three files: the diffusion model's (`ckpt_latest.pt`), the epipolar
transformer's (`ckpt_latest_eft.pt`), and Stable Diffusion v1's, of which the
autoencoder is used. Nothing in a file is executed when it is read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from unseen.checkpoints.latent_files import ldm_autoencoder, select
from unseen.checkpoints.released_files import filled, read_checkpoint, tensors_of
from unseen.errors import UserError
from unseen.methods.sparsefusion import SparseFusion, SparseFusionConfig

OWNER = "SparseFusion"
_PREFIX = "unets.0."
AUTOENCODER = "first_stage_model."
# What the diffusion model's file holds for conditions that it does not have.
_UNUSED = re.compile(r"null_conditional_(embed|hidden)")
# The whole ResNet-18 is stored; its last stage and head are not used.
_UNUSED_EPIPOLAR = re.compile(r"encoder_model\.(layer4|fc)\..*|.*num_batches_tracked")
_EPIPOLAR = {
    "encoder_model": "encoder",
    "t1": "over_views",
    "t2": "over_depths",
    "t3": "over_summaries",
    "t2_attn": "depth_score",
    "t3_attn": "view_score",
    "color_layer.0": "color",
}
_ATTENTION = {
    "null_kv": "null",
    "norm.g": "norm.scale",
    "to_q.weight": "query.weight",
    "to_kv.weight": "key_value.weight",
    "to_context": "context",
    "to_out.0.weight": "out.weight",
    "to_out.1.g": "out_norm.scale",
}
_BLOCK = {
    "time_mlp.1": "time",
    "block1.groupnorm": "norm_1",
    "block1.project": "conv_1",
    "block2.groupnorm": "norm_2",
    "block2.project": "conv_2",
    "gca.to_k": "gate.key",
    "gca.net": "gate.gate",
    "res_conv": "skip",
    **{f"cross_attn.fn.{a}": f"attention.{b}" for a, b in _ATTENTION.items()},
}
_TRANSFORMER = {
    **{f"layers.0.0.fn.{a}": f"attention.{b}" for a, b in _ATTENTION.items()},
    "layers.0.1.0.g": "feed_forward.0.scale",
    "layers.0.1.1": "feed_forward.1",
    "layers.0.1.3.g": "feed_forward.3.scale",
    "layers.0.1.4": "feed_forward.4",
}
_NETWORK = {
    "init_conv.convs": "stem",
    "to_time_hiddens.0.weights": "noise.frequencies",
    "to_time_hiddens.1": "noise.hidden",
    "to_time_cond.0": "noise.vector",
    "to_time_tokens.0": "noise.tokens",
    "norm_cond": "noise.norm",
    "final_conv": "head",
}


def read_sparsefusion(path: str | Path) -> SparseFusion:
    """The method with the weights of the authors' files, in evaluation mode.

    Args:
        path: The diffusion model's file; the others are beside it, as `*eft*` and
            `*vae*` (or `sd-v1*`, the whole of Stable Diffusion).

    Raises:
        UserError: a file is missing, damaged or another system's; or a tensor is
            missing, unknown, misshapen or not finite.
    """
    content = read_checkpoint(path, OWNER, mmap=True)
    official = tensors_of(content, "model_state_dict", path, OWNER)
    epipolar, autoencoder = find_files(path)
    config = SparseFusionConfig()
    tensors = {
        f"network.{name}": value
        for name, value in rename_network(official, len(config.network.widths)).items()
    }
    content = read_checkpoint(epipolar, OWNER, mmap=True)
    official = tensors_of(content, "model_state_dict", epipolar, OWNER)
    tensors |= {f"epipolar.{k}": v for k, v in rename_epipolar(official).items()}
    content = read_checkpoint(autoencoder, "Stable Diffusion", mmap=True)
    entry = "state_dict" if "state_dict" in content else None
    official = tensors_of(content, entry, autoencoder, "Stable Diffusion")
    converted = ldm_autoencoder(select(official, AUTOENCODER))
    tensors |= {f"latents.autoencoder.model.{k}": v for k, v in converted.items()}
    return filled(config, tensors, path)


def find_files(path: str | Path) -> tuple[Path, Path]:
    """The epipolar transformer's and the autoencoder's file beside `path`.

    Raises:
        UserError: one of them is not there, or there are several.
    """
    folder = Path(path).parent
    files = [f for f in folder.glob("*") if f.suffix in (".pt", ".pth", ".ckpt")]
    files = sorted(f for f in files if f != Path(path))
    wanted = {
        "the epipolar transformer (*eft*.pt)": [f for f in files if "eft" in f.stem],
        "Stable Diffusion's autoencoder (*vae*.ckpt or sd-v1*.ckpt)": [
            f for f in files if "vae" in f.stem or f.stem.startswith("sd-v1")
        ],
    }
    for what, found in wanted.items():
        if len(found) != 1:
            raise UserError(
                f"there are {len(found)} files of {what} beside {path}: put exactly "
                "one there."
            )
    epipolar, autoencoder = (found[0] for found in wanted.values())
    return epipolar, autoencoder


def rename_epipolar(official: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our names of the epipolar transformer's tensors."""
    tensors = {}
    for key, value in official.items():
        if _UNUSED_EPIPOLAR.fullmatch(key):
            continue
        name = _replaced(key, _EPIPOLAR)
        if name is not None:
            name = name.replace(".pre.0.", ".enter.0.")
            name = name.replace(".encoder.layers.", ".layers.layers.")
        # Unknown names stay as they are, to be refused by them.
        tensors[name or key] = value
    for name in [n for n in tensors if n.endswith("running_mean")]:
        # A count of batches, which evaluation does not read.
        counter = name.replace("running_mean", "num_batches_tracked")
        tensors[counter] = torch.zeros((), dtype=torch.long)
    return tensors


def rename_network(official: Mapping[str, Tensor], levels: int) -> dict[str, Tensor]:
    """Our names of the diffusion model's tensors; it has so many resolutions."""
    tensors = {}
    for key, value in official.items():
        short = key.removeprefix(_PREFIX)
        if not _UNUSED.fullmatch(short):
            tensors[_rename(short, levels) or key] = value
    return tensors


def _rename(key: str, levels: int) -> str | None:
    if match := re.fullmatch(r"(downs|ups)\.(\d+)\.(\d+)\.(.+)", key):
        down, level, part = match[1] == "downs", int(match[2]), int(match[3])
        return _rename_level(down, level, part - down, match[4], levels)
    for official, ours in (
        ("mid_block1", "middle_1"),
        ("mid_block2", "middle_2"),
        ("final_res_block", "last"),
    ):
        if key.startswith(f"{official}."):
            return _inside(ours, key.removeprefix(f"{official}."), _BLOCK)
    if key.startswith("mid_attn.fn.fn."):
        rest = key.removeprefix("mid_attn.fn.fn.")
        return _inside("middle_attention", rest, _ATTENTION)
    return _replaced(key, _NETWORK)


def _rename_level(
    down: bool, level: int, part: int, rest: str, levels: int
) -> str | None:
    """Parts of a level: first block (0), blocks (1), attention (2), resampling (3)."""
    place = f"{'down' if down else 'up'}.{level}"
    if part == 0:
        return _inside(f"{place}.0", rest, _BLOCK)
    if part == 1 and (match := re.fullmatch(r"(\d+)\.(.+)", rest)):
        return _inside(f"{place}.{int(match[1]) + 1}", match[2], _BLOCK)
    if part == 2:
        # It follows the blocks, of which the authors have two besides the first.
        return _inside(f"{place}.3", rest, _TRANSFORMER)
    if part == 3 and not down:
        return _inside(f"upsample.{level}", rest, {"net.0": "conv"})
    if part == 3 and level == levels - 1:
        return _inside("widen", rest, {"fns.0": "0", "fns.1": "1"})
    return f"downsample.{level}.{rest}" if part == 3 else None


def _inside(place: str, rest: str, names: Mapping[str, str]) -> str | None:
    name = _replaced(rest, names)
    return None if name is None else f"{place}.{name}"


def _replaced(key: str, names: Mapping[str, str]) -> str | None:
    """`key` with the one of `names` that it starts with replaced; None without one."""
    for official, ours in names.items():
        if key == official or key.startswith(f"{official}."):
            return ours + key.removeprefix(official)
    return None
