"""Half precision, and networks that take turns."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from unseen.networks.large import Precision, reduce_precision, take_turns
from unseen.networks.latent import (
    Autoencoder,
    AutoencoderConfig,
    LatentUNet,
    LatentUNetConfig,
)

UNET = LatentUNetConfig(
    channels=(32, 64), attention=(True, False), blocks=1, context=24, heads=(4, 4)
)


def _noise(unet: LatentUNet, step: float) -> torch.Tensor:
    draw = torch.Generator().manual_seed(1)
    x, tokens = torch.randn(2, 4, 8, 8, generator=draw), torch.ones(2, 3, 24)
    with torch.no_grad():
        return unet(x, torch.full((2,), float(step)), tokens)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_is_close_to_its_twin(precision: Precision) -> None:
    torch.manual_seed(0)
    unet, autoencoder = LatentUNet(UNET), Autoencoder(AutoencoderConfig((32, 64), 1))
    images = torch.rand(1, 3, 16, 16)
    with torch.no_grad():
        exact = _noise(unet, 500), autoencoder.encode(images)[0]
        exact = (*exact, autoencoder.decode(exact[1]))
    reduce_precision([unet.model, *autoencoder.large_networks()], precision)
    assert next(unet.model.parameters()).element_size() == 2
    with torch.no_grad():
        found = _noise(unet, 500), autoencoder.encode(images)[0]
        found = (*found, autoencoder.decode(exact[1]))
    for a, b in zip(found, exact, strict=True):
        assert a.dtype == torch.float32
        assert 0 < (a - b).norm() < 0.02 * b.norm()


def test_half_precision_tells_neighbouring_steps_apart() -> None:
    # Between 512 and 1024 bfloat16 knows every fourth number only.
    torch.manual_seed(0)
    unet = LatentUNet(UNET)
    reduce_precision([unet.model], "bfloat16")
    assert not torch.equal(_noise(unet, 996), _noise(unet, 997))


def test_float32_changes_nothing() -> None:
    layer = nn.Linear(2, 2)
    reduce_precision([layer], "float32")
    assert layer.weight.dtype == torch.float32
    assert not layer._forward_hooks


class _Traveller(nn.Linear):
    """Writes down where it is sent."""

    def __init__(self, name: str, log: list[str]) -> None:
        super().__init__(2, 2)
        self.name, self.log = name, log

    def to(self, device: str):  # type: ignore[override]
        self.log.append(f"{self.name} {device}")
        return self


def test_networks_are_moved_when_another_one_is_called_and_only_then() -> None:
    log: list[str] = []
    first, second = _Traveller("first", log), _Traveller("second", log)
    # Inputs go there and come back; here both places are the CPU.
    take_turns([first, second], "cpu:0")
    x = torch.ones(1, 2)
    for network in (first, second, second, first):
        assert network(x).device.type == "cpu"
    assert log == [
        "first cpu:0",
        "first cpu",
        "second cpu:0",
        "second cpu",
        "first cpu:0",
    ]


@pytest.mark.gpu
def test_offloaded_networks_compute_the_same() -> None:
    torch.manual_seed(0)
    unet = LatentUNet(UNET)
    exact = _noise(unet, 500)
    other = nn.Linear(2, 2)
    take_turns([unet.model, other], "cuda")
    found = _noise(unet, 500)
    assert next(unet.model.parameters()).is_cuda
    torch.testing.assert_close(found, exact, atol=1e-3, rtol=1e-3)
    other(torch.ones(1, 2))
    assert not next(unet.model.parameters()).is_cuda
