"""The public port's layout of GeNVS, and files that are refused."""

from __future__ import annotations

import json
import pickle
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.parity.synthetic import FIXTURES
from unseen.checkpoints.genvs_port import (
    _DEAD,
    read_genvs,
    read_settings,
    rename_tensors,
)
from unseen.cli.main import main
from unseen.errors import UserError
from unseen.methods.genvs import GeNVS
from unseen.scenes.frustum_features import PORT_RENDERING


@pytest.fixture(scope="module")
def keys() -> dict[str, dict]:
    """Names and shapes of the port's file."""
    return json.loads((FIXTURES / "genvs_full" / "keys.json").read_text())


@pytest.fixture(scope="module")
def official(keys: dict[str, dict]) -> dict[str, Tensor]:
    """Its tensors, without their numbers and without the dead ones."""
    found = {
        key.removeprefix("ema."): torch.empty(entry["shape"], device="meta")
        for key, entry in keys.items()
    }
    return {key: value for key, value in found.items() if not _DEAD.fullmatch(key)}


def test_every_tensor_has_its_place(official: dict[str, Tensor]) -> None:
    config = read_settings(official)
    tensors = rename_tensors(official, config)
    with torch.device("meta"):
        method = GeNVS(config)
    expected = {name: x.shape for name, x in method.state_dict().items()}
    assert {name: x.shape for name, x in tensors.items()} == expected


def test_settings_are_the_ports(official: dict[str, Tensor]) -> None:
    config = read_settings(official)
    assert config.encoder.blocks == (3, 4, 6, 3) and config.encoder.positive
    assert (config.encoder.features, config.encoder.slices) == (16, 64)
    assert (config.field.width, config.field.hidden) == (64, 2)
    denoiser = config.denoiser
    assert denoiser.channels == 128 and denoiser.multipliers == (1, 1, 2, 2, 2)
    assert denoiser.attention == (False, False, False, True, False)
    assert denoiser.num_blocks == 4 and denoiser.input_residual
    assert config.rendering == PORT_RENDERING and config.image_size == 128


def test_no_weight_of_the_networks_is_dropped(keys: dict[str, dict]) -> None:
    """What is left out is what has no influence in the port: see its fixture."""
    meta = json.loads((FIXTURES / "genvs_full" / "meta.json").read_text())
    silent = set(meta["keys_without_influence_on_outputs"])
    for key, entry in keys.items():
        statistic = key.rsplit(".", 1)[-1].startswith(("running", "num_batches"))
        if not statistic and not entry.get("computed", False):
            dead = bool(_DEAD.fullmatch(key.removeprefix("ema.")))
            assert dead == (key in silent), key


class Payload:
    """Unpickling it would make a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_a_pickle_of_code_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    bad, mark = tmp_path / "network-snapshot-004000.pkl", tmp_path / "executed"
    bad.write_bytes(pickle.dumps({"ema": Payload(mark)}))
    words = ["unseen", "import", "genvs", str(bad), str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as stop:
        main()
    error = capsys.readouterr().err.strip()
    assert stop.value.code == 2 and "docs/methods/genvs.md" in error
    assert "\n" not in error and error.endswith(".")
    assert not mark.exists() and not (tmp_path / "out").exists()


def test_other_files_are_refused(tmp_path: Path) -> None:
    other = tmp_path / "other.pt"
    torch.save({"a": torch.zeros(2)}, other)
    with pytest.raises(UserError, match="the weights of the public port"):
        read_genvs(other)
    save_file({"a": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(UserError, match="the weights of the public port"):
        read_genvs(tmp_path / "other.safetensors")
    torch.save({"ema": Payload(tmp_path / "executed")}, other)
    with pytest.raises(UserError):
        read_genvs(other)
    assert not (tmp_path / "executed").exists()
    with pytest.raises(UserError, match="There is no file"):
        read_genvs(tmp_path / "missing.pt")
