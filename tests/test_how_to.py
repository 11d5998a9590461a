"""The code of the page on forward models runs, is short, and learns."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import REPOSITORY

PAGE = REPOSITORY / "docs" / "how-to" / "forward-model.md"


def run_page(steps: int, folder: Path) -> dict[str, Any]:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(code.splitlines()) < 60
    script = folder / "page.py"
    script.write_text(code)
    return runpy.run_path(str(script), {"STEPS": steps}, "__main__")


def test_the_forward_model_of_the_page_is_sampled(tmp_path: Path) -> None:
    found = run_page(20, tmp_path)
    light = found["lights"].light
    assert light.shape == (2, 3) and light.min() > 0 and light.max() < 1
    assert not torch.allclose(light[0], light[1], atol=1e-5)


@pytest.mark.slow
def test_the_page_learns_the_lamps_of_training(tmp_path: Path) -> None:
    """Uniform from 0.2 to 1 in each colour, though no lamp was ever shown to it."""
    found = run_page(600, tmp_path)
    pictures = found["pictures"][[0] * 8]
    light = found["dfm"].sample_scene(pictures, seeds=range(8)).light
    assert (light.mean(dim=0) - 0.6).abs().max() < 0.25
    assert light.std(dim=0).min() > 0.12 and light.min() > 0.03
