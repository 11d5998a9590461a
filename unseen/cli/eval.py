"""`unseen eval`: measure a model on objects that it was not trained on."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import tyro

from unseen.errors import UserError


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
        import rich
        from rich.progress import Progress
        from rich.table import Table

        import unseen
        from unseen.configuration import write_json
        from unseen.data.srn_layout import SRNDataset
        from unseen.evaluation.held_out import Protocol, Subject, observe
        from unseen.evaluation.posterior import measure
        from unseen.methods.dfm import DFM
        from unseen.methods.method import SampleOptions

        if self.out is not None and self.out.exists():
            raise UserError(f"{self.out} exists: choose another file with --out.")
        method = unseen.load(self.model).method
        if not isinstance(method, DFM):
            raise UserError(f"{self.model} is no DFM, which is what eval measures.")
        protocol = Protocol(self.objects, self.samples, self.views, self.seed)
        options = SampleOptions(self.steps, self.guidance)
        size = method.config.image_size
        subject = Subject(method, method.reconstruct, size, options)
        started, by_set = time.monotonic(), {}
        with Progress() as bar:
            for path in self.data:
                task = bar.add_task(path.name)
                dataset = SRNDataset(path, split="test", depths=True)

                def report(done: int, total: int, task=task) -> None:
                    bar.update(task, completed=done, total=total)

                by_set[path.name] = list(observe(subject, [dataset], protocol, report))
        numbers = {name: measure(found) for name, found in by_set.items()}
        if len(by_set) > 1:
            numbers["all"] = measure(o for found in by_set.values() for o in found)
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
        if self.out is not None:
            result = {name: dataclasses.asdict(n) for name, n in numbers.items()}
            seconds = round(time.monotonic() - started, 1)
            protocol_json = dataclasses.asdict(protocol) | vars(options)
            write_json(
                self.out,
                {"protocol": protocol_json, "seconds": seconds, "numbers": result},
            )
            print(self.out)
