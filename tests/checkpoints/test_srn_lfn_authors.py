"""The key maps of SRN and LFN: complete, exact, and clear about errors."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.parity.synthetic import fixture_folder, load_meta, synthetic_tensor
from unseen.checkpoints import lfn_authors, srn_authors
from unseen.errors import UserError
from unseen.methods.lfn import LFN
from unseen.methods.srn import SRN

# Every dimension of the released tensors, and that of a small model of their layout:
# 256 becomes 8, 64 gates of a memory of 16 become 12 of one of 3.
SMALL = {
    "srn": {65792: 8 * 8 + 8, 1024: 4 * 8, 256: 8, 64: 12, 16: 3, 3: 3},
    "lfn": {65536: 64, 1536: 48, 768: 24, 256: 8, 6: 6, 3: 3},
}
READ: dict[str, Callable] = {"srn": srn_authors.read_srn, "lfn": lfn_authors.read_lfn}
LAST = {
    "srn": "pixel_generator.net.5.bias",
    "lfn": "hyper_phi.nets.15.net.2.bias",
}


def published_shapes(system: str) -> dict[str, tuple[int, ...]]:
    keys = json.loads((fixture_folder(system) / "keys.json").read_text())
    return {key: tuple(entry["shape"]) for key, entry in keys.items()}


def small_official(system: str) -> dict[str, Tensor]:
    sizes = SMALL[system]
    return {
        key: synthetic_tensor(key, tuple(sizes.get(n, n) for n in shape), "float32")
        for key, shape in published_shapes(system).items()
    }


def write(system: str, official: dict[str, Tensor], path: Path) -> Path:
    content = {"model": official, "optimizer": {"state": {}}}
    torch.save(content if system == "srn" else official, path)
    return path


@pytest.mark.parametrize("system", ["srn", "lfn"])
def test_every_published_tensor_has_its_place(system: str) -> None:
    """Names and shapes, at full size, without memory."""
    module = srn_authors if system == "srn" else lfn_authors
    shapes = published_shapes(system)
    with torch.device("meta"):
        official = {key: torch.empty(shape) for key, shape in shapes.items()}
        config = module.infer_config(official)
        method = SRN(config) if system == "srn" else LFN(config)  # type: ignore[arg-type]
    found = {module.rename(key): x.shape for key, x in official.items()}
    dead = [key for key in shapes if module.rename(key) is None]
    found.pop(None, None)
    assert found == {key: x.shape for key, x in method.state_dict().items()}
    meta = load_meta(fixture_folder(system))
    assert set(dead) == set(meta["keys_without_influence_on_outputs"])
    assert all(lfn_authors.DEAD_KEYS.fullmatch(key) for key in dead)
    # The defaults are the published sizes.
    assert config.hyper == type(config)().hyper
    assert config.num_objects == 3


@pytest.mark.parametrize("system", ["srn", "lfn"])
def test_files_are_read(system: str, tmp_path: Path) -> None:
    official = small_official(system)
    path = write(system, official, tmp_path / "model.pth")
    torch.manual_seed(0)
    state = torch.random.get_rng_state()
    method = READ[system](path, image_size=64)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not method.training
    assert method.config.image_size == 64 and method.config.num_objects == 3
    assert torch.equal(method.codes.weight, official["latent_codes.weight"])
    if system == "srn":
        assert method.config.marcher.memory == 3
        assert method.config.marching.pixel_grid == "integer"
        step = official["ray_marcher.out_layer.weight"]
        assert torch.equal(method.marcher.step.weight, step)
    else:
        assert method.config.pixel_grid == "integer"
        assert torch.equal(method.hyper.nets[15][6].bias, official[LAST["lfn"]])


def test_settings_that_only_tensors_tell(tmp_path: Path) -> None:
    """Another number of layers than the published one."""
    official = small_official("srn")
    for key in list(official):
        if key.startswith("hyper_phi.layers.3."):
            del official[key]
    method = READ["srn"](write("srn", official, tmp_path / "a"))
    assert method.config.hyper.sizes == (3, 8, 8, 8)


class Payload:
    """What unpickling would execute."""

    def __reduce__(self):
        return (pytest.fail, ("the checkpoint was executed",))


@pytest.mark.parametrize("system", ["srn", "lfn"])
def test_files_of_something_else(system: str, tmp_path: Path) -> None:
    path, read = tmp_path / "model.pth", READ[system]
    with pytest.raises(UserError, match="There is no file"):
        read(path)
    path.write_text("no checkpoint")
    with pytest.raises(UserError, match="cannot be read"):
        read(path)
    torch.save({"model": Payload()}, path)
    with pytest.raises(UserError, match="cannot be read"):
        read(path)
    write(system, small_official(system), path)
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(UserError, match="cannot be read"):
        read(path)
    for content in ({"other": 3}, [torch.zeros(1)]):
        torch.save(content, path)
        with pytest.raises(UserError, match="does not hold the weights"):
            read(path)


@pytest.mark.parametrize("system", ["srn", "lfn"])
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda d, last: d.pop(last), "lacks|missing"),
        (lambda d, last: d.pop("latent_codes.weight"), "lacks"),
        (lambda d, last: d.update({"extra": torch.zeros(1)}), "extra"),
        (lambda d, last: d.update({last: torch.zeros(5)}), "shape|fit|make"),
        (lambda d, last: d[last].fill_(torch.nan), "finite"),
    ],
)
def test_damaged_weights(system: str, damage, message: str, tmp_path: Path) -> None:
    official = small_official(system)
    damage(official, LAST[system])
    path = write(system, official, tmp_path / "model.pth")
    with pytest.raises(UserError, match=message) as caught:
        READ[system](path)
    assert "\n" not in str(caught.value)


def test_dead_weights_must_still_fit(tmp_path: Path) -> None:
    official = small_official("lfn")
    official["phi.net.3.net.0.weight"] = torch.zeros(8, 9)
    with pytest.raises(UserError, match=r"phi\.net\.3"):
        READ["lfn"](write("lfn", official, tmp_path / "a"))
    official = small_official("lfn")
    official["phi.net.9.weight"] = torch.zeros(3, 8)
    with pytest.raises(UserError, match=r"phi\.net\.9"):
        READ["lfn"](write("lfn", official, tmp_path / "b"))


def test_predicted_numbers_that_make_no_weights(tmp_path: Path) -> None:
    official = small_official("srn")
    key = "hyper_phi.layers.1.hyper_linear.hypo_params.net.2.bias"
    official[key] = torch.zeros(73)
    with pytest.raises(UserError, match="73 numbers in layer 1"):
        READ["srn"](write("srn", official, tmp_path / "a"))
