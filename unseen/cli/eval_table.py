"""`unseen eval-table`: published numbers beside those of finished evaluations."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import tyro

from unseen.errors import UserError


@dataclasses.dataclass(frozen=True)
class EvalTable:
    """Print the table of the field, from SRN to DFM: as published, and as measured.

    Published numbers of ShapeNet-SRN (cars and chairs, one input view) stand beside
    those of models that were trained: the small presets as they were trained for this
    package, and what `unseen eval --out` wrote, of imported weights too. There is a
    dash where nothing was run. `unseen eval table` is the same command.
    """

    folders: tyro.conf.Positional[tuple[Path, ...]] = ()
    """Folders that `unseen eval --out` wrote."""
    out: Path | None = None
    """Markdown file to write."""

    def run(self) -> None:
        """Print the tables, and write them where that was asked for."""
        from unseen.cli.eval_results import print_table
        from unseen.evaluation.field_table import (
            field_notes,
            field_tables,
            read_measured,
            read_recorded,
            recorded_note,
        )
        from unseen.files import atomic_file, check_place

        if self.out is not None:
            if self.out.exists():
                raise UserError(f"{self.out} exists: choose another file with --out.")
            check_place(self.out)
        measured = [*read_recorded(), *read_measured(self.folders)]
        tables, notes = field_tables(measured), [recorded_note(), *field_notes()]
        for table in tables:
            print_table(table)
        for note in notes:
            print(note)
        if self.out is not None:
            with atomic_file(self.out) as temporary:
                lines = [table.markdown() for table in tables]
                lines += [f"- {note}" for note in notes]
                text = "\n".join(lines) + "\n"
                temporary.write_text(text, encoding="utf-8")
            print(self.out)
