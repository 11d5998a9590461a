"""Weights of the public implementation of RenderDiffusion, to ours.

Source: https://github.com/szymanowiczs/viewset-diffusion (no licence; nothing of it is
contained here), trained with `+arch=triplane` and one of its baselines
`renderdiffusion` and `renderdiffusion_pp`. A file holds {'diffuser', 'optimizer', ...};
under 'diffuser' are the averaged weights with the prefix of the diffusion wrapper, and
the wrapper's schedule. What is not in the file, `read_renderdiffusion` is told.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from unseen.checkpoints.released_files import (
    count_blocks,
    filled,
    read_checkpoint,
    tensors_of,
)
from unseen.diffusion.schedules import CosineSchedule
from unseen.errors import UserError
from unseen.methods.renderdiffusion import RenderDiffusion, RenderDiffusionConfig
from unseen.networks.triplane_decoder import TriplaneDecoderConfig
from unseen.networks.triplane_unet import TriplaneUNetConfig
from unseen.scenes.triplane_sampling import TriplaneSampling

OWNER = "the public implementation of RenderDiffusion"
PREFIX = "model."


@dataclasses.dataclass(frozen=True)
class Rendering:
    """What a release's configuration says of rendering: the size of its box, depths
    between which rays are sampled, samples, and the background's grey."""

    box: tuple[float, float, float]
    depths: tuple[float, float]
    samples: tuple[int, int]
    background: float


RENDERINGS: Mapping[str, Rendering] = {
    "cars": Rendering((0.7, 1.0, 0.6), (0.8, 1.8), (64, 64), 1.0),
    "co3d": Rendering((1.2, 1.2, 1.2), (1e-4, 7.5), (96, 32), 0.0),
}
"""Of ShapeNet-SRN cars, with cameras at the distance 1.3, and of CO3D's categories."""

# The schedule of the wrapper: it follows from its settings, which are ours.
_SCHEDULE = re.compile(
    r"betas|alphas_cumprod|alphas_cumprod_prev|sqrt_\w+|log_one_minus_alphas_cumprod"
    r"|posterior_\w+|loss_weight|p2_loss_weight"
)
_NAMES = {
    "reconstructor.init_conv": "network.stem",
    "reconstructor.time_mlp.1": "network.time.0",
    "reconstructor.time_mlp.3": "network.time.2",
    "renderer.renderer_3d.0": "decoder.hidden",
    "renderer.renderer_3d.2": "decoder.out",
}
_PLACES = {
    "mid_block1": "middle.0",
    "mid_block2": "middle.1",
    "mid_attn": "middle_attention",
    "final_res_block": "head",
}
_INNER = {
    "mlp.1": "film",
    "block1.proj": "block_1.conv",
    "block1.norm": "block_1.norm",
    "block2.proj": "block_2.conv",
    "block2.norm": "block_2.norm",
    "res_conv": "skip",
    "fn.fn.to_qkv": "qkv",
    "fn.fn.to_out.0": "out",
    "fn.fn.to_out.1": "out_norm",
    "fn.norm": "norm",
}


def read_renderdiffusion(
    path: str | Path, release: str = "cars", image_size: int = 128
) -> RenderDiffusion:
    """The method with the weights of a file, in evaluation mode.

    Raises:
        UserError: the file is missing, damaged or another system's; a tensor is
            missing, unknown, misshapen or not finite; it was trained with another noise
            schedule; or there is no such release.
    """
    if release not in RENDERINGS:
        raise UserError(
            f"there is no release '{release}' of {OWNER}: choose one of "
            f"{', '.join(RENDERINGS)}."
        )
    content = read_checkpoint(path, OWNER, mmap=True)
    wrapped = tensors_of(content, "diffuser", path, OWNER)
    _check_schedule(wrapped.get("alphas_cumprod"), path)
    official = {
        key.removeprefix(PREFIX): value
        for key, value in wrapped.items()
        if not _SCHEDULE.fullmatch(key)
    }
    config = _settings(official, RENDERINGS[release], image_size, path)
    blocks = config.network.num_blocks
    tensors = {}
    for key, value in official.items():
        # Unknown names stay as they are, to be refused by them.
        name = rename(key, blocks) or key
        tensors[name] = value.flatten() if name.endswith(".gain") else value
    return filled(config, tensors, path)


def rename(key: str, num_blocks: int) -> str | None:
    """Our name of an official tensor without its prefix; None for an unknown one."""
    stem, _, kind = key.rpartition(".")
    kind = "gain" if kind == "g" else kind
    if stem in _NAMES:
        return f"{_NAMES[stem]}.{kind}"
    match = re.fullmatch(r"reconstructor\.(downs|ups)\.(\d+)\.(\d+)(?:\.(.+))?", stem)
    if match is None:
        place, _, inner = stem.removeprefix("reconstructor.").partition(".")
        known = place in _PLACES and inner in _INNER
        return f"network.{_PLACES[place]}.{_INNER[inner]}.{kind}" if known else None
    side = "down" if match[1] == "downs" else "up"
    level, number, inner = match[2], int(match[3]), match[4]
    if inner in (None, "1"):
        # The convolution that changes the resolution, or the last one, which does not.
        resize = "shrink" if side == "down" else "grow"
        return f"network.{resize}.{level}.{kind}"
    if inner not in _INNER:
        return None
    place = f"{side}.{level}.{number}" if number < num_blocks else f"{side}_attention"
    place = place if number < num_blocks else f"{place}.{level}"
    return f"network.{place}.{_INNER[inner]}.{kind}"


def _settings(
    official: Mapping[str, Tensor],
    rendering: Rendering,
    image_size: int,
    path: str | Path,
) -> RenderDiffusionConfig:
    """Our settings: sizes by the tensors, the rest as we are told."""
    try:
        channels, inputs = official["reconstructor.init_conv.weight"].shape[:2]
        levels = count_blocks(official, r"reconstructor\.downs\.(\d+)\.")
        num_blocks = count_blocks(official, r"reconstructor\.downs\.0\.(\d+)\.block1\.")
        ups = [official[f"reconstructor.ups.{i}.0.mlp.1.bias"] for i in range(levels)]
        width, features = official["renderer.renderer_3d.0.weight"].shape
        network = TriplaneUNetConfig(
            channels=channels,
            multipliers=tuple(len(up) // 2 // channels for up in reversed(ups)),
            num_blocks=num_blocks,
            attention=tuple(
                f"reconstructor.downs.{i}.{num_blocks}.fn.norm.g" in official
                for i in range(levels)
            ),
            plane_channels=features,
        )
        if not levels or not all(network.multipliers) or inputs not in (3, 6):
            raise ValueError("its layers make no network")
        # Trilinear sampling there spans the centres of the outermost cells.
        inner = (image_size - 1) / image_size
        near, far = rendering.depths
        x, y, z = (0.5 * side * inner for side in rendering.box)
        shade = rendering.background
        return RenderDiffusionConfig(
            network=network,
            decoder=TriplaneDecoderConfig(
                features, width, gain=rendering.samples[0] / (far - near)
            ),
            rays=TriplaneSampling(*rendering.samples, quadrature="endpoint"),
            extent=(x, y, z),
            background=(shade, shade, shade),
            image_size=image_size,
            self_condition=inputs == 6,
            pixels=image_size**2,
        )
    except (KeyError, ValueError, IndexError, TypeError) as error:
        raise UserError(
            f"{path} does not hold the weights of {OWNER} ({type(error).__name__}: "
            f"{error}): give its file."
        ) from error


def _check_schedule(alphas_cumprod: Tensor | None, path: str | Path) -> None:
    """Refuse weights that were trained with other noise than the cosine schedule's."""
    if alphas_cumprod is None:
        return
    expected = CosineSchedule().discrete_alphas_cumprod()
    if alphas_cumprod.shape != expected.shape or not torch.allclose(
        alphas_cumprod.double(), expected, atol=1e-5
    ):
        raise UserError(
            f"{path} was trained with another noise schedule than the cosine one of "
            f"{len(expected)} steps: train it again with that."
        )
