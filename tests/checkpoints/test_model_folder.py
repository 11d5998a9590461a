"""Models on disk: what is written is what is read, and nothing else passes."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from unseen.checkpoints import model_folder
from unseen.checkpoints.model_folder import (
    FORMAT_VERSION,
    bundled_models,
    describe_model,
    load_model,
    load_weights,
    save_model,
)
from unseen.errors import UserError
from unseen.files import read_tensors, write_tensors
from unseen.geometry.cameras import Cameras
from unseen.geometry.views import Example, Views
from unseen.methods import registry
from unseen.methods.method import Losses, Method


@dataclasses.dataclass(frozen=True)
class PlainConfig:
    """Settings of the smallest method."""

    channels: int = 3
    scales: tuple[float, ...] = (1.0, 0.5)


class Plain(Method):
    """The smallest method: a linear map, tied to its own transpose, and a counter."""

    def __init__(self, config: PlainConfig) -> None:
        super().__init__()
        self.config = config
        self.first = nn.Linear(config.channels, config.channels)
        self.second = nn.Linear(config.channels, config.channels)
        self.second.weight = self.first.weight
        self.register_buffer("steps", torch.tensor(5))

    def loss(self, example: Example, generator: torch.Generator) -> Losses:
        return Losses(self.first.weight.sum(), {})

    def sample(
        self, context: Views, cameras: Cameras, generator: torch.Generator
    ) -> Views:
        return context


@pytest.fixture(autouse=True)
def _plain_is_a_method(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.METHODS, "Plain", (Plain, PlainConfig))


def _plain(channels: int = 3) -> Plain:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Plain(PlainConfig(channels, (2.0,)))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_model(_plain(), tmp_path / "model", {"step": 12})
    return tmp_path / "model"


def test_round_trip(folder: Path) -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    loaded = load_model(folder)
    assert torch.equal(torch.get_rng_state(), before)
    assert isinstance(loaded, Plain)
    assert loaded.config == PlainConfig(3, (2.0,))
    assert not loaded.training
    original = _plain().state_dict()
    assert all(torch.equal(original[k], v) for k, v in loaded.state_dict().items())
    assert loaded.first.weight is loaded.second.weight


def test_saving_again_replaces_the_model(folder: Path) -> None:
    save_model(_plain(4), folder, {})
    assert load_model(folder).config.channels == 4  # type: ignore[union-attr]


@pytest.mark.parametrize("stored", ["float16", "bfloat16"])
def test_half_precision_on_disk_loads_as_float32(tmp_path: Path, stored: str) -> None:
    method = _plain()
    save_model(method, tmp_path, {}, stored)
    tensors, _ = read_tensors(tmp_path / "model.safetensors")
    assert str(tensors["first.weight"].dtype) == f"torch.{stored}"
    assert tensors["steps"].dtype == torch.int64
    loaded = load_model(tmp_path).state_dict()["first.weight"]
    assert loaded.dtype == torch.float32
    assert torch.equal(loaded, method.first.weight.to(tensors["first.weight"].dtype))
    torch.testing.assert_close(loaded, method.first.weight, atol=2e-3, rtol=0)


def test_weights_that_overflow_are_not_stored(tmp_path: Path) -> None:
    method = _plain()
    method.first.bias.data[0] = 1e6
    with pytest.raises(UserError, match=r"'first\.bias'.*float16"):
        save_model(method, tmp_path, {}, "float16")
    assert not list(tmp_path.iterdir())


def test_unknown_stored_type(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="float8"):
        save_model(_plain(), tmp_path, {}, "float8")


def test_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file"):
        save_model(_plain(), tmp_path / "file" / "model", {})


def test_training_run_is_a_model(folder: Path) -> None:
    (folder.parent / "config.json").write_text("{}")
    assert isinstance(load_model(folder.parent), Plain)


def test_weights_into_another_method(folder: Path) -> None:
    method = Plain(PlainConfig())
    load_weights(method, folder)
    assert torch.equal(method.first.weight, _plain().first.weight)
    with pytest.raises(UserError, match="shape"):
        load_weights(Plain(PlainConfig(4)), folder)


# Damaged tensors.

Change = Callable[[dict[str, torch.Tensor]], Any]
TENSOR_DAMAGES: dict[str, tuple[Change, str]] = {
    "missing": (lambda t: t.pop("first.bias"), "first.bias"),
    "extra": (lambda t: t.update(third=torch.zeros(1)), "third"),
    "misshapen": (lambda t: t.update({"first.bias": torch.zeros(4)}), "first.bias"),
    "not a number": (lambda t: t["first.bias"].fill_(torch.nan), "first.bias"),
    "infinite": (lambda t: t["first.bias"].fill_(torch.inf), "first.bias"),
}


@pytest.mark.parametrize("damage", TENSOR_DAMAGES)
def test_damaged_tensor_is_named(folder: Path, damage: str) -> None:
    path = folder / "model.safetensors"
    tensors, _ = read_tensors(path)
    change, name = TENSOR_DAMAGES[damage]
    change(tensors)
    write_tensors(path, tensors, {})
    with pytest.raises(UserError) as error:
        load_model(folder)
    _assert_sentence(error.value, f"'{name}'", str(path))


@pytest.mark.parametrize("content", [b"", b"a text", None])
def test_wrong_and_truncated_files(folder: Path, content: bytes | None) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] if content is None else content)
    with pytest.raises(UserError) as error:
        load_model(folder)
    _assert_sentence(error.value, str(path))


def test_missing_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(UserError) as error:
        load_model(folder)
    _assert_sentence(error.value, "model.safetensors")


# Damaged configurations.

CONFIG_DAMAGES: dict[str, tuple[dict[str, Any], str]] = {
    "unknown method": ({"method": "Nonsense"}, "'Nonsense'"),
    "newer": ({"format_version": FORMAT_VERSION + 1}, "newer version"),
    "no version": ({"format_version": None}, "wrong file"),
    "no method": ({"method": None}, "wrong file"),
    "no settings": ({"config": None}, "object of settings"),
    "unknown setting": ({"config": {"colour": 1}}, "'colour'"),
    "wrong type": ({"config": {"channels": "three"}}, "channels"),
}


@pytest.mark.parametrize("damage", CONFIG_DAMAGES)
def test_damaged_configuration_is_named(folder: Path, damage: str) -> None:
    path = folder / "config.json"
    change, named = CONFIG_DAMAGES[damage]
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(UserError) as error:
        load_model(folder)
    _assert_sentence(error.value, named, str(path))


@pytest.mark.parametrize("text", ["", "[1]", "not json"])
def test_configuration_that_is_no_json_object(folder: Path, text: str) -> None:
    (folder / "config.json").write_text(text)
    with pytest.raises(UserError) as error:
        load_model(folder)
    _assert_sentence(error.value, "config.json")


# Names.


def test_bundled_models_are_found_by_name(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_folder, "BUNDLED_FOLDER", folder.parent)
    assert bundled_models() == ["model"]
    assert isinstance(load_model("model"), Plain)
    with pytest.raises(UserError, match=r"no model 'chair': bundled models are model;"):
        load_model("chair")


def test_empty_folder_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no config\.json"):
        load_model(tmp_path)


def test_hub_name_without_the_hub_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install huggingface_hub"):
        load_model("organisation/name")


def test_hub_model_is_fetched(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = type(sys)("huggingface_hub")
    errors = type(sys)("huggingface_hub.errors")
    errors.HfHubHTTPError = errors.HFValidationError = ValueError  # type: ignore
    asked = []

    def snapshot_download(
        name: str, allow_patterns: list[str], ignore_patterns: list[str]
    ) -> str:
        if name != "organisation/name":
            raise ValueError("404\nlong text")
        asked.extend(allow_patterns)
        return str(folder)

    hub.snapshot_download = snapshot_download  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    monkeypatch.setitem(sys.modules, "huggingface_hub.errors", errors)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: hub)
    assert isinstance(load_model("organisation/name"), Plain)
    assert asked == ["config.json", "model.safetensors"]
    with pytest.raises(UserError, match=r"'other/name'.*\(404\)"):
        load_model("other/name")


def test_description(folder: Path) -> None:
    (folder / "metrics.json").write_text('{"psnr": 25.5}')
    description = describe_model(folder)
    assert description["method"] == "Plain"
    # The tied matrix is stored under both names.
    assert description["parameters"] == 9 + 3 + 9 + 3 + 1
    assert description["step"] == 12
    assert description["metrics"] == {"psnr": 25.5}


def _assert_sentence(error: UserError, *named: str) -> None:
    text = str(error)
    assert text.endswith(".")
    assert "\n" not in text
    for name in named:
        assert name in text
