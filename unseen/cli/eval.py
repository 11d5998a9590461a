"""`unseen eval`: measure models on scenes that they were not trained on."""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from unseen.cli.progress import labelled_bars
from unseen.errors import UserError

if TYPE_CHECKING:
    from unseen.cli.eval_setup import Entry
    from unseen.data.dataset import PosedDataset
    from unseen.evaluation.journal import Journal
    from unseen.evaluation.novel_views import Plan
    from unseen.evaluation.protocols import Protocol

POSTERIOR = "posterior"

ProtocolName = Literal[
    "single",
    "srn",
    "srn-tenth",
    "srn-two",
    "nmr",
    "co3d-hydrants",
    "re10k-dfm",
    "re10k-pixelsplat",
    "random",
    "posterior",
]
ExtraMetric = Literal["ssim-gaussian", "tsed", "consistency", "reprojection"]


@dataclasses.dataclass(frozen=True)
class Eval:
    """Measure how well models reconstruct, or sample, held-out scenes.

    A protocol says which views are given and which are asked for; what is measured of
    them stands beside two baselines, the mean training image and the nearest training
    object. The protocol `posterior`, of DFM alone, measures several samples per object:
    PSNR, sharpness, diversity and Frechet distance, beside the deterministic branch; it
    needs depth maps.

    With --out, a folder gets results.json, table.md and the page index.html. It grows
    scene by scene: the same command continues after an interruption. `unseen
    eval table` reads such folders.
    """

    models: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Names of bundled models, or folders; "label=model" gives one a name in tables."""
    data: tuple[Path, ...]
    """Data set folders. Their test splits are used; those without a manifest wholly."""
    protocol: ProtocolName | None = None
    """By default `posterior` of DFM, and `single` of other and of several models."""
    out: Path | None = None
    """Folder to write; without it the tables are printed and nothing is kept."""
    index: Path | None = None
    """The published list of views that `nmr` and `re10k-pixelsplat` read."""
    train: tuple[Path, ...] = ()
    """Data set folders whose training objects the baselines know; by default the
    training splits of --data."""
    baselines: bool = True
    """Measure the baselines of protocols of objects."""
    objects: int | None = None
    """Scenes of each data set: the first by name that suit the protocol. By default 32
    for `single`, `random` and `posterior`, 100 for `re10k-dfm`, and otherwise all."""
    context: int = 1
    """Given views per scene, for `random`."""
    views: int = 8
    """Held-out views per scene, for `random` and `posterior`."""
    samples: int | None = None
    """Samples per scene: by default 8 for `posterior`, otherwise 1. Several add a row
    of the best one, that of highest PSNR, to every method whose samples differ."""
    lpips: tuple[str, str] | None = None
    """Weights of LPIPS: torchvision's backbone and the authors' heads, as files or
    names on the Hugging Face hub; see `unseen/evaluation/lpips.py`."""
    lpips_network: Literal["vgg", "alex"] = "vgg"
    """Which backbone that is; tables of novel views mostly show vgg."""
    inception: str | None = None
    """Weights of FID and KID: the file pt_inception-2015-12-05-6726825d.pth, or a name
    on the hub."""
    also: tuple[ExtraMetric, ...] = ()
    """More metrics: SSIM with a Gaussian window of 11 pixels; TSED, for views along a
    path; 3DiM's consistency score; re-projection through a field fitted to them."""
    pictures: int = 6
    """Scenes of each kind that the page shows."""
    steps: int | None = None
    """Denoising steps, or steps of fitting codes; by default the model's own number."""
    guidance: float | None = None
    """Classifier-free guidance scale; by default the model's own."""
    seed: int = 0
    """Seed of the samples, and of the views of `random`."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute; by default on the GPU where there is one."""

    def run(self) -> None:
        """Measure, print the tables, and write the folder where that was asked for."""
        from unseen.cli.eval_setup import load_entries
        from unseen.evaluation.held_out import PosteriorSettings
        from unseen.evaluation.protocols import ProtocolSettings, find_protocol
        from unseen.files import check_place
        from unseen.methods.dfm import DFM
        from unseen.training.trainer import choose_device

        self._check()
        device = choose_device(self.device).type
        # Numbers that make no sense are refused before anything is read.
        settings = ProtocolSettings(self.index, self.context, self.views, self.seed)
        posterior = PosteriorSettings(
            32 if self.objects is None else self.objects,
            8 if self.samples is None else self.samples,
            self.views,
            self.seed,
        )
        found = None
        if self.protocol not in (None, POSTERIOR):
            found = find_protocol(self.protocol, settings)
        if self.out is not None:
            check_place(self.out)
        entries = load_entries(self.models, self.steps, self.guidance, device)
        of_dfm = all(isinstance(e.candidate.method, DFM) for e in entries)
        if self.protocol == POSTERIOR and not of_dfm:
            raise UserError(
                "the protocol posterior measures DFM alone: leave other models out, or "
                "choose another protocol."
            )
        with self._folder() as folder:
            if self.protocol == POSTERIOR or (self.protocol is None and of_dfm):
                self._measure_posterior(entries, posterior, folder, device)
            else:
                protocol = found or find_protocol("single", settings)
                self._measure_novel_views(entries, protocol, folder, device)

    def _check(self) -> None:
        """Refuse what makes no sense before anything slow happens."""
        names = [path.name for path in self.data]
        if not names or len(set(names)) < len(names):
            raise UserError(
                "name at least one data set with --data, and none twice: folders of "
                "one name cannot be told apart in the table."
            )
        for name, number in (("object", self.objects), ("sample", self.samples)):
            if number is not None and number < 1:
                raise UserError(f"measure at least one {name}, not {number}.")
        if self.out is not None and self.out.is_file():
            raise UserError(f"{self.out} is a file: name a folder with --out.")
        if self.pictures < 0:
            raise UserError(f"show at least no scene, not {self.pictures}.")

    @contextlib.contextmanager
    def _folder(self) -> Iterator[Path]:
        """Where scenes are kept; Ctrl-C says how to continue."""
        if self.out is None:
            with tempfile.TemporaryDirectory() as folder:
                yield Path(folder)
            return
        try:
            yield self.out
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                f"interrupted; the same command continues in {self.out}"
            ) from None

    def _open(self, entries: list[Entry]) -> dict[str, PosedDataset]:
        """What is measured, as squares of the largest size that a model works at."""
        from unseen.data.formats import open_dataset

        side = largest_side(entries)
        return {p.name: open_dataset(p, "test", side=side) for p in self.data}

    def _training(self, side: int) -> list[PosedDataset]:
        """The training objects that the baselines know."""
        from unseen.data.formats import has_split, open_dataset

        if not self.train:
            for path in self.data:
                if path.is_dir() and not has_split(path, "train"):
                    raise UserError(
                        f"{path} has no manifest, so it has no training objects for "
                        "the baselines: name a folder of them with --train, or leave "
                        "the baselines out with --no-baselines."
                    )
        paths = self.train or self.data
        return [open_dataset(path, "train", side=side) for path in paths]

    def _settings(
        self, entries: list[Entry], datasets: dict[str, PosedDataset], device: str
    ) -> dict[str, Any]:
        """Everything that numbers depend on, as JSON values."""
        from unseen.cli.eval_setup import describe_dataset, digest_file

        plain = ("views", "context", "pictures", "seed")
        return {
            "format": 1,
            "index": digest_file(self.index),
            **{name: getattr(self, name) for name in plain},
            "device": device,
            "data": [describe_dataset(*item) for item in datasets.items()],
            "methods": {
                e.facts["label"]: [e.facts["digest"], e.facts["options"]]
                for e in entries
            },
        }

    def _measure_posterior(
        self, entries: list[Entry], settings: Any, folder: Path, device: str
    ) -> None:
        from unseen.cli.eval_results import Results, posterior_results
        from unseen.evaluation.held_out import Subject
        from unseen.evaluation.journal import Journal
        from unseen.evaluation.posterior_runs import measure_posterior

        datasets = self._open(entries)
        kept = self._settings(entries, datasets, device)
        kept["protocol"] = POSTERIOR
        kept |= {"objects": settings.objects, "samples": settings.samples}
        journal = Journal(folder, kept)
        with labelled_bars() as bar:
            for entry in entries:
                c = entry.candidate
                reconstruct = c.method.reconstruct  # type: ignore[union-attr]
                subject = Subject(c.method, reconstruct, c.image_size, c.options)  # type: ignore[arg-type]
                for name, data in datasets.items():
                    report = bar(f"{c.label}: {name}")
                    measure_posterior(
                        c.label,
                        subject,
                        (name, data),
                        settings,
                        journal,
                        self.pictures,
                        report,
                    )
        results = posterior_results([e.facts for e in entries], datasets, journal, kept)
        Results(results, journal).show(keep=self.out is not None)

    def _measure_novel_views(
        self, entries: list[Entry], protocol: Protocol, folder: Path, device: str
    ) -> None:
        from unseen.cli.eval_results import Results, novel_view_results
        from unseen.cli.eval_setup import digest_weights, load_metrics
        from unseen.evaluation.journal import Journal
        from unseen.evaluation.novel_views import Plan, check_context
        from unseen.evaluation.places import find_places

        datasets = self._open(entries)
        limit = protocol.limit if self.objects is None else self.objects
        places, left_out = find_places(datasets, protocol, limit)
        metrics = load_metrics(
            self.lpips, self.lpips_network, self.inception, self.also, device
        )
        plan = Plan(places, metrics, self.pictures, self.seed, self.samples or 1)
        check_context([e.candidate for e in entries], plan, protocol.name)
        with_baselines = self.baselines and protocol.objects
        side = largest_side(entries)
        training = self._training(side) if with_baselines else []
        files = (*(self.lpips or ()), self.inception)
        kept = self._settings(entries, datasets, device)
        kept |= {
            "protocol": protocol.name,
            "objects": limit,
            "samples": plan.samples,
            "train": [[t.root.name, len(t)] for t in training],
            "metrics": [m.name for m in plan.metrics if m.missing is None],
            "weights": [digest_weights(file) for file in files],
        }
        journal = Journal(folder, kept)
        self._measure_all(entries, training, plan, journal)
        results = novel_view_results(
            entries, protocol, plan, left_out, journal, kept, bool(training)
        )
        Results(results, journal).show(keep=self.out is not None)

    def _measure_all(
        self,
        entries: list[Entry],
        training: list[PosedDataset],
        plan: Plan,
        journal: Journal,
    ) -> None:
        from unseen.evaluation.novel_views import measure_baselines, measure_candidate

        with labelled_bars() as bar:
            for one in (entry.candidate for entry in entries):
                measure_candidate(one, plan, journal, bar(one.label))
            if training:
                side = entries[0].candidate.image_size
                measure_baselines(training, side, plan, journal, bar)


def largest_side(entries: list[Entry]) -> int:
    """Of the images that the models work at, in pixels."""
    return max(entry.candidate.image_size for entry in entries)
