"""Error maps in closed form, and which numbers a page marks as best."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image

from unseen.export.colormap import colorize
from unseen.export.evaluation_page import (
    FULL_ERROR,
    Card,
    CardRow,
    EvaluationPage,
    PageTable,
    Shown,
    build_page,
    error_map,
)


def test_error_maps() -> None:
    truth = torch.full((3, 1, 3), 0.25)
    image = truth.clone()
    image[:, 0, 1] += torch.tensor([FULL_ERROR, 0.0, -FULL_ERROR / 2])
    image[:, 0, 2] += 0.75
    found = error_map(image, truth)
    torch.testing.assert_close(found, colorize(torch.tensor([[0.0, 0.5, 1.0]])))


def page(**values) -> str:
    empty = EvaluationPage("t", "s", [], [], [], [], [], [], [], {}, "c")
    return build_page(EvaluationPage(**{**vars(empty), **values}))


def test_the_best_numbers_are_marked() -> None:
    rows = [
        ["a", "64", "20.1", "0.3", "–"],
        ["b", "32", "20.3", "0.1", "–"],
        ["mean", "64", "99.0", "0.0", "1.0"],
    ]
    columns = ["method", "pixels", "PSNR ↑", "LPIPS ↓", "FID ↓"]
    shown = page(tables=[PageTable("x", columns, rows)], muted=["mean"])
    marked = [part.split("<")[0] for part in shown.split('<td class="best">')[1:]]
    assert marked == ["20.3", "0.1"]


def test_a_page_without_pictures_and_charts() -> None:
    shown = page(notes=["<b>"], settings={"a": "{{title}}"})
    assert shown.count("<section hidden>") == 2
    assert "<p>&lt;b&gt;</p>" in shown and "<dd>{{title}}</dd>" in shown


def test_small_pictures_are_shown_in_whole_multiples(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", (48, 48)).save(path)
    row = CardRow("view 3", path, [Shown("m", path, path, "9 dB")])
    shown = page(cards=[Card("scene", [path, path], [row])])
    assert shown.count('width="144" height="144"') == 2 + 1 + 2
    assert "input 2" in shown and "error of m" in shown and "9 dB" in shown
