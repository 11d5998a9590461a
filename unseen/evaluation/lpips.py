"""LPIPS: a learned perceptual distance between images (Zhang et al., CVPR 2018).

Version 0.1 of the authors' release: features of five layers of VGG-16 or AlexNet, of
unit length at every pixel; squared differences, weighed per channel by learned heads,
averaged over pixels and added over layers. Lower is more alike.

Nothing is shipped. The backbone is torchvision's, trained on ImageNet
(`vgg16-397923af.pth`, `alexnet-owt-7be5be79.pth`), the heads are the authors'
(`lpips/weights/v0.1/vgg.pth`, `alex.pth`). Tables of novel view synthesis mostly show
VGG, tables of image quality AlexNet; the two must not be compared.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unseen.checkpoints.weight_files import find_weights, read_weights  # arrow: shared
from unseen.errors import UserError
from unseen.files import check_tensors

Network = Literal["vgg", "alex"]

_MEAN = (-0.030, -0.088, -0.188)
_DEVIATION = (0.458, 0.448, 0.450)
"""Of ImageNet, for colours in [-1, 1]."""

_NAMES = {"vgg": "VGG-16", "alex": "AlexNet"}
_LAYERS = {"vgg": (3, 8, 15, 22, 29), "alex": (1, 4, 7, 9, 11)}
"""The rectifiers whose outputs count: relu1_2 to relu5_3, and relu1 to relu5."""

_SMALLEST = {"vgg": 16, "alex": 31}
"""Side of the smallest image of which all layers see something, in pixels."""

_UNUSED = re.compile(r"classifier\..*")


class Lpips(nn.Module):
    """The distance as a module; `load_lpips` fills it with weights.

    `features` has torchvision's tensor names (features.0.weight ...), `lin0` to `lin4`
    the authors' (lin0.model.1.weight ...). Without heads all channels weigh 1, which
    is the uncalibrated baseline of the paper and not LPIPS.
    """

    def __init__(self, network: Network, with_heads: bool = True) -> None:
        super().__init__()
        self.network: Network = network
        self.with_heads = with_heads
        self.features = _vgg16() if network == "vgg" else _alexnet()
        if with_heads:
            for index, layer in enumerate(_LAYERS[network]):
                convolution = self.features[layer - 1]
                assert isinstance(convolution, nn.Conv2d)
                self.add_module(f"lin{index}", _Head(convolution.out_channels))

    def forward(
        self,
        images: Float[Tensor, "batch 3 height width"],
        truth: Float[Tensor, "batch 3 height width"],
    ) -> Float[Tensor, " batch"]:
        """Distances of images in [0, 1], of one size.

        Raises:
            UserError: images that the network is too deep for.
        """
        smallest = _SMALLEST[self.network]
        if min(images.shape[-2:]) < smallest:
            raise UserError(
                f"LPIPS with {_NAMES[self.network]} takes images of at least "
                f"{smallest}x{smallest} pixels, not {images.shape[-2]}x"
                f"{images.shape[-1]}: give larger ones."
            )
        distance = images.new_zeros(len(images))
        both = zip(self._describe(images), self._describe(truth), strict=True)
        for index, (x, y) in enumerate(both):
            difference = (x - y).square()
            if self.with_heads:
                difference = self.get_submodule(f"lin{index}")(difference)
            distance = distance + difference.sum(dim=1).mean(dim=(-1, -2))
        return distance

    def _describe(
        self, images: Float[Tensor, "batch 3 height width"]
    ) -> list[Float[Tensor, "batch channel row column"]]:
        """Features of unit length at every pixel, layer by layer."""
        shift, scale = (
            images.new_tensor(v).reshape(3, 1, 1) for v in (_MEAN, _DEVIATION)
        )
        x, found = (2 * images - 1 - shift) / scale, []
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in _LAYERS[self.network]:
                length = x.square().sum(dim=1, keepdim=True).sqrt()
                found.append(x / (length + 1e-10))
            if index == _LAYERS[self.network][-1]:
                break
        return found


class _Head(nn.Module):
    """A weight per channel, where the authors keep it: behind a dropout."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.model = nn.Sequential(nn.Identity(), nn.Conv2d(width, 1, 1, bias=False))

    def forward(
        self, difference: Float[Tensor, "batch channel height width"]
    ) -> Float[Tensor, "batch 1 height width"]:
        return self.model(difference)


def load_lpips(
    network: Network, backbone: str | Path, heads: str | Path | None
) -> Lpips:
    """LPIPS with weights, in evaluation mode and without gradients of its own.

    Args:
        network: "vgg" or "alex".
        backbone: A file with torchvision's weights of it, or the 'organisation/name'
            of a model on the Hugging Face hub that has them. The classifier's layers
            may be there and are not used.
        heads: A file with the authors' heads, or a model on the hub. None weighs all
            channels alike: the paper's baseline without calibration.

    Raises:
        UserError: a file is missing or is not what it should be.
    """
    # All weights are about to be replaced: the caller's generator stays untouched.
    with torch.random.fork_rng(devices=[]):
        model = Lpips(network, with_heads=heads is not None)
    _fill(model, r"features\..*", backbone, f"torchvision's {_NAMES[network]}")
    if heads is not None:
        _fill(model, r"lin\d\..*", heads, f"the LPIPS heads of {_NAMES[network]}")
    return model.requires_grad_(False).eval()


def _fill(model: Lpips, pattern: str, source: str | Path, what: str) -> None:
    """Give the tensors whose names match `pattern` the values of a file."""
    path = find_weights(source, what)
    found: Mapping[str, Tensor] = {
        name: tensor
        for name, tensor in read_weights(path, what).items()
        if not _UNUSED.fullmatch(name)
    }
    expected = {k: v for k, v in model.state_dict().items() if re.fullmatch(pattern, k)}
    check_tensors(expected, found, path)
    model.load_state_dict({k: v.float() for k, v in found.items()}, strict=False)


def _vgg16() -> nn.Sequential:
    layers: list[nn.Module] = []
    inputs = 3
    for width, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(count):
            layers += [nn.Conv2d(inputs, width, 3, padding=1), nn.ReLU()]
            inputs = width
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers)


def _alexnet() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 64, 11, stride=4, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, stride=2),
        nn.Conv2d(64, 192, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, stride=2),
        nn.Conv2d(192, 384, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(256, 256, 3, padding=1),
        nn.ReLU(),
    )
