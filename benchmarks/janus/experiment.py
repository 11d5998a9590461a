"""The experiment: data, one network, a classifier, scenes, scores, a page."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

import unseen
from benchmarks.janus.classifier import (
    Accuracy,
    SideClassifier,
    accuracy,
    bin_centers,
    side_loss,
)
from benchmarks.janus.distilling import (
    Turn,
    distill,
    distill_config,
    kept,
    real_truck,
    sample_directly,
    sample_views,
)
from benchmarks.janus.page import (
    Row,
    Section,
    Table,
    draw_samples,
    draw_sheet,
    write_page,
)
from benchmarks.janus.prior import KINDS, TASKS, Kind, NetworkConfig, ViewNetwork
from benchmarks.janus.score import janus_score
from benchmarks.janus.training import (
    TrainingConfig,
    diffusion_loss,
    new_network,
    train,
)
from benchmarks.janus.world import GROUP, TEST_SEEDS, Renderings, render_trucks
from unseen.configuration import to_json
from unseen.distillation.config import DistillConfig
from unseen.errors import UserError
from unseen.files import atomic_file, make_folder
from unseen.training.random import derive_seed

SAMPLES = 8
"""Groups of images that each prior draws by itself."""

TOLD: dict[Kind, str] = {
    "pose-free": "The prior is not told the camera.",
    "front-biased": "The prior takes every camera for one that sees the front.",
    "camera": "The prior is told the camera of each view.",
    "multi-view": "The prior is told the cameras of four views that see each other.",
}


@dataclasses.dataclass(frozen=True)
class Janus:
    """Distil trucks from priors that know less or more of the camera; count fronts.

    Whatever is finished lies in the folder and is not made again.
    """

    out: Path = Path("janus")
    """Folder of all that is made; index.html and janus.png show it."""
    seeds: int = 3
    """Scenes per prior, and trucks that DFM is given."""
    trucks: int = 1000
    """Trucks to train with."""
    held_out: int = 100
    """Trucks to test with."""
    training: TrainingConfig = dataclasses.field(default_factory=TrainingConfig)
    """Of the network behind the three priors."""
    classifier: TrainingConfig = dataclasses.field(
        default_factory=lambda: TrainingConfig(steps=1200, batch=16, rate=2e-3)
    )
    """Of the network that tells the sides of a truck."""
    network: NetworkConfig = dataclasses.field(default_factory=NetworkConfig)
    """Sizes of the network behind the three priors."""
    steps: int = 300
    """Of each distillation."""
    sampler: str = "vehicles-64"
    """Model that samples scenes of one image directly."""
    sampler_steps: int | None = None
    """Its denoising steps; by default its own number."""
    sampling_steps: int = 50
    """With which the priors draw images by themselves."""

    def run(self) -> None:
        """Do what is not done yet, write the page, and print the table."""
        self._settle()
        out = self.out
        train_set = render_trucks(out / "train.safetensors", 0, self.trucks, 3, "train")
        test_set = render_trucks(
            out / "test.safetensors", TEST_SEEDS, self.held_out, 3, "test"
        )
        network, minutes = self._train_network(train_set)
        classifier = self._train_classifier(train_set)
        sections = self._sections(network, classifier)
        known = [accuracy(classifier, test_set, blurred) for blurred in (False, True)]
        samples = {
            task: sample_views(network, task, SAMPLES, self.sampling_steps)
            for task in TASKS
        }
        told = {task: _side_share(classifier, samples[task]) for task in TASKS}
        results = {
            "classifier": dict(zip(("plain", "blurred"), to_json(known), strict=True)),
            "training_minutes": round(minutes, 1),
            "samples_show_the_side": told,
            "scenes": [_as_json(s, row) for s in sections for row in s.rows],
        }
        pictures = [
            (
                f"{task}: azimuths 0, 90, 180 and 270 degrees were asked for, and "
                f"{told[task]:.0%} of {SAMPLES * GROUP} images look like that.",
                draw_samples(samples[task][:3]),
            )
            for task in TASKS
        ]
        table, summary = summarise(sections), _in_words(known, minutes)
        _write_text(out / "results.json", json.dumps(results, indent=1) + "\n")
        _write_text(out / "table.md", table.markdown() + "\n")
        page = write_page(summary, table, pictures, sections)
        _write_text(out / "index.html", page)
        with atomic_file(out / "janus.png") as path:
            draw_sheet(sections).save(path, optimize=True)
        print(f"{table.markdown()}\n\n{summary}\n\nOpen {out / 'index.html'}.")

    def _settle(self) -> None:
        """Keep to the settings that the folder was begun with."""
        if self.seeds < 1 or self.trucks < 1 or self.held_out < 1 or self.steps < 1:
            raise UserError("give at least one seed, truck, held-out truck and step.")
        make_folder(self.out)
        # More seeds go on where fewer ended; where the folder lies decides nothing.
        names = {field.name for field in dataclasses.fields(self)} - {"out", "seeds"}
        wanted = {name: to_json(getattr(self, name)) for name in sorted(names)}
        path = self.out / "settings.json"
        if not path.exists():
            _write_text(path, json.dumps(wanted, indent=1) + "\n")
        elif json.loads(path.read_text(encoding="utf-8")) != wanted:
            raise UserError(
                f"{self.out} was made with other settings (settings.json): name "
                "another folder with --out."
            )

    def _train_network(self, data: Renderings) -> tuple[ViewNetwork, float]:
        """The network, and the minutes that it was trained for."""
        network = new_network(self.network, seed=0)
        loss = functools.partial(diffusion_loss, network, data, self.training.batch)
        path = self.out / "prior.safetensors"
        return network, train(path, network, self.training, loss, seed=0) / 60

    def _train_classifier(self, data: Renderings) -> SideClassifier:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # random: layers draw from the global one
            classifier = SideClassifier()
        loss = functools.partial(side_loss, classifier, data, self.classifier.batch)
        train(
            self.out / "classifier.safetensors",
            classifier,
            self.classifier,
            lambda _, generator: loss(generator),
            seed=1,
        )
        return classifier

    def _sections(
        self, network: ViewNetwork, classifier: SideClassifier
    ) -> list[Section]:
        config = distill_config(self.steps)
        turns, scenes = make_folder(self.out / "turns"), self.out / "scenes"

        def rows(prefix: str, make: Callable[[int, Path], Turn]) -> list[Row]:
            found = []
            for number in range(self.seeds):
                name = f"{prefix}-{number}"
                turn = kept(
                    turns / f"{name}.safetensors",
                    functools.partial(make, number, scenes / f"{name}.safetensors"),
                )
                found.append(_judge(name, turn, classifier))
            return found

        sections = [
            Section(
                "Held-out trucks",
                "Renderings, for comparison.",
                rows("real", lambda number, _: real_truck(number)),
            )
        ]
        for kind, text in TOLD.items():
            make = functools.partial(_distilled, network, kind, config)
            sections.append(Section(f"Distilled: {kind}", text, rows(kind, make)))
        steps = self.sampler_steps
        model = functools.cache(lambda: unseen.load(self.sampler))
        sections.append(
            Section(
                "Sampled by DFM",
                "One view of a held-out truck is given; the first is from behind.",
                rows("dfm", lambda n, p: sample_directly(model(), n, steps, p)),
            )
        )
        return sections


def _distilled(
    network: ViewNetwork, kind: Kind, config: DistillConfig, number: int, path: Path
) -> Turn:
    seed = derive_seed(KINDS.index(kind), number)
    return distill(network, kind, seed, config, path)


def _judge(name: str, turn: Turn, classifier: SideClassifier) -> Row:
    score = janus_score(classifier.probabilities(turn.images))
    return Row(name, turn.images, score, turn.seconds)


def _side_share(classifier: SideClassifier, images: torch.Tensor) -> float:
    """How often images (group, view) show azimuths 0, 90, 180, 270, to 45 degrees."""
    bins = classifier.probabilities(images.flatten(0, 1)).argmax(dim=-1)
    found = bin_centers()[bins].unflatten(0, (-1, GROUP))
    wanted = 2 * math.pi * torch.arange(GROUP) / GROUP
    return float((torch.cos(found - wanted) > math.cos(math.pi / 4)).float().mean())


def _in_words(known: Sequence[Accuracy], minutes: float) -> str:
    plain, blurred = known
    return (
        f"Of held-out renderings the classifier finds the azimuth to 45 degrees in "
        f"{plain.within:.1%} (mean error {plain.error:.0f} degrees), and with half "
        f"the resolution in {blurred.within:.1%} ({blurred.error:.0f} degrees). The "
        f"network behind the priors was trained for {minutes:.1f} minutes. Times are "
        f"those of one core."
    )


def summarise(sections: Sequence[Section]) -> Table:
    """Means over the scenes of each section, with standard deviations."""

    def cell(values: Sequence[float], digits: int = 2) -> str:
        mean, spread = statistics.mean(values), statistics.pstdev(values)
        return f"{mean:.{digits}f} ± {spread:.{digits}f}"

    rows = []
    for section in sections:
        scores = [row.score for row in section.rows]
        rows.append(
            [
                section.title,
                f"{sum(s.has_one_front for s in scores)} of {len(scores)}",
                cell([s.fronts for s in scores], 1),
                cell([s.arcs for s in scores], 1),
                cell([s.agreement for s in scores]),
                cell([s.error for s in scores], 0),
                cell([s.certainty for s in scores]),
                cell([row.seconds for row in section.rows], 0),
            ]
        )
    count = len(sections[0].rows[0].images)
    heads = ["scenes", "one front", f"front views (of {count})", "arcs"]
    heads += ["agreement", "error (°)", "certainty", "seconds of a core"]
    return Table(heads, rows)


def _as_json(section: Section, row: Row) -> dict[str, object]:
    s = row.score
    return {
        "section": section.title,
        "name": row.name,
        "one_front": s.has_one_front,
        "fronts": s.fronts,
        "arcs": s.arcs,
        "agreement": round(s.agreement, 4),
        "error": round(s.error, 2),
        "certainty": round(s.certainty, 4),
        "seconds": round(row.seconds, 1),
    }


def _write_text(path: Path, text: str) -> None:
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
