"""Image encoders that were trained on ImageNet, as a start for training.

ResNet-34 with torchvision's tensor names (timm has the same) for pixelNeRF, ViT-B/16
with timm's for VisionNeRF. The authors of both start from such weights; we ship none.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from unseen.checkpoints.released_files import read_checkpoint, tensors_of
from unseen.errors import UserError
from unseen.files import check_tensors, read_tensors
from unseen.methods.method import Method
from unseen.methods.pixelnerf import PixelNeRF
from unseen.methods.visionnerf import VisionNeRF
from unseen.networks.vision_transformer import VisionTransformer, resize_positions

HUB_FILES = ("model.safetensors", "pytorch_model.bin")
"""Names under which models on the hub keep their weights, best first."""

# What such weights hold besides the layers that are used here.
_UNUSED = re.compile(r"(layer4|fc|norm|fc_norm|head|head_dist)\..*")


def start_encoder(method: Method, source: str | None) -> str | None:
    """Fill a method's image encoder from `source`; says in one line what it did.

    Args:
        method: A PixelNeRF or VisionNeRF with an encoder of the full size.
        source: A .pth, .pt, .bin or .safetensors file, or the 'organisation/name' of a
            model on the Hugging Face hub (which is in its cache, or is fetched). None
            leaves the encoder as it is.

    Returns:
        None for a method without such an encoder, if none was asked for.

    Raises:
        UserError: there are no such weights, they do not fit, or the method has no
            encoder that they could fit.
    """
    encoder: nn.Module
    if isinstance(method, PixelNeRF):
        encoder, what = method.encoder, "ResNet-34"
    elif isinstance(method, VisionNeRF):
        encoder, what = method.encoder.transformer, "ViT-B/16"
    elif source is None:
        return None
    else:
        raise UserError(
            f"{type(method).__name__} has no image encoder that weights of ImageNet "
            "fit: leave out --encoder."
        )
    if source is None:
        return (
            "The image encoder starts from scratch (--encoder FILE starts it from a "
            f"{what} that was trained on ImageNet)."
        )
    path = _find(source)
    found = {k: v for k, v in _read(path).items() if not _UNUSED.fullmatch(k)}
    expected = encoder.state_dict()
    for name, tensor in expected.items():
        # Old files do not count batches, and nobody uses the count.
        if name.endswith("num_batches_tracked"):
            found.setdefault(name, tensor)
    positions = found.get("pos_embed")
    if isinstance(encoder, VisionTransformer) and positions is not None:
        side = encoder.config.image_size // encoder.config.patch
        if positions.ndim == 3:
            found["pos_embed"] = resize_positions(positions.float(), (side, side))
    check_tensors(expected, found, path)
    encoder.load_state_dict(found)
    return f"The image encoder starts from {path.name}."


def _find(source: str) -> Path:
    path = Path(source)
    if path.is_file():
        return path
    parts = source.split("/")
    if len(parts) != 2 or not all(parts) or source.startswith((".", "~")):
        raise UserError(
            f"there is no file {source}: give one of encoder weights, or the "
            "'organisation/name' of a model on the Hugging Face hub."
        )
    if importlib.util.find_spec("huggingface_hub") is None:
        raise UserError(
            f"'{source}' is no file here, and the hub needs huggingface_hub: run `pip "
            "install huggingface_hub`, or give a file."
        )
    from huggingface_hub import hf_hub_download

    reason = ""
    for name in HUB_FILES:
        try:
            return Path(hf_hub_download(source, name))
        # Whatever goes wrong (no such model, no such file, no network) is one answer.
        except Exception as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    raise UserError(
        f"'{source}' is no file here, and its weights are neither in the hub's cache "
        f"nor can they be fetched ({reason}): give a file."
    )


def _read(path: Path) -> dict[str, Tensor]:
    """The tensors of a file, without what they may be wrapped in."""
    if path.suffix == ".safetensors":
        return read_tensors(path)[0]
    content: Any = read_checkpoint(path, "an image encoder")
    for name in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(name), Mapping):
            content = content[name]
    return tensors_of(content, None, path, "an image encoder")
