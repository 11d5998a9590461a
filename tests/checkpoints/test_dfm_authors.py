"""The key map of the released DFM weights: complete, exact, and clear about errors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.parity.synthetic import fixture_folder, synthetic_tensor
from unseen.checkpoints.dfm_authors import (
    COMPUTED_KEYS,
    DEAD_KEYS,
    convert,
    infer_config,
    is_unused,
    load_official,
    read_official,
    rename,
)
from unseen.encoders.pixel_aligned import PixelAlignedSceneModel
from unseen.errors import UserError

SYSTEMS = ["dfm_re10k", "dfm_co3d"]
LABELS = "model.enc.y_embedder.embedding_table.weight"
SPLIT = "model.pixelNeRF_joint.mlp.lin_in.weight"
# Every dimension of the released tensors, and that of a small model of their layout.
SMALL = {
    1152: 72, 3456: 216, 4608: 144, 6912: 432, 2304: 144, 2048: 32, 1024: 16,
    1001: 3, 576: 12, 551: 47, 512: 8, 256: 6, 71: 9, 68: 6, 64: 4,
}  # fmt: skip


def published_shapes(system: str) -> dict[str, tuple[int, ...]]:
    keys = json.loads((fixture_folder(system) / "keys.json").read_text())
    return {key: tuple(entry["shape"]) for key, entry in keys.items()}


def small_official(system: str) -> dict[str, Tensor]:
    """A state dict of the published layout with two blocks and small sizes."""
    result = {}
    for key, shape in published_shapes(system).items():
        block = key.removeprefix("model.enc.blocks.").split(".")[0]
        if COMPUTED_KEYS.fullmatch(key) or (block.isdigit() and int(block) > 1):
            continue
        shape = tuple(SMALL.get(size, size) for size in shape)
        result[key] = synthetic_tensor(key, shape, "float32")
    return result


@pytest.mark.parametrize("system", SYSTEMS)
def test_every_published_tensor_has_its_place(system: str) -> None:
    """Names and shapes, at full size, without memory."""
    shapes = published_shapes(system)
    special = {LABELS} | {key for key in shapes if key.endswith("lin_in.weight")}
    for key in shapes:
        fates = [rename(key) is not None, is_unused(key), key in special]
        dead = DEAD_KEYS.fullmatch(key) is not None
        assert sum(fates) == 1 or (key in special and dead), key
    with torch.device("meta"):
        official = {key: torch.empty(shape) for key, shape in shapes.items()}
        model = PixelAlignedSceneModel(infer_config(official))
        found = convert(official)
    expected = model.state_dict()
    assert {k: v.shape for k, v in found.items()} == {
        k: v.shape for k, v in expected.items()
    }


def test_dead_keys_are_those_without_influence() -> None:
    meta = json.loads((fixture_folder("dfm_re10k") / "meta.json").read_text())
    dead = {key for key in published_shapes("dfm_re10k") if DEAD_KEYS.fullmatch(key)}
    assert dead == set(meta["keys_without_influence_on_outputs"])


def test_the_settings_of_both_releases() -> None:
    re10k = infer_config(small_official("dfm_re10k"))
    co3d = infer_config(small_official("dfm_co3d"))
    assert not re10k.encoder.absolute_pose and co3d.encoder.absolute_pose
    assert (re10k.num_condition_samples, co3d.num_condition_samples) == (32, 64)
    assert re10k.condition_position == "raw"
    assert re10k.sampling.pixel_grid == "corners"
    assert re10k.field.out_features == 2 and re10k.encoder.dit.depth == 2


@pytest.mark.parametrize("system", SYSTEMS)
def test_tensors_that_are_not_copied_as_they_are(system: str) -> None:
    official = small_official(system)
    model = load_official(official)
    torch.testing.assert_close(
        torch.cat(
            [model.proposal.point_in.weight, model.proposal.feature_in.weight], dim=1
        ),
        official[SPLIT],
    )
    bias = official["model.enc.t_embedder.mlp.2.bias"] + official[LABELS][0]
    torch.testing.assert_close(model.encoder.time[2].bias.detach(), bias)
    assert not model.training


@pytest.mark.parametrize("layout", ["trainer", "model", "bare"])
def test_published_files_are_read(layout: str, tmp_path: Path) -> None:
    official = small_official("dfm_re10k")
    content: dict = official
    if layout == "model":
        content = {"step": 3, "model": official}
    elif layout == "trainer":
        averaged = {f"ema_model.{key}": value for key, value in official.items()}
        online = {f"online_model.{key}": value + 1 for key, value in official.items()}
        ema = {"initted": torch.tensor(True), **averaged, **online}
        content = {"step": 3, "model": online, "ema": ema, "opt": {}, "version": "1"}
    torch.save(content, tmp_path / "model.pt")
    found = read_official(tmp_path / "model.pt")
    assert found.keys() == official.keys()
    torch.testing.assert_close(found[SPLIT], official[SPLIT])


class Payload:
    """What unpickling would execute."""

    def __reduce__(self):
        return (pytest.fail, ("the checkpoint was executed",))


def test_files_that_are_not_dfm(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    with pytest.raises(UserError, match="There is no file"):
        read_official(path)
    path.write_text("no checkpoint")
    with pytest.raises(UserError, match="cannot be read"):
        read_official(path)
    torch.save({"model": Payload()}, path)
    with pytest.raises(UserError, match="cannot be read"):
        read_official(path)
    torch.save({"model": {"weight": torch.zeros(2)}}, path)
    with pytest.raises(UserError, match="does not hold the weights of DFM"):
        read_official(path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda d: d.pop("model.enc.cnn_skip.bias"), "lacks the tensor"),
        (lambda d: d.pop("model.enc.conv1.weight"), "lacks the tensor"),
        (lambda d: d.pop("model.enc.cnn_refine.weight"), "lacks"),
        (lambda d: d.pop(LABELS), "lacks"),
        (lambda d: d.update({"model.enc.extra": torch.zeros(1)}), "does not have"),
        (lambda d: d.update({"model.enc.cnn_skip.bias": torch.zeros(3)}), "shape"),
        (lambda d: d["model.enc.cnn_skip.bias"].fill_(torch.nan), "not finite"),
    ],
)
def test_damaged_weights(damage, message: str) -> None:
    official = small_official("dfm_re10k")
    damage(official)
    with pytest.raises(UserError, match=message):
        load_official(official)
