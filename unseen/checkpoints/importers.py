"""Every importer of released weights by its name on the command line.

Importers are imported when they are asked for: the command line lists them, and that
should not wait for torch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unseen.errors import UserError

if TYPE_CHECKING:
    from unseen.methods.method import Method


def _read_dfm(path: Path) -> Method:
    from unseen.checkpoints.dfm_authors import read_dfm

    return read_dfm(path)


@dataclasses.dataclass(frozen=True)
class Importer:
    """How the weights of one system's authors are read.

    `method` is the name in `METHODS` of what `read` returns; `options` are the keyword
    arguments that `read` takes, because the file does not tell.
    """

    method: str
    read: Callable[..., Method]
    options: tuple[str, ...] = ()


IMPORTERS: Mapping[str, Importer] = {
    "dfm": Importer("DFM", _read_dfm),
}


def find_importer(system: str) -> Importer:
    """The importer of this name; UserError if there is none."""
    if system not in IMPORTERS:
        raise UserError(
            f"there is no importer for '{system}': choose one of "
            f"{', '.join(IMPORTERS)}."
        )
    return IMPORTERS[system]


def check_options(system: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The options that were given (not None), for `Importer.read`.

    Raises:
        UserError: one of them means nothing to this importer.
    """
    known = find_importer(system).options
    chosen = {name: value for name, value in given.items() if value is not None}
    for name in chosen:
        if name not in known:
            flag = f"--{name.replace('_', '-')}"
            raise UserError(
                f"the importer of {system} reads all settings from the file: leave out "
                f"{flag}."
                if not known
                else f"the importer of {system} does not know {flag}: it takes "
                f"{', '.join('--' + n.replace('_', '-') for n in known)}."
            )
    return chosen
