"""FID's Inception with made-up weights against the published network, written out."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from unseen.errors import UserError
from unseen.evaluation.inception import InceptionFeatures, load_inception, prepare

PARAMETERS = 23_850_960
"""Of torchvision's Inception-v3 with 1008 classes and no auxiliary classifier."""


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Tensor]]:
    """Random weights that keep the signal's size, as an old file has them."""
    generator = torch.Generator().manual_seed(0)
    state = InceptionFeatures().state_dict()
    for name, tensor in state.items():
        if name.endswith(("running_mean", "bias")):
            tensor.copy_(0.1 * torch.randn(tensor.shape, generator=generator))
        if name.endswith(("running_var", "bn.weight")):
            tensor.copy_(0.8 + 0.4 * torch.rand(tensor.shape, generator=generator))
        if name.endswith("conv.weight"):
            tensor.mul_(2)
    state = {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}
    path = tmp_path_factory.mktemp("inception") / "pt_inception.pth"
    torch.save(state, path)
    return path, state


class Written:
    """The network as its papers draw it, every convolution by name."""

    def __init__(self, state: dict[str, Tensor]) -> None:
        self.state = state

    def layer(
        self, x: Tensor, name: str, stride: int = 1, padding: tuple[int, int] = (0, 0)
    ) -> Tensor:
        x = functional.conv2d(
            x, self.state[f"{name}.conv.weight"], stride=stride, padding=padding
        )
        parts = ("weight", "bias", "running_mean", "running_var")
        scale, shift, mean, variance = (
            self.state[f"{name}.bn.{part}"].reshape(1, -1, 1, 1) for part in parts
        )
        x = (x - mean) / (variance + 0.001).sqrt() * scale + shift
        return x.clamp(min=0)

    def average(self, x: Tensor) -> Tensor:
        """Over those of nine pixels that exist."""
        kernel = torch.ones(x.shape[1], 1, 3, 3)
        total = functional.conv2d(x, kernel, padding=1, groups=x.shape[1])
        count = functional.conv2d(torch.ones_like(x[:, :1]), kernel[:1], padding=1)
        return total / count

    def a(self, x: Tensor, n: str) -> Tensor:
        wide = self.layer(
            self.layer(x, f"{n}.branch5x5_1"), f"{n}.branch5x5_2", 1, (2, 2)
        )
        twice = self.layer(x, f"{n}.branch3x3dbl_1")
        twice = self.layer(twice, f"{n}.branch3x3dbl_2", 1, (1, 1))
        twice = self.layer(twice, f"{n}.branch3x3dbl_3", 1, (1, 1))
        pooled = self.layer(self.average(x), f"{n}.branch_pool")
        return torch.cat([self.layer(x, f"{n}.branch1x1"), wide, twice, pooled], 1)

    def b(self, x: Tensor, n: str) -> Tensor:
        twice = self.layer(x, f"{n}.branch3x3dbl_1")
        twice = self.layer(twice, f"{n}.branch3x3dbl_2", 1, (1, 1))
        twice = self.layer(twice, f"{n}.branch3x3dbl_3", 2)
        pooled = functional.max_pool2d(x, 3, 2)
        return torch.cat([self.layer(x, f"{n}.branch3x3", 2), twice, pooled], 1)

    def c(self, x: Tensor, n: str) -> Tensor:
        once = self.layer(x, f"{n}.branch7x7_1")
        once = self.layer(once, f"{n}.branch7x7_2", 1, (0, 3))
        once = self.layer(once, f"{n}.branch7x7_3", 1, (3, 0))
        twice = self.layer(x, f"{n}.branch7x7dbl_1")
        for number, padding in ((2, (3, 0)), (3, (0, 3)), (4, (3, 0)), (5, (0, 3))):
            twice = self.layer(twice, f"{n}.branch7x7dbl_{number}", 1, padding)
        pooled = self.layer(self.average(x), f"{n}.branch_pool")
        return torch.cat([self.layer(x, f"{n}.branch1x1"), once, twice, pooled], 1)

    def d(self, x: Tensor, n: str) -> Tensor:
        first = self.layer(self.layer(x, f"{n}.branch3x3_1"), f"{n}.branch3x3_2", 2)
        second = self.layer(x, f"{n}.branch7x7x3_1")
        second = self.layer(second, f"{n}.branch7x7x3_2", 1, (0, 3))
        second = self.layer(second, f"{n}.branch7x7x3_3", 1, (3, 0))
        second = self.layer(second, f"{n}.branch7x7x3_4", 2)
        return torch.cat([first, second, functional.max_pool2d(x, 3, 2)], 1)

    def e(self, x: Tensor, n: str, pooled: Tensor) -> Tensor:
        once = self.layer(x, f"{n}.branch3x3_1")
        twice = self.layer(x, f"{n}.branch3x3dbl_1")
        twice = self.layer(twice, f"{n}.branch3x3dbl_2", 1, (1, 1))
        parts = [
            self.layer(x, f"{n}.branch1x1"),
            self.layer(once, f"{n}.branch3x3_2a", 1, (0, 1)),
            self.layer(once, f"{n}.branch3x3_2b", 1, (1, 0)),
            self.layer(twice, f"{n}.branch3x3dbl_3a", 1, (0, 1)),
            self.layer(twice, f"{n}.branch3x3dbl_3b", 1, (1, 0)),
            self.layer(pooled, f"{n}.branch_pool"),
        ]
        return torch.cat(parts, 1)

    def features(
        self, x: Float[Tensor, "image 3 299 299"]
    ) -> Float[Tensor, "image 2048"]:
        x = self.layer(self.layer(x, "Conv2d_1a_3x3", 2), "Conv2d_2a_3x3")
        x = functional.max_pool2d(self.layer(x, "Conv2d_2b_3x3", 1, (1, 1)), 3, 2)
        x = self.layer(self.layer(x, "Conv2d_3b_1x1"), "Conv2d_4a_3x3")
        x = functional.max_pool2d(x, 3, 2)
        for letter in "bcd":
            x = self.a(x, f"Mixed_5{letter}")
        x = self.b(x, "Mixed_6a")
        for letter in "bcde":
            x = self.c(x, f"Mixed_6{letter}")
        x = self.d(x, "Mixed_7a")
        x = self.e(x, "Mixed_7b", self.average(x))
        x = self.e(x, "Mixed_7c", functional.max_pool2d(x, 3, 1, 1))
        return x.flatten(2).mean(dim=2)


@torch.no_grad()
def test_it_is_the_published_network(
    weights: tuple[Path, dict[str, Tensor]], generator: torch.Generator
) -> None:
    path, state = weights
    model = load_inception(path)
    assert sum(p.numel() for p in model.parameters()) == PARAMETERS
    assert not any(p.requires_grad for p in model.parameters())
    for name, tensor in model.state_dict().items():
        assert name.endswith("num_batches_tracked") or torch.equal(tensor, state[name])
    image = torch.rand(1, 3, 40, 50, generator=generator)
    found = model.describe(image)
    expected = Written(state).features(prepare(image, "tensorflow"))
    assert found.shape == (1, 2048) and expected.std() > 1e-3
    assert torch.allclose(found, expected, atol=1e-4 * float(expected.max()))
    # The other preprocessing is another feature.
    model.preprocessing = "pytorch-fid"
    assert not torch.allclose(model(image), found, rtol=1e-3)


def test_images_are_resized_as_tensorflow_1_did() -> None:
    # Pixel i of the output lies at i times the ratio of the sizes, so that halving
    # picks every other pixel and nothing is averaged.
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(1, 3, 598, 598, generator=generator)
    scaled = (255 * image - 128) / 128
    assert torch.allclose(
        prepare(image, "tensorflow"), scaled[..., ::2, ::2], atol=1e-5
    )
    # Growing interpolates a ramp linearly, up to its last pixel, which is repeated.
    ramp = (torch.arange(64.0) / 64).expand(1, 3, 64, 64)
    at = (torch.arange(299) * 64 / 299).clamp(max=63) / 64
    found = prepare(ramp, "tensorflow")[0, 0, 0]
    assert torch.allclose(found, (255 * at - 128) / 128, atol=1e-5)
    centred = (((torch.arange(299) + 0.5) * 64 / 299) - 0.5).clamp(0, 63) / 64
    assert torch.allclose(
        prepare(ramp, "pytorch-fid")[0, 0, 0], 2 * centred - 1, atol=1e-5
    )


def test_other_weights_are_refused(
    weights: tuple[Path, dict[str, Tensor]], tmp_path: Path
) -> None:
    state = dict(weights[1])
    state["fc.weight"] = torch.zeros(1000, 2048)
    torch.save(state, tmp_path / "torchvision.pth")
    with pytest.raises(UserError, match=r"'fc.weight' has shape \(1000, 2048\)"):
        load_inception(tmp_path / "torchvision.pth")
    with pytest.raises(UserError, match=r"pt_inception-2015-12-05-6726825d\.pth"):
        load_inception("nowhere.pth")
