"""Files of RenderDiffusion's public implementation: what is read, what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.parity.synthetic import fixture_folder, synthetic_state_dict
from unseen.checkpoints.importers import IMPORTERS
from unseen.checkpoints.viewset_triplane import read_renderdiffusion, rename
from unseen.diffusion.schedules import CosineSchedule, LinearSchedule
from unseen.errors import UserError
from unseen.methods.renderdiffusion import RenderDiffusion
from unseen.networks.triplane_unet import TriplaneUNetConfig
from unseen.scenes.triplane_sampling import TriplaneSampling


@pytest.fixture(scope="module")
def official() -> dict[str, Tensor]:
    tensors = synthetic_state_dict(fixture_folder("viewset_triplane"))
    wrapped = {f"model.{key}": value for key, value in tensors.items()}
    table = CosineSchedule().discrete_alphas_cumprod()
    return {**wrapped, "alphas_cumprod": table.float(), "loss_weight": table.float()}


def save(path: Path, tensors: dict) -> Path:
    torch.save({"diffuser": tensors, "optimizer": {}, "iteration": 1}, path)
    return path


def test_a_file_is_read(official, tmp_path: Path) -> None:
    path, state = save(tmp_path / "model.pth", official), torch.get_rng_state()
    found = IMPORTERS["renderdiffusion"].read(path)
    assert isinstance(found, RenderDiffusion) and not found.training
    assert torch.equal(state, torch.get_rng_state())
    c = found.config
    assert c.network == TriplaneUNetConfig() and c.self_condition
    assert c.decoder.gain == pytest.approx(64) and c.image_size == 128
    assert c.rays == TriplaneSampling(64, 64, "endpoint")
    # Every number of the network arrives, and nothing else.
    weights = [x for name, x in official.items() if name.startswith("model.")]
    assert sum(x.numel() for x in weights) == sum(x.numel() for x in found.parameters())
    total = sum(x.double().sum() for x in weights)
    torch.testing.assert_close(sum(x.double().sum() for x in found.parameters()), total)
    other = read_renderdiffusion(path, "co3d", 64).config
    assert other.background == (0.0, 0.0, 0.0) and other.image_size == 64
    assert other.extent == pytest.approx((0.6 * 63 / 64,) * 3)


def test_names() -> None:
    def name(key: str) -> str | None:
        return rename(f"reconstructor.{key}", 2)

    assert (
        name("downs.3.2.fn.fn.to_out.1.g") == "network.down_attention.3.out_norm.gain"
    )
    assert name("downs.3.3.weight") == "network.shrink.3.weight"
    assert name("downs.1.2.1.bias") == "network.shrink.1.bias"
    assert name("ups.0.3.1.weight") == "network.grow.0.weight"
    assert name("ups.2.1.block2.proj.weight") == "network.up.2.1.block_2.conv.weight"
    assert name("mid_block2.mlp.1.bias") == "network.middle.1.film.bias"
    assert name("final_res_block.res_conv.weight") == "network.head.skip.weight"
    for unknown in ("downs.1.0.something.weight", "mid_block3.mlp.1.bias", "extra"):
        assert name(unknown) is None


KEY = "model.reconstructor.ups.1.0.block1.proj.weight"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda d: d.pop(KEY), "lacks tensor"),
        (lambda d: d.update({"model.extra": torch.zeros(1)}), "unknown tensor"),
        (lambda d: d.update({KEY: torch.zeros(3, 3, 3, 3)}), "shape"),
        (lambda d: d.update({KEY: torch.full_like(d[KEY], torch.nan)}), "finite"),
        (lambda d: d.pop("model.reconstructor.init_conv.weight"), "does not hold"),
        (
            lambda d: d.update(
                alphas_cumprod=LinearSchedule().discrete_alphas_cumprod().float()
            ),
            "another noise schedule",
        ),
        (lambda d: d.clear(), "does not hold"),
    ],
)
def test_damaged_weights(damage, message: str, official, tmp_path: Path) -> None:
    tensors = dict(official)
    damage(tensors)
    with pytest.raises(UserError, match=message) as caught:
        read_renderdiffusion(save(tmp_path / "a.pth", tensors))
    assert "\n" not in str(caught.value) and str(caught.value).endswith(".")


class Payload:
    """What unpickling would execute."""

    def __reduce__(self):
        return (pytest.fail, ("the checkpoint was executed",))


def test_files_that_are_something_else(official, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="There is no file"):
        read_renderdiffusion(tmp_path / "a.pth")
    torch.save({"diffuser": Payload()}, tmp_path / "a.pth")
    with pytest.raises(UserError, match="cannot be read"):
        read_renderdiffusion(tmp_path / "a.pth")
    with pytest.raises(UserError, match="no release 'chairs'"):
        read_renderdiffusion(tmp_path / "a.pth", "chairs")  # type: ignore[arg-type]
