"""The table of the field: dashes where nothing is known, numbers where something is."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from unseen.cli.main import main
from unseen.errors import UserError
from unseen.evaluation.field_table import field_tables, read_measured
from unseen.evaluation.published import FIELD
from unseen.evaluation.tables import DASH
from unseen.methods.registry import METHODS


def results(folder: Path, methods: list[tuple[str, dict[str, Any]]]) -> Path:
    """A folder of results of the right form."""
    folder.mkdir()
    numbers = {"scenes": 3, "views": 750, "PSNR": 21.5, "SSIM": 0.8, "FID": None}
    numbers |= {"LPIPS (vgg)": 0.25, "Frechet (random-conv)": 1.25}
    listed = [
        {
            "label": f"my {name}",
            "method": name,
            "kind": "method",
            "image_size": 64,
            "provenance": provenance,
        }
        for name, provenance in methods
    ]
    every = [*listed, {"label": "mean", "kind": "baseline", "image_size": 64}]
    content = {
        "protocol": {"name": "srn"},
        "methods": every,
        "numbers": {m["label"]: {"cars": numbers, "all": numbers} for m in every},
    }
    (folder / "results.json").write_text(json.dumps(content))
    return folder


def test_rows_are_the_field_and_columns_say_where_numbers_come_from(
    tmp_path: Path,
) -> None:
    first = results(tmp_path / "a", [("SRN", {"preset": "srn-small"}), ("DFM", {})])
    second = results(tmp_path / "b", [("SRN", {"imported": "srn"})])
    cars, chairs, imported, trained = field_tables(read_measured([first, second]))
    names = [row[0] for row in cars.rows]
    assert names == [row.name for row in FIELD] == [row[0] for row in imported.rows]
    assert list(cars.columns) == ["", "PSNR", "SSIM", "LPIPS", "FID"]
    assert cars.rows[0] == ["SRN", "22.25*", "0.89*", DASH, "41.21*"]
    assert chairs.rows[-1] == ["DFM", DASH, DASH, DASH, DASH]
    expected = ["cars", "srn", "64", "3 scenes, 750 views", "21.50", "0.800", "0.250"]
    assert imported.rows[0] == ["SRN", "my SRN", *expected, DASH, "1.25"]
    assert set(imported.rows[-1][1:]) == {DASH}
    assert trained.rows[0][1] == "my SRN" and trained.rows[-1][1] == "my DFM"


def test_every_row_of_ours_is_a_method() -> None:
    assert {row.method for row in FIELD} <= set(METHODS)


def test_nothing_was_run() -> None:
    *_, imported, trained = field_tables(read_measured([]))
    for table in (imported, trained):
        assert all(set(row[1:]) == {DASH} for row in table.rows)


def test_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = results(tmp_path / "a", [("LFN", {})]), tmp_path / "table.md"
    command = ["unseen", "eval", "table", str(folder), "--out", str(out)]
    monkeypatch.setattr(sys, "argv", command)
    main()
    shown, text = capsys.readouterr().out, out.read_text()
    assert "my LFN" in shown and shown.splitlines()[-1] == str(out)
    assert "| LFN | my LFN | cars | srn | 64 | 3 scenes, 750 views | 21.50 |" in text
    assert "not checked against the paper" in text
    with pytest.raises(SystemExit):
        main()
    assert f"{out} exists" in capsys.readouterr().err


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no results\.json"):
        read_measured([tmp_path])
    folder = results(tmp_path / "a", [])
    with pytest.raises(UserError, match="no model that was imported or trained"):
        read_measured([folder])
    (folder / "results.json").write_text('{"protocol": {"name": "posterior"}}')
    with pytest.raises(UserError, match="another protocol"):
        read_measured([folder])
    (folder / "results.json").write_text("{}")
    with pytest.raises(UserError, match="not of this program"):
        read_measured([folder])
