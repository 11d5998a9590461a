"""The table of the field: published numbers beside those of finished evaluations.

Three groups of columns: as published (ShapeNet-SRN, one input view), by weights that
the authors released, and by models that were trained here. A dash stands where no
source states a number, and where nothing was run. What the small presets reached is
recorded in `assets/field_results.json`, which `python -m benchmarks.field` writes.
"""

from __future__ import annotations

import dataclasses
import importlib.resources
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from unseen.configuration import read_json
from unseen.errors import UserError
from unseen.evaluation.published import FID_SOURCE, FIELD, FieldRow, Published
from unseen.evaluation.summary import ALL
from unseen.evaluation.tables import DASH, Table, counts, number

UNCHECKED = "*"
"""Stands behind a published number that was not checked against the paper."""

Origin = Literal["imported", "trained"]

RECORDED = "assets/field_results.json"

_DIGITS = {"PSNR": 2, "SSIM": 3, "LPIPS": 3, "FID": 1}
# Beside them stands the distance that needs no weights; it is no FID.
_MEASURED_DIGITS = {**_DIGITS, "Frechet (random-conv)": 2}


@dataclasses.dataclass(frozen=True)
class Measured:
    """What a finished evaluation says of one model on one data set."""

    method: str
    origin: Origin
    label: str
    data: str
    protocol: str
    pixels: int
    numbers: Mapping[str, Any]


def read_measured(folders: Sequence[Path]) -> list[Measured]:
    """Every model on every data set of finished evaluations.

    Raises:
        UserError: a folder holds no results, or those of another protocol than novel
            views.
    """
    found = [entry for folder in folders for entry in _read(folder)]
    if folders and not found:
        raise UserError(
            f"{folders[0]} holds no model that was imported or trained: name folders "
            "that `unseen eval --out` wrote."
        )
    return found


def read_recorded() -> list[Measured]:
    """What the small presets reached here, as it comes with the package."""
    path = importlib.resources.files("unseen").joinpath(RECORDED)
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
    return [Measured(**row) for row in rows]


def recorded_note() -> str:
    """Where the recorded numbers are from: the command, the machine, the data."""
    path = importlib.resources.files("unseen").joinpath(RECORDED)
    return json.loads(path.read_text(encoding="utf-8"))["note"]


def _read(folder: Path) -> Iterator[Measured]:
    path = folder / "results.json"
    if not path.is_file():
        raise UserError(
            f"{folder} holds no results.json: name a folder that `unseen eval --out` "
            "wrote, and let it finish."
        )
    results = read_json(path)
    try:
        protocol = results["protocol"]["name"]
        if protocol == "posterior":
            raise UserError(
                f"{folder} holds samples of the posterior, which is another protocol: "
                "evaluate with --protocol single, or srn."
            )
        for method in results["methods"]:
            if method["kind"] != "method":
                continue
            origin = "imported" if "imported" in method["provenance"] else "trained"
            for data, numbers in results["numbers"][method["label"]].items():
                if data != ALL:
                    yield Measured(
                        method["method"],
                        origin,
                        method["label"],
                        data,
                        protocol,
                        method["image_size"],
                        numbers,
                    )
    except (KeyError, TypeError) as error:
        raise UserError(
            f"{path} is not of this program, or of a newer version ({error}): "
            "evaluate again."
        ) from error


def field_tables(measured: Sequence[Measured]) -> list[Table]:
    """As published, then by imported weights, then by models that were trained here."""
    return [
        _published("cars"),
        _published("chairs"),
        _of_origin("Imported weights", "imported", measured),
        _of_origin("Trained here", "trained", measured),
    ]


def field_notes() -> list[str]:
    """Where published numbers are from, and what their mark means."""
    papers = "; ".join(f"{row.name}: {row.paper}" for row in FIELD)
    return [
        f"As published: ShapeNet-SRN, 128x128, view 64 given. {papers}. {FID_SOURCE}",
        f"{UNCHECKED} quoted from memory and not checked against the paper: look it "
        "up before you quote it.",
        f"{DASH} stated by no source at hand, or not run.",
    ]


def _published(category: Literal["cars", "chairs"]) -> Table:
    rows = []
    for row in FIELD:
        found: Published = getattr(row, category)
        values = {
            "PSNR": found.psnr,
            "SSIM": found.ssim,
            "LPIPS": found.lpips,
            "FID": found.fid,
        }
        mark = "" if found.checked else UNCHECKED
        # Papers print two decimals of SSIM.
        digits = _DIGITS | {"SSIM": 2, "FID": 2}
        cells = [
            DASH if v is None else number(v, digits[n]) + mark
            for n, v in values.items()
        ]
        rows.append([row.name, *cells])
    return Table(f"As published: ShapeNet-SRN {category}", ["", *_DIGITS], rows)


def _of_origin(title: str, origin: Origin, measured: Sequence[Measured]) -> Table:
    """One line per model and data set; a line of dashes where nothing was run."""
    heads = ["", "model", "data", "protocol", "pixels", "measured on"]
    heads += _MEASURED_DIGITS
    rows = [
        line
        for row in FIELD
        for line in _lines(row, [m for m in measured if m.origin == origin])
    ]
    return Table(title, heads, rows)


def _lines(row: FieldRow, measured: Sequence[Measured]) -> list[list[str]]:
    own = [m for m in measured if m.method == row.method]
    if not own:
        return [[row.name, *[DASH] * (5 + len(_MEASURED_DIGITS))]]
    return [
        [
            row.name,
            m.label,
            m.data,
            m.protocol,
            str(m.pixels),
            counts(m.numbers),
            *(
                number(_metric(m.numbers, name), digits)
                for name, digits in _MEASURED_DIGITS.items()
            ),
        ]
        for m in own
    ]


def _metric(numbers: Mapping[str, Any], name: str) -> float | None:
    """A metric by its name, whatever stands behind it: "LPIPS (vgg)" is LPIPS."""
    for key, value in numbers.items():
        if key == name or key.split(" ")[0] == name:
            return value
    return None
