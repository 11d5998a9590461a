"""The examples run, from any folder, with shapes checked; they are short."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from unseen.checkpoints.model_folder import bundled_models

EXAMPLES = sorted((REPOSITORY / "examples").glob("*.py"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "unseen.load" in path.read_text() and not bundled_models():
        pytest.skip("this checkout holds no bundled model")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(path)])
    runpy.run_path(str(path), run_name="__main__")


def test_examples_are_short_and_numbered() -> None:
    names = [path.name[:2] for path in EXAMPLES]
    assert names == sorted(set(names)) and all(name.isdigit() for name in names)
    for path in EXAMPLES:
        assert len(path.read_text().splitlines()) < 80
