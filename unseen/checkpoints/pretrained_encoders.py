"""Image encoders that were trained on ImageNet, as a start for training.

ResNet-34 with torchvision's tensor names (timm has the same) for pixelNeRF and
HoloDiffusion, ViT-B/16 with timm's for VisionNeRF. The authors of all three start from
such weights; we ship none.
"""

from __future__ import annotations

import re

from torch import nn

from unseen.checkpoints.weight_files import find_weights, read_weights
from unseen.errors import UserError
from unseen.files import check_tensors
from unseen.methods.holodiffusion import HoloDiffusion
from unseen.methods.method import Method
from unseen.methods.pixelnerf import PixelNeRF
from unseen.methods.visionnerf import VisionNeRF
from unseen.networks.vision_transformer import VisionTransformer, resize_positions

# What such weights hold besides the layers that are used here.
_UNUSED = re.compile(r"(layer4|fc|norm|fc_norm|head|head_dist)\..*")


def start_encoder(method: Method, source: str | None) -> str | None:
    """Fill a method's image encoder from `source`; says in one line what it did.

    Args:
        method: A PixelNeRF, HoloDiffusion or VisionNeRF with an encoder of the full
            size.
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
    elif isinstance(method, HoloDiffusion):
        encoder, what = method.encoder.trunk, "ResNet-34"
    elif isinstance(method, VisionNeRF):
        encoder, what = method.encoder.transformer, "ViT-B/16"
    elif source is None:
        return None
    else:
        raise UserError(
            f"{method.title} has no image encoder that weights of ImageNet "
            "fit: leave out --encoder."
        )
    if source is None:
        return (
            "The image encoder starts from scratch (--encoder FILE starts it from a "
            f"{what} that was trained on ImageNet)."
        )
    path = find_weights(source, "encoder weights")
    tensors = read_weights(path, "an image encoder")
    expected = encoder.state_dict()
    found = {
        k: v for k, v in tensors.items() if k in expected or not _UNUSED.fullmatch(k)
    }
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
