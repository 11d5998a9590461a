"""`unseen data ...`: make and look at data sets."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import tyro


@dataclasses.dataclass(frozen=True)
class Procedural:
    """Render the procedural world into posed views."""

    out: tyro.conf.Positional[str]
    """Folder to write."""

    def run(self) -> None:
        print("procedural", self.out)


@dataclasses.dataclass(frozen=True)
class Render:
    """Render textured meshes into posed views."""

    out: tyro.conf.Positional[str]

    def run(self) -> None:
        print("render")


@dataclasses.dataclass(frozen=True)
class Data:
    """Make data sets."""

    command: (
        Annotated[Procedural, tyro.conf.subcommand("procedural")]
        | Annotated[Render, tyro.conf.subcommand("render")]
    )

    def run(self) -> None:
        self.command.run()
