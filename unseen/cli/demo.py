"""`unseen demo`: what `unseen sample` does, with a picture of our own."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from unseen.cli.sample import Sample


@dataclasses.dataclass(frozen=True)
class Demo:
    """Sample scenes from a bundled example image with the bundled model."""

    out: Path = Path("unseen-demo")
    """Folder to write."""
    num: int = 4
    """Number of scenes."""
    seed: int = 0
    """Other seeds give other scenes."""
    overwrite: bool = False
    """Replace the results of an earlier run."""

    def run(self) -> None:
        """Do what `unseen sample EXAMPLE` does, and say where to look."""
        image = example_images()[0]
        sample = Sample(
            image,
            num=self.num,
            seed=self.seed,
            out=self.out,
            overwrite=self.overwrite,
        )
        sample.run()


def example_images() -> list[Path]:
    """The example images inside the package, by name."""
    folder = Path(__file__).parent.parent / "assets" / "examples"
    return sorted(folder.glob("*.png"))
