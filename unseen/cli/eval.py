"""`unseen eval`: measure a model on objects that it was not trained on."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from unseen.errors import UserError

if TYPE_CHECKING:
    from rich.progress import TaskID

    from unseen.evaluation.held_out import Protocol, Subject
    from unseen.evaluation.posterior import PosteriorNumbers


@dataclasses.dataclass(frozen=True)
class Eval:
    """Measure how well a model samples p(scene | image) on held-out objects.

    Prints a table of PSNR, sharpness, diversity and Frechet distance of the samples
    and of the model's deterministic branch, for each data set and for all.
    """

    model: tyro.conf.Positional[str]
    """Name of a bundled model, or a model's folder."""
    data: tuple[Path, ...]
    """Data set folders with depth maps; their test splits are used."""
    out: Path | None = None
    """JSON file to write the numbers to."""
    objects: int = 32
    """Objects of each data set."""
    samples: int = 8
    """Scenes per object."""
    views: int = 8
    """Held-out views per object."""
    steps: int | None = None
    """Denoising steps; by default the model's own number."""
    guidance: float | None = None
    """Classifier-free guidance scale; by default the model's own."""
    seed: int = 0
    """Seed of the samples."""

    def run(self) -> None:
        """Measure, print the table, and write the numbers where that was asked for."""
        import unseen
        from unseen.configuration import write_json
        from unseen.evaluation.held_out import Protocol, Subject
        from unseen.files import check_place
        from unseen.methods.dfm import DFM
        from unseen.methods.method import SampleOptions

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
        # Numbers that make no sense are refused before anything is read.
        protocol = Protocol(self.objects, self.samples, self.views, self.seed)
        options = SampleOptions(self.steps, self.guidance)
        method = unseen.load(self.model).method
        if not isinstance(method, DFM):
            raise UserError(f"{self.model} is no DFM, which is what eval measures.")
        size = method.config.image_size
        subject = Subject(method, method.reconstruct, size, options)
        started = time.monotonic()
        numbers = self._measure(subject, protocol)
        seconds = round(time.monotonic() - started, 1)
        self._print(numbers)
        if self.out is not None:
            protocol_json = dataclasses.asdict(protocol) | vars(options)
            result = {name: dataclasses.asdict(n) for name, n in numbers.items()}
            write_json(
                self.out,
                {"protocol": protocol_json, "seconds": seconds, "numbers": result},
            )
            print(self.out)

    def _measure(
        self, subject: Subject, protocol: Protocol
    ) -> dict[str, PosteriorNumbers]:
        """The numbers of each data set and, if there are several, of all together."""
        from rich.console import Console
        from rich.progress import Progress

        from unseen.data.srn_layout import SRNDataset
        from unseen.evaluation.held_out import observe
        from unseen.evaluation.posterior import measure

        datasets = [SRNDataset(path, split="test") for path in self.data]
        found = {}
        with Progress(console=Console(stderr=True)) as bar:
            for path, dataset in zip(self.data, datasets, strict=True):
                task = bar.add_task(path.name)

                def report(done: int, total: int, task: TaskID = task) -> None:
                    bar.update(task, completed=done, total=total)

                found[path.name] = list(observe(subject, [dataset], protocol, report))
        numbers = {name: measure(seen) for name, seen in found.items()}
        if len(found) > 1:
            numbers["all"] = measure(o for seen in found.values() for o in seen)
        return numbers

    def _print(self, numbers: dict[str, PosteriorNumbers]) -> None:
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
