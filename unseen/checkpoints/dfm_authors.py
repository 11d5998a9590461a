"""The weights that the authors of DFM released (RealEstate10k and CO3D), to ours.

Source: https://github.com/ayushtewari/DFM (no licence is stated: the weights belong to
their authors). A released file holds the trainer's state; the moving average in it is
what the authors sample with. Nothing in the file is executed when it is read.
"""

from __future__ import annotations

import dataclasses
import math
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unseen.checkpoints.released_files import read_checkpoint
from unseen.encoders.pixel_aligned import PixelAlignedConfig, PixelAlignedSceneModel
from unseen.errors import UserError
from unseen.methods.dfm import DFM
from unseen.methods.registry import PRESETS
from unseen.networks.dit import DiTConfig, DiTEncoderConfig
from unseen.networks.resnet_fc import ResnetFCConfig
from unseen.scenes.ray_sampling import RaySampling

# The conventions of the authors' code, which their weights need.
AUTHORS_SAMPLING = RaySampling(
    num_uniform=64,
    num_importance=64,
    pixel_grid="corners",
    measure="distance",
    quadrature="endpoint",
    proposal_loss=False,
)
NEAR_FAR = {"re10k": (0.7, 10.0), "co3d": (1.0, 40.0)}
"""Distances between which the authors sample rays at inference."""

_BLOCK = {
    "attn.qkv": "attention.qkv",
    "attn.proj": "attention.out",
    "mlp.fc1": "mlp.0",
    "mlp.fc2": "mlp.2",
    "adaLN_modulation.1": "modulation.linear",
}
_ENCODER = {
    "x_embedder.proj": "dit.embed",
    "t_embedder.mlp.0": "time.0",
    "t_embedder.mlp.2": "time.2",
    "conv1": "clean_stem",
    "general_conv1": "noisy_stem",
    "cnn_skip": "skip",
    "cnn_refine": "refine",
    "final_layer.linear": "dit.out",
    "final_layer.adaLN_modulation.1": "dit.modulation.linear",
    "pose_mlp.0": "pose.0",
    "pose_mlp.2": "pose.2",
    "fuse_mlp.0": "fuse.0",
    "fuse_mlp.2": "fuse.2",
}
_FIELDS = {
    "pixelNeRF_joint.mlp": "proposal",
    "pixelNeRF_joint.mlp_fine": "field",
    "pixelNeRF_joint_coarse.mlp": "deterministic_field",
}
_FIELD = {
    "lin_in": "point_in",
    "lin_out_feats": "out",
    "time_mlp.1": "time.0",
    "time_mlp.3": "time.2",
}
_FIELD_BLOCK = {"fc_0": "blocks.{}.fc_0", "fc_1": "blocks.{}.fc_1", "mlp.1": "films.{}"}

DEAD_KEYS = re.compile(
    # The conditioning render has no fine samples, so its fine MLP never runs.
    r"model\.pixelNeRF_joint_coarse\.mlp_fine\..*"
    # Fields with feature output use `lin_out_feats` instead.
    r"|model\.pixelNeRF_joint(_coarse)?\.(mlp|mlp_fine)\.lin_out\.(weight|bias)"
)
"""Learnable tensors of a released file that do not influence any output."""

COMPUTED_KEYS = re.compile(
    r"betas|p2_loss_weight|(sqrt_|log_)?(one_minus_|recip_|recipm1_)?alphas_cumprod"
    r"(_prev)?|posterior_(variance|log_variance_clipped|mean_coef[12])"
    r"|model\.enc\.pos_embed|model\.renderer(_coarse)?\.backgrd_color"
    r"|model\.pixelNeRF_joint(_coarse)?\.pos_enc\.(_freqs|_phases)"
    # The LPIPS network of the training loss.
    r"|perceptual_loss\..*"
)
"""Tensors of a released file that follow from its settings, or serve its training."""

_LABELS = "model.enc.y_embedder.embedding_table.weight"
_POSITIONS = "model.enc.pos_embed"


def rename(key: str) -> str | None:
    """Our name of an official tensor, None for one that is not a plain copy.

    Those are the dead and computed ones, the class embedding, which is folded into a
    bias, and `lin_in.weight`, whose columns are split over two of our tensors.
    """
    stem, _, kind = key.rpartition(".")
    block = re.fullmatch(r"model\.enc\.blocks\.(\d+)\.(.+)", stem)
    if block and block[2] in _BLOCK:
        return f"encoder.dit.blocks.{block[1]}.{_BLOCK[block[2]]}.{kind}"
    if stem.startswith("model.enc."):
        name = _ENCODER.get(stem.removeprefix("model.enc."))
        return None if name is None else f"encoder.{name}.{kind}"
    part = re.fullmatch(r"model\.(pixelNeRF_\w+\.mlp(?:_fine)?)\.(.+)", stem)
    if part is None or part[1] not in _FIELDS or part[2] == "lin_out":
        return None
    field = _FIELDS[part[1]]
    block = re.fullmatch(r"blocks\.(\d+)\.(.+)", part[2])
    if block and block[2] in _FIELD_BLOCK:
        return f"{field}.{_FIELD_BLOCK[block[2]].format(block[1])}.{kind}"
    if key.endswith("lin_in.weight") or part[2] not in _FIELD:
        return None
    return f"{field}.{_FIELD[part[2]]}.{kind}"


def infer_config(official: dict[str, Tensor]) -> PixelAlignedConfig:
    """The sizes and conventions that official tensors were trained with.

    Of the two releases, CO3D's encoder sees absolute poses and its conditioning
    render takes 64 samples, RE10k's has no poses and takes 32.

    Raises:
        UserError: a tensor that tells a size is missing.
    """
    enc, field = "model.enc.", "model.pixelNeRF_joint.mlp."
    try:
        width, stem, patch, _ = official[f"{enc}x_embedder.proj.weight"].shape
        features, joined = official[f"{enc}cnn_refine.weight"].shape[:2]
        hidden = official[f"{enc}blocks.0.mlp.fc1.weight"].shape[0]
        noisy = official[f"{enc}general_conv1.weight"].shape[1]
        time = official[f"{enc}t_embedder.mlp.0.weight"].shape[1]
        outputs, field_width = official[f"{field}lin_out_feats.weight"].shape
        points = official[f"{field}lin_in.weight"].shape[1] - features
        field_time = official[f"{field}time_mlp.1.weight"].shape[1]
    except KeyError as error:
        raise UserError(
            f"The checkpoint lacks {error}: give the authors' re10k or co3d file."
        ) from error
    absolute = f"{enc}pose_mlp.0.weight" in official
    encoder = DiTEncoderConfig(
        dit=DiTConfig(
            depth=_count(official, r"model\.enc\.blocks\.(\d+)\."),
            width=width,
            heads=max(1, width // 72),
            mlp_ratio=hidden / width,
            patch=patch,
            in_channels=stem,
            out_channels=features,
        ),
        noisy_channels=noisy,
        skip_channels=joined - features,
        time_width=time,
        absolute_pose=absolute,
    )
    blocks = _count(official, re.escape(field) + r"blocks\.(\d+)\.")
    return PixelAlignedConfig(
        encoder=encoder,
        field=ResnetFCConfig(
            width=field_width,
            features=features,
            out_features=outputs - 4,
            joint_blocks=blocks - 3,
            time_width=field_time,
            octaves=(points // 3 - 1) // 2,
        ),
        sampling=AUTHORS_SAMPLING,
        num_condition_samples=64 if absolute else 32,
        condition_position="raw",
    )


def _count(official: dict[str, Tensor], pattern: str) -> int:
    found = (re.match(pattern, key) for key in official)
    return 1 + max((int(match[1]) for match in found if match), default=-1)


def convert(official: dict[str, Tensor]) -> dict[str, Tensor]:
    """Official state dict to that of a `PixelAlignedSceneModel`.

    The published class embedding is only ever asked for class 0, which makes it a
    constant that is added to the embedded time: it is folded into that bias.

    Raises:
        UserError: a tensor is unknown, or one that is not merely renamed is missing.
    """
    features = infer_config(official).field.features
    result, unknown = {}, []
    for key, value in official.items():
        name, part = rename(key), key.removesuffix(".lin_in.weight")
        if name is not None:
            result[name] = value
        elif part.removeprefix("model.") in _FIELDS:
            field, points = _FIELDS[part.removeprefix("model.")], -features
            result[f"{field}.point_in.weight"] = value[:, :points].contiguous()
            result[f"{field}.feature_in.weight"] = value[:, points:].contiguous()
        elif key != _LABELS and not is_unused(key):
            unknown.append(key)
    if unknown:
        raise UserError(
            f"The checkpoint holds {len(unknown)} tensors that DFM does not have, such "
            f"as '{unknown[0]}': give the authors' re10k or co3d file."
        )
    time = "model.enc.t_embedder.mlp.2.bias"
    for key in (_LABELS, time):
        if key not in official:
            raise UserError(f"The checkpoint lacks '{key}': give a complete file.")
    result[f"encoder.{_ENCODER['t_embedder.mlp.2']}.bias"] = (
        official[time] + official[_LABELS][0]
    )
    return result


def is_unused(key: str) -> bool:
    """Whether an official tensor has no influence, or follows from the settings."""
    return bool(DEAD_KEYS.fullmatch(key) or COMPUTED_KEYS.fullmatch(key))


def read_official(path: Path) -> dict[str, Tensor]:
    """The moving average of a released file (or its plain weights, without one).

    Raises:
        UserError: the file is missing, not a checkpoint, or not one of DFM.
    """
    content: Any = read_checkpoint(path, "DFM", mmap=True)
    if isinstance(content.get("ema"), dict):
        prefix = "ema_model."
        content = {
            key.removeprefix(prefix): value
            for key, value in content["ema"].items()
            if key.startswith(prefix)
        }
    elif isinstance(content.get("model"), dict):
        content = content["model"]
    if _LABELS not in content:
        raise UserError(f"{path} does not hold the weights of DFM: give its file.")
    return content


def load_official(official: dict[str, Tensor]) -> PixelAlignedSceneModel:
    """The scene model of official tensors, in evaluation mode.

    Raises:
        UserError: a tensor is missing, unknown, of the wrong shape, or not finite.
    """
    with torch.device("meta"):
        model = PixelAlignedSceneModel(infer_config(official))
    expected, found = model.state_dict(), convert(official)
    for name in expected.keys() ^ found.keys():
        problem = "lacks" if name in expected else "does not belong with"
        raise UserError(
            f"The checkpoint {problem} the tensor '{name}': give a complete file."
        )
    for name, value in found.items():
        if value.shape != expected[name].shape:
            raise UserError(
                f"The tensor '{name}' has shape {tuple(value.shape)}, it should be "
                f"{tuple(expected[name].shape)}: give the authors' file."
            )
        if not value.isfinite().all():
            raise UserError(f"The tensor '{name}' is not finite: download it again.")
    model.load_state_dict(found, assign=True)
    model.background = torch.tensor(model.config.background)
    return model.eval()


def read_dfm(path: str | Path) -> DFM:
    """DFM with the weights of a released file, in evaluation mode.

    The image size is that of the transformer's table of positions; sampling is set as
    in the authors' code.

    Raises:
        UserError: the file is missing, not a checkpoint, or not one of DFM.
    """
    official = read_official(Path(path))
    if _POSITIONS not in official:
        raise UserError(f"{path} lacks '{_POSITIONS}': give a complete file.")
    scene = infer_config(official)
    # The encoder's stem halves the image before it is cut into patches.
    tokens = official[_POSITIONS].shape[1]
    side = 2 * scene.encoder.dit.patch * math.isqrt(tokens)
    paper: Any = PRESETS["dfm-re10k-64"].method
    config = dataclasses.replace(paper, scene=scene, image_size=side)
    with torch.device("meta"):
        method = DFM(config)
    method.model = load_official(official)
    return method.eval()
