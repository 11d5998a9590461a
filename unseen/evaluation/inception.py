"""The Inception-v3 of FID and KID, which takes weights and has none.

FID (Heusel et al., NeurIPS 2017) is defined by one network, TensorFlow's
`inception-2015-12-05`. The file that everyone uses is its port to PyTorch,
`pt_inception-2015-12-05-6726825d.pth`, whose tensors have torchvision's names. The
network is that of Szegedy et al. (CVPR 2016) but for its pooling: averages at the
border leave out the padding, and the last block takes a maximum where the others take
an average.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from unseen.checkpoints.weight_files import find_weights, read_weights  # arrow: shared
from unseen.files import check_tensors

SIDE = 299
WIDTH = 2048
CLASSES = 1008

Preprocessing = Literal["tensorflow", "pytorch-fid"]
"""How images come to 299 x 299 pixels and to [-1, 1]: as TensorFlow 1 did, whose
interpolation has pixel i at i (torch-fidelity does so too); or as pytorch-fid does,
with pixel centres at i + 0.5. Neither blurs before it shrinks. Features, and FIDs,
differ between the two."""

_Side = int | tuple[int, int]
_ROW_3, _COLUMN_3, _ROW_7, _COLUMN_7 = (1, 3), (3, 1), (1, 7), (7, 1)


class _Convolution(nn.Module):
    """Convolution, normalisation, rectifier; with stride 1 it keeps the size."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        side: _Side,
        stride: int = 1,
        padded: bool = True,
    ) -> None:
        super().__init__()
        height, width = (side, side) if isinstance(side, int) else side
        keep = padded and stride == 1
        padding = (height // 2, width // 2) if keep else (0, 0)
        self.conv = nn.Conv2d(
            inputs, outputs, (height, width), stride, padding, bias=False
        )
        self.bn = nn.BatchNorm2d(outputs, eps=0.001)

    def forward(
        self, x: Float[Tensor, "batch channel height width"]
    ) -> Float[Tensor, "batch outputs row column"]:
        return functional.relu(self.bn(self.conv(x)))


class _Layer(NamedTuple):
    """A convolution of a block: its name, width, filters' side and stride."""

    name: str
    outputs: int
    side: _Side
    stride: int = 1


_Step = _Layer | tuple[_Layer, _Layer] | Literal["pool"]
"""Of a branch: a layer, two layers beside each other, or the block's pooling."""


class _Block(nn.Module):
    """Branches side by side, joined in the order in which they are given."""

    def __init__(
        self,
        inputs: int,
        branches: Sequence[Sequence[_Step]],
        pool: Callable[[Tensor], Tensor],
    ) -> None:
        super().__init__()
        self._branches, self._pool = branches, pool
        for branch in branches:
            width = inputs
            for step in branch:
                if step == "pool":
                    continue
                layers = [step] if isinstance(step, _Layer) else list(step)
                for name, outputs, side, stride in layers:
                    module = _Convolution(width, outputs, side, stride)
                    self.add_module(name, module)
                width = sum(layer.outputs for layer in layers)

    def forward(
        self, x: Float[Tensor, "batch channel height width"]
    ) -> Float[Tensor, "batch outputs row column"]:
        return torch.cat([self._follow(branch, x) for branch in self._branches], dim=1)

    def _follow(self, branch: Sequence[_Step], x: Tensor) -> Tensor:
        for step in branch:
            if step == "pool":
                x = self._pool(x)
            elif isinstance(step, _Layer):
                x = self.get_submodule(step.name)(x)
            else:
                parts = [self.get_submodule(layer.name)(x) for layer in step]
                x = torch.cat(parts, dim=1)
        return x


def _average(x: Tensor) -> Tensor:
    return functional.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)


def _maximum(x: Tensor) -> Tensor:
    return functional.max_pool2d(x, 3, stride=1, padding=1)


def _halving(x: Tensor) -> Tensor:
    return functional.max_pool2d(x, 3, stride=2)


def _block_a(inputs: int, pooled: int) -> _Block:
    """35 x 35: sides of 1, 5, and twice 3."""
    twice = [
        _Layer("branch3x3dbl_1", 64, 1),
        _Layer("branch3x3dbl_2", 96, 3),
        _Layer("branch3x3dbl_3", 96, 3),
    ]
    branches = [
        [_Layer("branch1x1", 64, 1)],
        [_Layer("branch5x5_1", 48, 1), _Layer("branch5x5_2", 64, 5)],
        twice,
        ["pool", _Layer("branch_pool", pooled, 1)],
    ]
    return _Block(inputs, branches, _average)


def _block_b(inputs: int) -> _Block:
    """To 17 x 17."""
    twice = [_Layer("branch3x3dbl_1", 64, 1), _Layer("branch3x3dbl_2", 96, 3)]
    twice.append(_Layer("branch3x3dbl_3", 96, 3, 2))
    return _Block(inputs, [[_Layer("branch3x3", 384, 3, 2)], twice, ["pool"]], _halving)


def _block_c(inputs: int, width: int) -> _Block:
    """17 x 17: a side of 7 as a row and a column, once and twice."""
    once = [
        _Layer("branch7x7_1", width, 1),
        _Layer("branch7x7_2", width, _ROW_7),
        _Layer("branch7x7_3", 192, _COLUMN_7),
    ]
    twice = [
        _Layer("branch7x7dbl_1", width, 1),
        _Layer("branch7x7dbl_2", width, _COLUMN_7),
        _Layer("branch7x7dbl_3", width, _ROW_7),
        _Layer("branch7x7dbl_4", width, _COLUMN_7),
        _Layer("branch7x7dbl_5", 192, _ROW_7),
    ]
    pooled = ["pool", _Layer("branch_pool", 192, 1)]
    return _Block(
        inputs, [[_Layer("branch1x1", 192, 1)], once, twice, pooled], _average
    )


def _block_d(inputs: int) -> _Block:
    """To 8 x 8."""
    straight = [_Layer("branch3x3_1", 192, 1), _Layer("branch3x3_2", 320, 3, 2)]
    crossed = [
        _Layer("branch7x7x3_1", 192, 1),
        _Layer("branch7x7x3_2", 192, _ROW_7),
        _Layer("branch7x7x3_3", 192, _COLUMN_7),
        _Layer("branch7x7x3_4", 192, 3, 2),
    ]
    return _Block(inputs, [straight, crossed, ["pool"]], _halving)


def _block_e(inputs: int, pool: Callable[[Tensor], Tensor]) -> _Block:
    """8 x 8: a row and a column of 3 beside each other."""

    def both(name: str) -> tuple[_Layer, _Layer]:
        row, column = f"{name}a", f"{name}b"
        return _Layer(row, 384, _ROW_3), _Layer(column, 384, _COLUMN_3)

    twice = [_Layer("branch3x3dbl_1", 448, 1), _Layer("branch3x3dbl_2", 384, 3)]
    branches = [
        [_Layer("branch1x1", 320, 1)],
        [_Layer("branch3x3_1", 384, 1), both("branch3x3_2")],
        [*twice, both("branch3x3dbl_3")],
        ["pool", _Layer("branch_pool", 192, 1)],
    ]
    return _Block(inputs, branches, pool)


class InceptionFeatures(nn.Module):
    """Images to the 2048 features that FID compares; `load_inception` fills it.

    Tensors have the names of the published file, its classifier (`fc`) included, which
    is read so that every tensor is accounted for, and not used.
    """

    def __init__(self, preprocessing: Preprocessing = "tensorflow") -> None:
        super().__init__()
        self.preprocessing: Preprocessing = preprocessing
        self.Conv2d_1a_3x3 = _Convolution(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = _Convolution(32, 32, 3, padded=False)
        self.Conv2d_2b_3x3 = _Convolution(32, 64, 3)
        self.Conv2d_3b_1x1 = _Convolution(64, 80, 1)
        self.Conv2d_4a_3x3 = _Convolution(80, 192, 3, padded=False)
        self.Mixed_5b = _block_a(192, 32)
        self.Mixed_5c = _block_a(256, 64)
        self.Mixed_5d = _block_a(288, 64)
        self.Mixed_6a = _block_b(288)
        self.Mixed_6b = _block_c(768, 128)
        self.Mixed_6c = _block_c(768, 160)
        self.Mixed_6d = _block_c(768, 160)
        self.Mixed_6e = _block_c(768, 192)
        self.Mixed_7a = _block_d(768)
        self.Mixed_7b = _block_e(1280, _average)
        self.Mixed_7c = _block_e(2048, _maximum)
        self.fc = nn.Linear(WIDTH, CLASSES)

    def forward(
        self, images: Float[Tensor, "image 3 height width"]
    ) -> Float[Tensor, "image 2048"]:
        """Pooled features of images in [0, 1] of any size."""
        x = prepare(images, self.preprocessing)
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(_halving(x)))
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(_halving(x))))
        x = self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x)))
        x = self.Mixed_6e(self.Mixed_6d(x))
        x = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x)))
        return x.mean(dim=(-1, -2))

    @torch.no_grad()
    def describe(
        self, images: Float[Tensor, "image 3 height width"], chunk: int = 16
    ) -> Float[Tensor, "image 2048"]:
        """Features of many images, a few at a time, on the network's device."""
        device = self.fc.weight.device
        return torch.cat([self(part.to(device)) for part in images.split(chunk)])


def prepare(
    images: Float[Tensor, "image 3 height width"], preprocessing: Preprocessing
) -> Float[Tensor, "image 3 299 299"]:
    """Images in [0, 1] as the network takes them; see `Preprocessing`."""
    if preprocessing == "pytorch-fid":
        resized = functional.interpolate(images, (SIDE, SIDE), mode="bilinear")
        return 2 * resized - 1
    # The graph takes bytes: (255 x - 128) / 128.
    resized = _resize_from_corner(_resize_from_corner(images).transpose(-1, -2))
    return (255 * resized.transpose(-1, -2) - 128) / 128


def _resize_from_corner(
    images: Float[Tensor, "image 3 height width"],
) -> Float[Tensor, "image 3 height 299"]:
    """Linear along the width, output pixel i at i width / 299 of the input's pixels."""
    width = images.shape[-1]
    place = torch.arange(SIDE, device=images.device) * (width / SIDE)
    left = place.floor().long().clamp(max=width - 1)
    right = (left + 1).clamp(max=width - 1)
    return torch.lerp(images[..., left], images[..., right], (place - left).to(images))


def load_inception(
    source: str | Path, preprocessing: Preprocessing = "tensorflow"
) -> InceptionFeatures:
    """The network with its published weights, in evaluation mode, without gradients.

    `source` is the file `pt_inception-2015-12-05-6726825d.pth` (or its tensors as
    .safetensors), or the 'organisation/name' of a model on the Hugging Face hub that
    has them.

    Raises:
        UserError: the file is missing or is not this network's.
    """
    what = "the Inception-v3 of FID (pt_inception-2015-12-05-6726825d.pth)"
    path = find_weights(source, what)
    # All weights are about to be replaced: the caller's generator stays untouched.
    with torch.random.fork_rng(devices=[]):
        model = InceptionFeatures(preprocessing)
    expected, found = model.state_dict(), read_weights(path, what)
    for name, tensor in expected.items():
        # Old files do not count batches, and nobody uses the count.
        if name.endswith("num_batches_tracked"):
            found.setdefault(name, tensor)
    check_tensors(expected, found, path)
    model.load_state_dict(found)
    return model.requires_grad_(False).eval()
