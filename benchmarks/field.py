"""The small presets, trained and measured on the same cars and chairs.

    python -m benchmarks.field MESHES OUT [--budget 1.0] [--record]

MESHES are folders or archives of the CC0 models of KayKit, Kenney, Quaternius and Poly
Haven. Renders cars and chairs with variants, trains every small preset on both, and
measures all of them on held-out meshes: view 64 of a spiral is given, every tenth other
is compared (the protocol `srn-tenth`). Every part is a command of `unseen` that is
printed before it runs; what is finished is not done again. `--record` writes the table
that `unseen eval table` shows.
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import tyro

from unseen.evaluation.field_table import RECORDED, read_measured

CARS = "re:kaykit_city/gltf/car_|kenney_cars/|kenney_racing/models/vehicle-truck|"
CARS += "quaternius/cars/"
CHAIRS = r"re:(?i)(/|_)(arm|lounge|wooden)?_?chair[^/]*\.gl|loungeDesignChair|"
CHAIRS += "loungeChair"

STEPS = {
    "srn-small": 1500,
    "lfn-small": 4000,
    "codenerf-small": 2500,
    "pixelnerf-small": 8500,
    "visionnerf-small": 8500,
    "enr-small": 2300,
    "threedim-small": 4000,
}
"""Steps with a budget of 1: some 10 to 60 minutes each on one core."""


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """Train and measure the field."""

    meshes: tyro.conf.Positional[Path]
    out: tyro.conf.Positional[Path]
    budget: float = 1.0
    """Factor on the steps of every preset."""
    objects: int = 4
    """Held-out objects of each kind that are measured."""
    record: bool = False
    """Write the table that comes with the package."""

    def run(self) -> None:
        """Render, train, evaluate; print the table."""
        self.out.mkdir(parents=True, exist_ok=True)
        kinds = {"cars": (CARS, 12, ()), "chairs": (CHAIRS, 10, ("*set_01*",))}
        for kind, (include, variants, exclude) in kinds.items():
            left_out = [word for x in exclude for word in ("--exclude", x)]
            given = ["data", "render", self.meshes]
            shared = ["--size", 64, "--include", include, *left_out]
            training = ["--views", 16, "--variants", variants]
            self._unseen(*given, self.out / f"{kind}_train", *training, *shared)
            held_out = ["--views", 80, "--variants", 2, "--cameras", "spiral"]
            held_out += ["--split", "test"]
            self._unseen(*given, self.out / f"{kind}", *held_out, *shared)
        training_data = [self.out / f"{kind}_train" for kind in kinds]
        models = []
        for preset, steps in STEPS.items():
            run = self.out / "runs" / preset
            models.append(f"{preset}={run / 'model'}")
            if (run / "finished").exists():
                continue
            resume = ["--resume"] if (run / "config.json").exists() else []
            count = max(1, round(steps * self.budget))
            begin = ["--data", *training_data, "--steps", count, "--precision", "bf16"]
            self._unseen("train", preset, *begin, "--out", run, *resume)
            (run / "finished").touch()
        self._unseen(
            *("eval", *models, "--protocol", "srn-tenth", "--objects", self.objects),
            *("--data", *(self.out / kind for kind in kinds)),
            *("--train", *training_data, "--out", self.out / "eval"),
        )
        if self.record:
            record([self.out / "eval"])
        self._unseen("eval", "table", *([] if self.record else [self.out / "eval"]))

    def _unseen(self, *words: object) -> None:
        command = ["unseen", *map(str, words)]
        print("$", " ".join(command), flush=True)
        program = Path(sys.executable).with_name("unseen")
        subprocess.run([str(program), *command[1:]], check=True)


def record(folders: list[Path]) -> None:
    """Write the numbers of finished evaluations into the package."""
    rows = [dataclasses.asdict(row) for row in read_measured(folders)]
    note = (
        "Trained here: small presets, minutes to an hour each on one or two cores, on "
        "CC0 cars and chairs with variants at 64x64 (docs/methods/training.md); an "
        "order of magnitude, not a competition."
    )
    target = Path(__file__).parents[1] / "unseen" / RECORDED
    text = json.dumps({"note": note, "rows": rows}, indent=1) + "\n"
    target.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    tyro.cli(Benchmark).run()
