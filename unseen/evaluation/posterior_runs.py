"""The posterior's numbers of several methods, object by object, kept in a journal."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from jaxtyping import Float
from torch import Tensor

from unseen.data.dataset import PosedDataset
from unseen.evaluation.baselines import Report
from unseen.evaluation.held_out import PosteriorSettings, Subject, observe
from unseen.evaluation.journal import Journal, Record, file_name
from unseen.evaluation.places import view_angles
from unseen.evaluation.posterior import (
    ObjectParts,
    Observation,
    PosteriorNumbers,
    describe,
    summarise,
)

SHOWN_VIEW = 0.5
"""Which of the held-out views is shown, as a fraction of them in order of angle."""


def measure_posterior(
    label: str,
    subject: Subject,
    data: tuple[str, PosedDataset],
    settings: PosteriorSettings,
    journal: Journal,
    pictures: int,
    report: Report,
) -> None:
    """Observe the objects of a data set that the journal does not hold yet."""
    name, dataset = data
    done = {key[2] for key in journal.records if key[:2] == (label, name)}
    shown = set(dataset.scene_ids[: min(pictures, settings.objects)])
    for seen in observe(subject, [dataset], settings, report, done):
        key, parts = (label, name, seen.scene), describe(seen)
        numbers: dict[str, Any] = {
            "samples": parts.samples,
            "psnrs": parts.psnrs,
            "pooled": parts.pooled,
            "seconds": seen.seconds,
            "pictures": _write_pictures(journal, key, seen)
            if seen.scene in shown
            else None,
        }
        journal.add(Record(*key, numbers, journal.write_features(key, parts.features)))


def collect_posterior(
    label: str, datasets: Mapping[str, PosedDataset], journal: Journal
) -> dict[str, PosteriorNumbers]:
    """The numbers of each data set and, if there are several, of all together."""
    parts: dict[str, list[ObjectParts]] = {name: [] for name in datasets}
    for name, dataset in datasets.items():
        for scene in dataset.scene_ids:
            record = journal.records.get((label, name, scene))
            if record is not None:
                parts[name].append(_parts(record, journal.read_features(record)))
    numbers = {name: summarise(found) for name, found in parts.items()}
    if len(numbers) > 1:
        numbers["all"] = summarise([p for found in parts.values() for p in found])
    return numbers


def _parts(
    record: Record, features: dict[str, Float[Tensor, "view feature"]]
) -> ObjectParts:
    numbers = record.numbers
    return ObjectParts(
        numbers["samples"], numbers["psnrs"], numbers["pooled"], features
    )


def _write_pictures(
    journal: Journal, key: tuple[str, str, str], seen: Observation
) -> dict[str, Any]:
    """Keep the input, and one held-out view: truth, samples, deterministic branch."""
    label, data, scene = key
    angles = view_angles(seen.novel.cameras, seen.given.cameras)
    view = angles.argsort().tolist()[round(SHOWN_VIEW * (len(angles) - 1))]
    base = file_name(data, scene)
    own = f"{base}={file_name(label)}"
    images = {"truth": seen.novel.images[view], "deterministic": seen.mean[view]}
    for number, sample in enumerate(seen.samples[:3], 1):
        images[f"sample {number}"] = sample[view]
    return {
        "given": [journal.write_picture(f"{base}=input", seen.given.images[0])],
        "angle": round(float(angles[view]), 1),
        "shown": {
            name: journal.write_picture(f"{own}={file_name(name)}", image)
            for name, image in images.items()
        },
    }


def posterior_fields() -> list[str]:
    """Names of the posterior's numbers, in the order of the table."""
    return [field.name for field in dataclasses.fields(PosteriorNumbers)]
