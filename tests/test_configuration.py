"""Configurations survive JSON, and broken ones are refused by name."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, Literal

import pytest

from unseen.configuration import from_json, read_json, to_json, write_json
from unseen.errors import UserError


@dataclasses.dataclass(frozen=True)
class Sphere:
    radius: float = 1.0
    smooth: bool = True


@dataclasses.dataclass(frozen=True)
class Box:
    sides: tuple[int, int, int]


@dataclasses.dataclass(frozen=True)
class Outer:
    shape: Sphere | Box
    kind: Literal["a", "b"] = "a"
    scales: tuple[float, ...] = ()
    names: list[str] = dataclasses.field(default_factory=list)
    table: dict[str, Sphere] = dataclasses.field(default_factory=dict)
    limit: int | None = None
    anything: Any = None


EXAMPLES = [
    Outer(Sphere(2.0)),
    Outer(Box((1, 2, 3)), "b", (0.5, 2.0), ["x"], {"y": Sphere(3.0)}, 7, {"z": [1]}),
]


@pytest.mark.parametrize("value", EXAMPLES)
def test_round_trip(value: Outer, tmp_path: Path) -> None:
    write_json(tmp_path / "file.json", to_json(value))
    assert from_json(Outer, read_json(tmp_path / "file.json"), "file") == value


def test_missing_settings_take_their_defaults() -> None:
    assert from_json(Outer, {"shape": {"radius": 1}}, "file") == Outer(Sphere(1.0))


def test_whole_numbers_become_floats() -> None:
    assert isinstance(from_json(Sphere, {"radius": 1}, "file").radius, float)


BROKEN = {
    "unknown": {"shape": {"radius": 1.0}, "size": 2},
    "no default": {"kind": "a"},
    "literal": {"shape": {"radius": 1.0}, "kind": "c"},
    "union": {"shape": {"edges": 3}},
    "length": {"shape": {"sides": [1, 2]}},
    "type": {"shape": {"radius": "large"}},
    "truth": {"shape": {"radius": True}},
    "entry": {"shape": {"radius": 1.0}, "scales": ["x"]},
    "optional": {"shape": {"radius": 1.0}, "limit": 0.5},
    "list": [],
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_configuration_names_the_file(name: str) -> None:
    with pytest.raises(UserError, match=r"^model\.json") as error:
        from_json(Outer, BROKEN[name], "model.json")
    assert str(error.value).endswith(".")


def test_values_that_are_not_settings_are_a_programming_error() -> None:
    with pytest.raises(TypeError, match="object"):
        to_json({"x": object()})


@pytest.mark.parametrize("text", [None, "{", json.dumps([1])])
def test_unreadable_file(text: str | None, tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError, match=r"file\.json"):
        read_json(path)
