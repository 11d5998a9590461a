"""Training starts from ImageNet weights: files, wrappers, the hub, and refusals."""

from __future__ import annotations

import dataclasses
import sys
import types
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.aligned_scenes import pixelnerf, visionnerf
from tests.methods.volumes import HOLO, holodiffusion
from tests.training.tiny_method import TinyMethod
from unseen.checkpoints.pretrained_encoders import start_encoder
from unseen.errors import UserError
from unseen.networks.resnet34 import ResNetConfig


def resnet_weights(method) -> dict[str, Tensor]:
    """As torchvision saves them: with a last stage and a classifier."""
    generator = torch.Generator().manual_seed(5)
    found = {
        name: torch.randn(value.shape, generator=generator).abs()
        if value.is_floating_point()
        else value
        for name, value in method.encoder.state_dict().items()
        # Old files do not count batches.
        if not name.endswith("num_batches_tracked")
    }
    return found | {"fc.weight": torch.zeros(1000, 512), "layer4.0.w": torch.zeros(2)}


def vit_weights(method) -> dict[str, Tensor]:
    """As timm saves them: for larger images, with a norm and a classifier."""
    generator = torch.Generator().manual_seed(5)
    found = {
        name: torch.randn(value.shape, generator=generator)
        for name, value in method.encoder.transformer.state_dict().items()
    }
    width = found["cls_token"].shape[-1]
    found["pos_embed"] = torch.randn(1, 1 + 14 * 14, width, generator=generator)
    return found | {"norm.weight": torch.ones(width), "head.bias": torch.zeros(1000)}


@pytest.mark.parametrize("layout", ["bare", "state_dict", "safetensors"])
def test_resnet_weights_of_a_file(layout: str, tmp_path: Path) -> None:
    method = pixelnerf()
    weights = resnet_weights(method)
    path = tmp_path / (
        "resnet.safetensors" if layout == "safetensors" else "resnet.pth"
    )
    if layout == "safetensors":
        save_file(weights, path)
    else:
        torch.save(weights if layout == "bare" else {"state_dict": weights}, path)
    said = start_encoder(method, str(path))
    assert said == f"The image encoder starts from {path.name}."
    for name, value in method.encoder.state_dict().items():
        if name in weights:
            assert torch.equal(value, weights[name]), name


def test_a_last_stage_is_read_where_there_is_one(tmp_path: Path) -> None:
    trunk = ResNetConfig(width=8, blocks=(1, 1, 1, 1))
    encoder = dataclasses.replace(HOLO.encoder, trunk=trunk)
    method = holodiffusion(dataclasses.replace(HOLO, encoder=encoder))
    weights = {k: x + 1 for k, x in method.encoder.trunk.state_dict().items()}
    torch.save(weights | {"fc.bias": torch.zeros(1000)}, tmp_path / "resnet.pth")
    start_encoder(method, str(tmp_path / "resnet.pth"))
    found = method.encoder.trunk.state_dict()
    assert torch.equal(found["layer4.0.conv2.weight"], weights["layer4.0.conv2.weight"])


def test_vit_weights_are_resized_to_the_grid(tmp_path: Path) -> None:
    method = visionnerf()
    weights = vit_weights(method)
    torch.save(weights, tmp_path / "vit.pth")
    start_encoder(method, str(tmp_path / "vit.pth"))
    transformer = method.encoder.transformer
    assert torch.equal(transformer.cls_token.detach(), weights["cls_token"])
    positions = transformer.pos_embed.detach()
    assert torch.equal(positions[:, 0], weights["pos_embed"][:, 0])
    mean, expected = positions[:, 1:].mean(), weights["pos_embed"][:, 1:].mean()
    assert abs(mean - expected) < 0.2


def test_without_weights_it_says_so() -> None:
    for method, name in ((pixelnerf(), "ResNet-34"), (visionnerf(), "ViT-B/16")):
        said = start_encoder(method, None)
        assert said is not None and "from scratch" in said and name in said
        assert "\n" not in said
    assert start_encoder(TinyMethod(), None) is None


def test_refusals(tmp_path: Path) -> None:
    method = pixelnerf()
    with pytest.raises(UserError, match="has no image encoder"):
        start_encoder(TinyMethod(), "resnet.pth")
    with pytest.raises(UserError, match="there is no file"):
        start_encoder(method, str(tmp_path / "missing.pth"))
    torch.save([1], tmp_path / "list.pth")
    with pytest.raises(UserError, match="the weights of an image encoder"):
        start_encoder(method, str(tmp_path / "list.pth"))
    weights = resnet_weights(method)
    weights["conv1.weight"] = torch.zeros(64, 3, 7, 7)
    torch.save(weights, tmp_path / "wide.pth")
    with pytest.raises(UserError, match="shape"):
        start_encoder(method, str(tmp_path / "wide.pth"))


def test_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    method = pixelnerf()
    asked = []

    def download(name: str, file: str) -> str:
        asked.append((name, file))
        if file == "model.safetensors" or name == "timm/none":
            raise OSError("no such file\nat all")
        return str(tmp_path / "pytorch_model.bin")

    torch.save(resnet_weights(method), tmp_path / "pytorch_model.bin")
    hub = types.SimpleNamespace(hf_hub_download=download, __spec__=object())
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    said = start_encoder(method, "timm/resnet34.tv_in1k")
    assert said is not None and asked[-1] == (
        "timm/resnet34.tv_in1k",
        "pytorch_model.bin",
    )
    with pytest.raises(UserError, match="neither in the hub's cache") as caught:
        start_encoder(method, "timm/none")
    assert "\n" not in str(caught.value)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install huggingface_hub"):
        start_encoder(method, "timm/resnet34.tv_in1k")
