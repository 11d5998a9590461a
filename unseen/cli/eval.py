"""`unseen eval`: measure a model on objects that it was not trained on."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from unseen.errors import UserError

if TYPE_CHECKING:
    from unseen.data.dataset import PosedDataset
    from unseen.evaluation.held_out import Protocol, Subject
    from unseen.evaluation.novel_views import NovelNumbers
    from unseen.evaluation.posterior import PosteriorNumbers
    from unseen.methods.method import SampleOptions, SceneMethod

Bar = Callable[[str], Callable[[int, int], None]]


@dataclasses.dataclass(frozen=True)
class Eval:
    """Measure how well a model reconstructs, or samples, held-out objects.

    Of every model: PSNR and SSIM of novel views by the protocol of ShapeNet-SRN (one
    view is given: the one with index 64, or the first where there are fewer; all others
    are compared), beside the mean training image and the nearest training object. Of
    DFM: PSNR, sharpness, diversity and Frechet distance of several samples and of the
    deterministic branch, which needs depth maps; novel views are added with --novel.
    """

    model: tyro.conf.Positional[str]
    """Name of a bundled model, or a model's folder."""
    data: tuple[Path, ...]
    """Data set folders. Their test splits are used; those without a manifest wholly."""
    train: tuple[Path, ...] = ()
    """Data set folders whose training objects the baselines of novel views know; by
    default the training splits of --data."""
    out: Path | None = None
    """JSON file to write the numbers to."""
    objects: int = 32
    """Objects of each data set."""
    samples: int = 8
    """Scenes per object, for DFM's own table."""
    views: int = 8
    """Held-out views per object, for DFM's own table."""
    novel: bool = False
    """Measure novel views of a DFM too; other models are always measured so."""
    steps: int | None = None
    """Denoising steps, or steps of fitting codes; by default the model's own number."""
    guidance: float | None = None
    """Classifier-free guidance scale; by default the model's own."""
    seed: int = 0
    """Seed of the samples."""

    def run(self) -> None:
        """Measure, print the tables, and write the numbers where that was asked for."""
        import unseen
        from unseen.configuration import write_json
        from unseen.evaluation.held_out import Protocol, Subject
        from unseen.methods.dfm import DFM
        from unseen.methods.method import SampleOptions, SceneMethod

        self._check()
        # Numbers that make no sense are refused before anything is read.
        protocol = Protocol(self.objects, self.samples, self.views, self.seed)
        options = SampleOptions(self.steps, self.guidance)
        method = unseen.load(self.model).method
        if not isinstance(method, SceneMethod):
            raise UserError(f"{self.model} makes no scenes, which is what is measured.")
        options.check(method)
        side: int = method.config.image_size  # type: ignore[union-attr,assignment]
        is_dfm = isinstance(method, DFM)
        training = self._training(side) if self.novel or not is_dfm else []
        started = time.monotonic()
        result: dict[str, Any] = {"protocol": dataclasses.asdict(protocol)}
        result["protocol"] |= vars(options)
        if is_dfm:
            subject = Subject(method, method.reconstruct, side, options)
            numbers = self._measure_posterior(subject, protocol)
            self._print_posterior(numbers)
            result["numbers"] = _as_json(numbers)
        if training:
            novel = self._measure_novel_views(method, options, side, training)
            self._print_novel_views(novel, type(method).__name__)
            result["novel_views"] = _as_json(novel)
        result["seconds"] = round(time.monotonic() - started, 1)
        if self.out is not None:
            write_json(self.out, result)
            print(self.out)

    def _check(self) -> None:
        """Refuse what makes no sense before anything slow happens."""
        from unseen.files import check_place

        if self.out is not None:
            if self.out.exists():
                raise UserError(f"{self.out} exists: choose another file with --out.")
            check_place(self.out)
        names = [path.name for path in self.data]
        if not names or len(set(names)) < len(names):
            raise UserError(
                "name at least one data set with --data, and none twice: folders of "
                "one name cannot be told apart in the table."
            )

    def _training(self, side: int) -> list[PosedDataset]:
        """The training objects that the baselines know."""
        from unseen.data.formats import has_split, open_dataset

        if not self.train:
            for path in self.data:
                if path.is_dir() and not has_split(path, "train"):
                    raise UserError(
                        f"{path} has no manifest, so it has no training objects for "
                        "the baselines: name a folder of them with --train."
                    )
        paths = self.train or self.data
        return [open_dataset(path, "train", side=side) for path in paths]

    def _measure_posterior(
        self, subject: Subject, protocol: Protocol
    ) -> dict[str, PosteriorNumbers]:
        """The numbers of each data set and, if there are several, of all together."""
        from unseen.data.formats import open_dataset
        from unseen.evaluation.held_out import observe
        from unseen.evaluation.posterior import measure

        datasets = [
            open_dataset(path, "test", side=subject.image_size) for path in self.data
        ]
        found = {}
        with _progress() as bar:
            for path, dataset in zip(self.data, datasets, strict=True):
                report = bar(path.name)
                found[path.name] = list(observe(subject, [dataset], protocol, report))
        numbers = {name: measure(seen) for name, seen in found.items()}
        if len(found) > 1:
            numbers["all"] = measure(o for seen in found.values() for o in seen)
        return numbers

    def _measure_novel_views(
        self,
        method: SceneMethod,
        options: SampleOptions,
        side: int,
        training: list[PosedDataset],
    ) -> dict[str, NovelNumbers]:
        """The same of novel views."""
        import torch

        from unseen.data.formats import open_dataset
        from unseen.evaluation import novel_views

        datasets = [open_dataset(path, "test", side=side) for path in self.data]
        held_out = novel_views.find_objects(datasets, self.objects, side)
        inputs = torch.stack([item.image for item in held_out])
        with _progress() as bar:
            known = novel_views.study_training_views(
                training, inputs, bar("training objects")
            )
            report, measured = bar("held-out objects"), []
            for numbers in novel_views.measure_objects(
                method, held_out, known, options, self.seed
            ):
                measured.append(numbers)
                report(len(measured), len(held_out))
        found = {}
        for path, dataset in zip(self.data, datasets, strict=True):
            pairs = zip(held_out, measured, strict=True)
            own = [n for item, n in pairs if item.dataset is dataset]
            found[path.name] = novel_views.average(own)
        if len(found) > 1:
            found["all"] = novel_views.average(measured)
        return found

    def _print_posterior(self, numbers: dict[str, PosteriorNumbers]) -> None:
        import rich
        from rich.table import Table

        table = Table(title=f"{self.model} on held-out objects")
        table.add_column("")
        for name in numbers:
            table.add_column(name, justify="right")
        for field in dataclasses.fields(next(iter(numbers.values()))):
            values = [getattr(n, field.name) for n in numbers.values()]
            table.add_row(
                field.name.replace("_", " "),
                *(f"{v:.3f}" if isinstance(v, float) else str(v) for v in values),
            )
        rich.print(table)

    def _print_novel_views(self, numbers: dict[str, NovelNumbers], method: str) -> None:
        import rich
        from rich.table import Table

        title = f"{self.model}: novel views of held-out objects (PSNR in dB, SSIM)"
        table = Table(title=title)
        table.add_column("", no_wrap=True)
        for name, found in numbers.items():
            label = f"{name}\n{found.objects} objects\n{found.views} views"
            table.add_column(label, justify="right")
        for name, label in (
            ("method", method),
            ("mean_image", "mean training image"),
            ("nearest_view", "nearest training object"),
        ):
            values = [getattr(found, name) for found in numbers.values()]
            table.add_row(label, *(f"{v.psnr:.2f}  {v.ssim:.3f}" for v in values))
        rich.print(table)


def _as_json(numbers: dict[str, Any]) -> dict[str, Any]:
    return {name: dataclasses.asdict(found) for name, found in numbers.items()}


@contextmanager
def _progress() -> Iterator[Bar]:
    """Makes labelled bars, on the error stream: the output holds the tables alone."""
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True)) as progress:

        def bar(label: str) -> Callable[[int, int], None]:
            task = progress.add_task(label, total=None)

            def report(done: int, total: int) -> None:
                progress.update(task, completed=done, total=total)

            return report

        yield bar
