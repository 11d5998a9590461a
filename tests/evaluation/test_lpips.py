"""LPIPS with made-up weights against the definition, written out."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from unseen.errors import UserError
from unseen.evaluation.lpips import Lpips, Network, load_lpips
from unseen.files import write_tensors

CONVOLUTIONS = {
    "vgg": (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28),
    "alex": (0, 3, 6, 8, 10),
}
WIDTHS = {"vgg": (64, 128, 256, 512, 512), "alex": (64, 192, 384, 256, 256)}
PARAMETERS = {"vgg": 14_714_688, "alex": 2_469_696}
"""Of torchvision's backbones without classifiers."""

SIZES = {"vgg": (16, 18), "alex": (31, 33)}
"""The smallest images, or nearly."""

Files = dict[str, tuple[Path, Path, dict[str, Tensor], dict[str, Tensor]]]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """Backbone and heads with random weights: their files and their tensors."""
    folder = tmp_path_factory.mktemp("lpips")
    generator = torch.Generator().manual_seed(0)
    made = {}
    for network in ("vgg", "alex"):
        state = Lpips(network).state_dict()
        backbone = {k: v for k, v in state.items() if k.startswith("features")}
        # As torchvision's files have them.
        backbone["classifier.6.bias"] = torch.zeros(4)
        heads = {
            f"lin{i}.model.1.weight": torch.rand(1, width, 1, 1, generator=generator)
            for i, width in enumerate(WIDTHS[network])
        }
        paths = folder / f"{network}.safetensors", folder / f"{network}-heads.pth"
        write_tensors(paths[0], backbone, {})
        torch.save(heads, paths[1])
        made[network] = (*paths, backbone, heads)
    return made


def direct(
    network: Network,
    backbone: dict[str, Tensor],
    heads: dict[str, Tensor] | None,
    image: Float[Tensor, "3 height width"],
    truth: Float[Tensor, "3 height width"],
) -> float:
    """Layer by layer, pixel by pixel."""

    def layers(x: Tensor) -> list[Tensor]:
        mean, deviation = [-0.030, -0.088, -0.188], [0.458, 0.448, 0.450]
        x = 2 * x - 1
        x = torch.stack([(x[c] - mean[c]) / deviation[c] for c in range(3)])[None]
        found = []
        for index in CONVOLUTIONS[network]:
            if network == "vgg" and index in (5, 10, 17, 24):
                x = functional.max_pool2d(x, 2)
            if network == "alex" and index in (3, 6):
                x = functional.max_pool2d(x, 3, stride=2)
            weight = backbone[f"features.{index}.weight"]
            stride, padding = (4, 2) if weight.shape[-1] == 11 else (1, None)
            padding = weight.shape[-1] // 2 if padding is None else padding
            bias = backbone[f"features.{index}.bias"]
            x = functional.conv2d(x, weight, bias, stride=stride, padding=padding)
            x = x.clamp(min=0)
            if network == "alex" or index in (2, 7, 14, 21, 28):
                found.append(x[0])
        return found

    total = 0.0
    for number, (x, y) in enumerate(zip(layers(image), layers(truth), strict=True)):
        weights = torch.ones(len(x))
        if heads is not None:
            weights = heads[f"lin{number}.model.1.weight"].flatten()
        at_pixels = [
            float(
                (weights * (a / (a.norm() + 1e-10) - b / (b.norm() + 1e-10)) ** 2).sum()
            )
            for a, b in zip(x.flatten(1).T, y.flatten(1).T, strict=True)
        ]
        total += sum(at_pixels) / len(at_pixels)
    return total


@pytest.mark.parametrize("network", ["vgg", "alex"])
def test_it_is_the_definition(
    network: Network, files: Files, generator: torch.Generator
) -> None:
    backbone_file, heads_file, backbone, heads = files[network]
    images, truth = torch.rand(2, 2, 3, *SIZES[network], generator=generator)
    state = torch.random.get_rng_state()
    model = load_lpips(network, backbone_file, heads_file)
    plain = load_lpips(network, backbone_file, None)
    assert torch.equal(state, torch.random.get_rng_state())
    assert not any(p.requires_grad for p in model.parameters())
    features = sum(p.numel() for p in model.features.parameters())
    assert features == PARAMETERS[network]
    found, unweighted = model(images, truth), plain(images, truth)
    for i in range(2):
        expected = direct(network, backbone, heads, images[i], truth[i])
        assert abs(float(found[i]) - expected) < 1e-4 * expected
    expected = direct(network, backbone, None, images[0], truth[0])
    assert abs(float(unweighted[0]) - expected) < 1e-4 * expected

    assert model(images, images).abs().max() == 0
    assert torch.allclose(model(truth, images), found, rtol=1e-5)
    near = images.lerp(truth, 0.1)
    assert (model(near, images) < found).all()
    assert torch.allclose(model(images[1:], truth[1:]), found[1:], rtol=1e-5)


def test_it_has_gradients_for_images(files: Files, generator: torch.Generator) -> None:
    model = load_lpips("alex", *files["alex"][:2])
    image = torch.rand(1, 3, 32, 32, generator=generator, requires_grad=True)
    (model(image, torch.zeros(1, 3, 32, 32)).sum()).backward()
    assert image.grad is not None and image.grad.abs().max() > 0


def test_wrong_files_are_refused_in_one_sentence(files: Files, tmp_path: Path) -> None:
    vgg, alex = files["vgg"], files["alex"]
    with pytest.raises(UserError, match="does not belong to this model"):
        load_lpips("alex", vgg[0], alex[1])
    with pytest.raises(UserError, match="does not belong to this model"):
        load_lpips("vgg", vgg[0], alex[1])
    with pytest.raises(UserError, match="lacks tensor 'lin0"):
        load_lpips("alex", alex[0], alex[0])
    with pytest.raises(UserError, match=r"no file nowhere\.pth: give one of the LPIPS"):
        load_lpips("alex", alex[0], "nowhere.pth")
    (tmp_path / "text.pth").write_text("no weights")
    with pytest.raises(UserError, match="cannot be read"):
        load_lpips("alex", alex[0], tmp_path / "text.pth")
    # A pickle that would run code is read as no checkpoint at all.
    torch.save({"lin0.model.1.weight": Path("x")}, tmp_path / "object.pth")
    with pytest.raises(UserError, match="cannot be read"):
        load_lpips("alex", alex[0], tmp_path / "object.pth")
    with pytest.raises(UserError, match="at least 31x31 pixels, not 30x40"):
        load_lpips("alex", *alex[:2])(
            torch.zeros(1, 3, 30, 40), torch.zeros(1, 3, 30, 40)
        )
