"""`unseen eval-prior`: measure models that sample objects without an image."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from unseen.cli.progress import labelled_bars
from unseen.errors import UserError

if TYPE_CHECKING:
    from unseen.cli.eval_setup import Entry
    from unseen.evaluation.journal import Journal
    from unseen.evaluation.prior import PriorPlan
    from unseen.evaluation.tables import Table

TRAINING = "training objects"
"""The row that stands beside the models."""


@dataclasses.dataclass(frozen=True)
class EvalPrior:
    """Measure what models of objects themselves sample, without any image.

    Renderings and surfaces of samples are compared, as sets, with those of held-out
    objects: Frechet distances, coverage and minimum matching distance. Training objects
    in the place of samples stand beside the models, and for every sample its nearest
    training object is told: samples that are as near as copies were memorised.

    With --out, a folder gets results.json, table.md, nearest.png and what was measured
    of each sample; the same command continues after an interruption.
    """

    models: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Names of bundled models, or folders; "label=model" gives one a name in tables."""
    data: Path
    """Data set folder; its test split is compared with, its training split is known."""
    train: Path | None = None
    """Data set folder of the training objects, where --data has no training split."""
    out: Path | None = None
    """Folder to write; without it the table is printed and nothing is kept."""
    samples: int = 64
    """Scenes per model."""
    views: int = 4
    """Renderings per scene."""
    points: int = 1024
    """Points on each surface."""
    resolution: int = 64
    """Voxels along the longest side of the grid that surfaces are extracted from."""
    objects: int | None = None
    """Held-out objects: the first by name; by default all."""
    training_objects: int | None = None
    """Training objects: the first by name; by default all."""
    inception: str | None = None
    """Weights of FID and KID: the file pt_inception-2015-12-05-6726825d.pth, or a name
    on the hub."""
    pictures: int = 8
    """Samples that are shown beside their nearest training object."""
    steps: int | None = None
    """Denoising steps; by default the model's own number."""
    seed: int = 0
    """Other seeds give other samples."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute; by default on the GPU where there is one."""

    def run(self) -> None:
        """Measure, print the table, and write the folder where that was asked for."""
        from unseen.cli.eval_setup import load_entries
        from unseen.evaluation.prior_objects import PriorSettings
        from unseen.files import check_place
        from unseen.training.trainer import choose_device

        settings = PriorSettings(self.samples, self.views, self.points, self.seed)
        self._check()
        device = choose_device(self.device).type
        if self.out is not None:
            check_place(self.out)
        entries = load_entries(self.models, self.steps, None, device)
        for entry in entries:
            if entry.candidate.method.min_context > 0:
                raise UserError(
                    f"{entry.candidate.label} makes scenes of images, which `unseen "
                    "eval` measures: name models that sample without an image."
                )
        with labelled_bars() as bar:
            plan = self._plan(entries, settings, device, bar)
            if self.out is not None:
                self._measure(entries, plan, self.out, device, bar, keep=True)
            else:
                with tempfile.TemporaryDirectory() as folder:
                    self._measure(entries, plan, Path(folder), device, bar, keep=False)

    def _check(self) -> None:
        """Refuse what makes no sense before anything slow happens."""
        for name in ("objects", "training_objects", "resolution"):
            value = getattr(self, name)
            if value is not None and value < 2:
                flag = name.replace("_", "-")
                raise UserError(f"--{flag} must be at least 2, not {value}.")
        if self.pictures < 0:
            raise UserError(f"show at least no sample, not {self.pictures}.")
        if self.out is not None and self.out.is_file():
            raise UserError(f"{self.out} is a file: name a folder with --out.")

    def _plan(
        self, entries: list[Entry], settings: Any, device: str, bar: Any
    ) -> PriorPlan:
        """Read the objects that samples are compared with."""
        from unseen.cli.eval import largest_side
        from unseen.cli.eval_setup import load_metrics
        from unseen.data.formats import has_split, open_dataset
        from unseen.evaluation.prior import PriorPlan
        from unseen.evaluation.prior_objects import study_objects

        sides = {entry.candidate.image_size for entry in entries}
        if len(sides) > 1:
            raise UserError(
                f"the models work at {' and '.join(map(str, sorted(sides)))} pixels, "
                "and distances of images of several sizes cannot be compared: measure "
                "them one after the other."
            )
        if self.train is None and not has_split(self.data, "train"):
            raise UserError(
                f"{self.data} has no training split: name the training objects with "
                "--train."
            )
        side = largest_side(entries)
        held_out = open_dataset(self.data, "test", side=side)
        training = open_dataset(self.train or self.data, "train", side=side)
        known = [
            study_objects(dataset, most, side, settings, bar(label))
            for dataset, most, label in (
                (held_out, self.objects, "Held-out objects"),
                (training, self.training_objects, "Training objects"),
            )
        ]
        return PriorPlan(
            self.data.name,
            known[0],
            known[1],
            settings,
            load_metrics(None, "vgg", self.inception, (), device),
            self._surface,
            self.pictures,
        )

    def _surface(self, scene: Any, count: int, generator: Any) -> Any:
        """Points on the extracted surface of a scene."""
        import numpy as np
        import torch

        from unseen.evaluation.surfaces import mesh_points
        from unseen.export.mesh import extract_mesh

        mesh = extract_mesh(scene, self.resolution)
        vertices = torch.from_numpy(np.array(mesh.vertices)).float()
        faces = torch.from_numpy(np.array(mesh.faces)).long()
        return mesh_points(vertices, faces, count, generator)

    def _measure(
        self,
        entries: list[Entry],
        plan: PriorPlan,
        folder: Path,
        device: str,
        bar: Any,
        keep: bool,
    ) -> None:
        """Sample and compare; continue where an earlier run stopped."""
        from unseen.evaluation.journal import Journal
        from unseen.evaluation.prior import (
            collect_prior,
            held_out_nearest,
            measure_prior,
            training_as_samples,
        )

        settings = self._settings(entries, plan, device)
        journal = Journal(folder, settings)
        try:
            for entry in entries:
                measure_prior(
                    entry.candidate, plan, journal, bar(entry.candidate.label)
                )
        except KeyboardInterrupt:
            where = f"; the same command continues in {folder}" if keep else ""
            raise KeyboardInterrupt(f"interrupted{where}") from None
        rows = {
            e.candidate.label: collect_prior(e.candidate.label, plan, journal)
            for e in entries
        }
        rows[TRAINING] = training_as_samples(plan)
        values = {
            "settings": settings,
            "methods": [entry.facts for entry in entries],
            "numbers": rows,
            "held_out_nearest": held_out_nearest(plan),
        }
        self._show(values, plan, journal, keep)

    def _settings(
        self, entries: list[Entry], plan: PriorPlan, device: str
    ) -> dict[str, Any]:
        """Everything that numbers depend on, as JSON values."""
        from unseen.cli.eval_setup import digest_weights

        plain = ("samples", "views", "points", "resolution", "pictures", "seed")
        return {
            "format": 1,
            "protocol": "prior",
            **{name: getattr(self, name) for name in plain},
            "device": device,
            "data": plan.data,
            "held_out": list(plan.held_out.names),
            "training": list(plan.training.names),
            "inception": digest_weights(self.inception),
            "methods": {
                e.facts["label"]: [e.facts["digest"], e.facts["options"]]
                for e in entries
            },
        }

    def _show(
        self,
        values: dict[str, Any],
        plan: PriorPlan,
        journal: Journal,
        keep: bool,
    ) -> None:
        """Print the table and the notes, and write the files where they are kept."""
        from unseen.cli.eval_results import RESULTS, TABLE, print_table
        from unseen.configuration import write_json
        from unseen.evaluation.prior_tables import (
            nearest_table,
            prior_notes,
            prior_table,
        )
        from unseen.export.pairs import save_pairs

        table, notes = prior_table(values, plan), prior_notes(values, plan, journal)
        print_table(table)
        for note in notes:
            print(note)
        if not keep:
            return
        folder = journal.folder
        nearest = nearest_table(journal)
        write_json(
            folder / RESULTS,
            {**values, "nearest": [row for row in nearest.rows]},
        )
        _write_table(folder / TABLE, [table, nearest], notes)
        written = [folder / RESULTS, folder / TABLE]
        shown = [r for r in journal.records.values() if r.numbers.get("pictures")]
        pairs = []
        for record in shown:
            sample, nearest = (folder / path for path in record.numbers["pictures"])
            name = f"{record.method}, {record.scene}"
            pairs.append(
                ((name, sample), (record.numbers["nearest"]["object"], nearest))
            )
        if pairs:
            written.append(folder / "nearest.png")
            save_pairs(pairs, written[-1])
        for path in written:
            print(path)


def _write_table(path: Path, tables: Sequence[Table], notes: Sequence[str]) -> None:
    from unseen.files import atomic_file

    with atomic_file(path) as temporary:
        lines = [*(table.markdown() for table in tables)]
        lines += [f"- {note}" for note in notes]
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
