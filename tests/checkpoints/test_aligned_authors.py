"""The key maps of the released pixelNeRF and VisionNeRF weights, and their errors."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.parity.synthetic import fixture_folder, load_meta, synthetic_tensor
from unseen.checkpoints import pixelnerf_authors, visionnerf_authors
from unseen.errors import UserError
from unseen.methods.pixelnerf import PixelNeRF
from unseen.methods.visionnerf import VisionNeRF

SYSTEMS = ["pixelnerf", "visionnerf"]
MODULES = {"pixelnerf": pixelnerf_authors, "visionnerf": visionnerf_authors}
# Every size of the released tensors, and that of a small model of their layout.
SMALL = {
    "pixelnerf": {64: 4, 128: 8, 256: 16, 512: 32},
    "visionnerf": {
        64: 4, 96: 4, 192: 6, 256: 8, 384: 10, 512: 16, 581: 85, 768: 12, 1024: 16,
        1536: 24, 2048: 64, 2304: 36, 3072: 48,
    },
}  # fmt: skip


def small_official(system: str) -> dict[str, Tensor]:
    """A state dict of the published layout with small sizes."""
    keys = json.loads((fixture_folder(system) / "keys.json").read_text())
    sizes = SMALL[system]
    result = {}
    for key, entry in keys.items():
        shape = tuple(entry["shape"])
        if "_freqs" not in key and "_phases" not in key:
            # The class token's token is one more than the 8 x 8 grid.
            shape = tuple(sizes.get(size, size) for size in shape)
            result[key] = synthetic_tensor(key, shape, entry["dtype"])
        else:
            result[key] = torch.zeros(shape)
    return result


def write(system: str, official: dict[str, Tensor], path: Path) -> Path:
    """As the released files are laid out."""
    content: dict = official
    if system == "visionnerf":
        content = {"optimizer": {"state": {}}, "scheduler": {}}
        for part in visionnerf_authors.PARTS:
            content[part] = {
                key.removeprefix(f"{part}."): value
                for key, value in official.items()
                if key.startswith(f"{part}.")
            }
    torch.save(content, path)
    return path


def read(system: str, path: Path) -> PixelNeRF | VisionNeRF:
    if system == "pixelnerf":
        return pixelnerf_authors.read_pixelnerf(path)
    return visionnerf_authors.read_visionnerf(path)


@pytest.mark.parametrize("system", SYSTEMS)
def test_every_published_tensor_has_its_place(system: str) -> None:
    """Names and shapes, at full size, without memory."""
    keys = json.loads((fixture_folder(system) / "keys.json").read_text())
    module = MODULES[system]
    with torch.device("meta"):
        official = {
            key: torch.empty(entry["shape"], dtype=getattr(torch, entry["dtype"]))
            for key, entry in keys.items()
        }
        config = module.infer_config(official)
        method = PixelNeRF(config) if system == "pixelnerf" else VisionNeRF(config)
    if system == "visionnerf":
        with torch.device("meta"):
            found = module.convert(official, config)
        expected = method.state_dict()
        assert {k: v.shape for k, v in found.items()} == {
            k: v.shape for k, v in expected.items()
        }
    renamed = {module.rename(key) for key in keys} - {None}
    # All of ours but those that are made of several tensors.
    rest = method.state_dict().keys() - renamed
    assert all(
        re.search(r"point_in\.weight|feature_in\.0\.weight", key) for key in rest
    )
    assert renamed <= method.state_dict().keys()


@pytest.mark.parametrize("system", SYSTEMS)
def test_dead_keys_are_those_without_influence(system: str) -> None:
    folder = fixture_folder(system)
    keys = json.loads((folder / "keys.json").read_text())
    dead = {key for key in keys if MODULES[system].DEAD_KEYS.fullmatch(key)}
    without = set(load_meta(folder)["keys_without_influence_on_outputs"])
    # Statistics have no gradients, so they are not in the list.
    assert {key for key in dead if not re.search("running|tracked", key)} == without


@pytest.mark.parametrize("system", SYSTEMS)
def test_published_files_are_read(system: str, tmp_path: Path) -> None:
    official = small_official(system)
    method = read(system, write(system, official, tmp_path / "file"))
    assert not method.training
    config = method.config
    if isinstance(method, PixelNeRF):
        assert config.encoder.width == 4 and config.encoder.blocks == (3, 4, 6)
        assert (config.width, config.blocks, config.view_blocks) == (32, 5, 3)
        assert config.reading.pixel_grid == "integer"
        assert config.reading.measure == "distance"
        columns = method.coarse.point_in.weight / official["mlp_coarse.lin_in.weight"]
        # x, then sines, cosines; the directions are the last three.
        signs = [1, -1, -1, 1, -1, -1, 1, 1, 1]
        assert columns[0, :9].round().tolist() == signs
        assert columns[0, -3:].round().tolist() == [1, -1, -1]
        bias = (
            official["mlp_fine.lin_z.1.bias"] + official["mlp_fine.blocks.0.fc_1.bias"]
        )
        assert torch.equal(method.fine.blocks[0].fc_1.bias.detach(), bias)
        assert torch.equal(
            method.encoder.layer2[0].bn1.running_mean,
            official["encoder.model.layer2.0.bn1.running_mean"],
        )
    else:
        assert config.encoder.taps == (2, 5, 8, 11) and config.rectified_shortcut
        assert config.encoder.statistics == "batch" and config.image_size == 128
        assert (config.width, config.blocks) == (16, 6)


class Payload:
    """What unpickling would execute."""

    def __reduce__(self):
        return (pytest.fail, ("the checkpoint was executed",))


@pytest.mark.parametrize("system", SYSTEMS)
def test_files_that_are_something_else(system: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    with pytest.raises(UserError, match="There is no file"):
        read(system, path)
    path.write_text("no checkpoint")
    with pytest.raises(UserError, match="cannot be read"):
        read(system, path)
    torch.save({"net_coarse": Payload()}, path)
    with pytest.raises(UserError, match="cannot be read"):
        read(system, path)
    for content in ([1, 2], {"epoch": 3}, {"weight": torch.zeros(2)}):
        torch.save(content, path)
        with pytest.raises(UserError) as caught:
            read(system, path)
        assert "\n" not in str(caught.value) and str(caught.value).endswith(".")
    whole = write(system, small_official(system), path).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="cannot be read"):
        read(system, path)


DAMAGES: list[tuple[str, Callable[[dict[str, Tensor]], object], str]] = [
    ("pixelnerf", lambda d: d.pop("mlp_fine.lin_out.bias"), "lacks"),
    ("pixelnerf", lambda d: d.pop("mlp_fine.lin_z.1.bias"), "lacks"),
    ("pixelnerf", lambda d: d.pop("mlp_fine.lin_in.weight"), "lacks"),
    ("pixelnerf", lambda d: d.pop("mlp_coarse.lin_in.weight"), "not one of pixelNeRF"),
    ("pixelnerf", lambda d: d.update({"mlp_mid.w": torch.zeros(1)}), "unknown"),
    (
        "pixelnerf",
        lambda d: d.update({"mlp_fine.lin_z.0.bias": torch.zeros(3)}),
        "shape",
    ),
    ("pixelnerf", lambda d: d["encoder.model.bn1.bias"].fill_(torch.nan), "finite"),
    ("visionnerf", lambda d: d.pop("net_fine.blocks.3.fc_0.bias"), "lacks"),
    ("visionnerf", lambda d: d.pop("net_fine.input_layer.weight"), "lacks"),
    ("visionnerf", lambda d: d.pop("net_coarse.input_layer.weight"), "not one of Vis"),
    ("visionnerf", lambda d: d.update({"net_fine.w": torch.zeros(1)}), "unknown"),
    (
        "visionnerf",
        lambda d: d.update({"net_fine.input_layer.weight": torch.zeros(16, 9)}),
        "lacks|unknown",
    ),
    (
        "visionnerf",
        lambda d: d["net_fine.output_layer.bias"].fill_(torch.inf),
        "finite",
    ),
]


@pytest.mark.parametrize(("system", "damage", "message"), DAMAGES)
def test_damaged_weights(system: str, damage, message: str, tmp_path: Path) -> None:
    official = small_official(system)
    damage(official)
    path = write(system, official, tmp_path / "file")
    with pytest.raises(UserError, match=message) as caught:
        read(system, path)
    assert "\n" not in str(caught.value)
