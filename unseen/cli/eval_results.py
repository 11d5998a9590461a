"""What `unseen eval` prints and writes: tables, results.json, and the page."""

from __future__ import annotations

import dataclasses
import shlex
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import unseen
from unseen.cli.eval_setup import Entry
from unseen.configuration import write_json
from unseen.data.dataset import PosedDataset
from unseen.evaluation.journal import Journal
from unseen.evaluation.novel_views import BASELINES, Plan
from unseen.evaluation.novel_views import labels as rows_of
from unseen.evaluation.places import LeftOut
from unseen.evaluation.posterior_runs import collect_posterior
from unseen.evaluation.protocols import Protocol
from unseen.evaluation.summary import (
    collect_cost,
    collect_numbers,
    describe_metrics,
    list_scenes,
)
from unseen.evaluation.tables import Table, notes, result_tables
from unseen.files import atomic_file

RESULTS, TABLE, PAGE = "results.json", "table.md", "index.html"

UNBROKEN = 240
"""Columns of a table that no terminal limits."""


@dataclasses.dataclass(frozen=True)
class Results:
    """The JSON values of an evaluation, and where its scenes are kept."""

    values: dict[str, Any]
    journal: Journal

    def show(self, keep: bool) -> None:
        """Print the tables, and write the folder's files where they are to be kept."""
        tables = result_tables(self.values)
        for table in tables:
            print_table(table)
        for note in notes(self.values):
            print(note)
        if keep:
            self._write(tables)

    def _write(self, tables: list[Table]) -> None:
        from unseen.cli.eval_page import evaluation_page

        folder, protocol = self.journal.folder, self.values["protocol"]
        write_json(folder / RESULTS, self.values)
        with atomic_file(folder / TABLE) as temporary:
            lines = [
                f"# {protocol['title']}\n",
                f"{protocol['summary']} Source: {protocol['source']}.\n",
                *(table.markdown() for table in tables),
                *(f"- {note}" for note in notes(self.values)),
                f"\n    {self.values['command']}\n",
            ]
            temporary.write_text("\n".join(lines), encoding="utf-8")
        page = evaluation_page(self.values, tables, notes(self.values), folder)
        with atomic_file(folder / PAGE) as temporary:
            temporary.write_text(page, encoding="utf-8")
        for name in (RESULTS, TABLE, PAGE):
            print(folder / name)


def novel_view_results(
    entries: Sequence[Entry],
    protocol: Protocol,
    plan: Plan,
    left_out: Sequence[LeftOut],
    journal: Journal,
    settings: Mapping[str, Any],
    baselines: bool,
) -> dict[str, Any]:
    """The values of `results.json` of an evaluation of novel views."""
    facts = [entry.facts for entry in entries]
    methods = [
        {**entry.facts, "label": row, "kind": "method" if number == 0 else "best"}
        for entry in entries
        for number, row in enumerate(rows_of(entry.candidate, plan.samples))
    ]
    if baselines:
        side = facts[0]["image_size"]
        methods += [
            {"label": label, "kind": "baseline", "image_size": side}
            for label in BASELINES
        ]
    labels = [m["label"] for m in methods]
    return {
        **_head(settings),
        "protocol": {
            "name": protocol.name,
            "title": f"Novel views, protocol {protocol.name}",
            "summary": protocol.summary,
            "source": protocol.source,
        },
        "metrics": describe_metrics(plan),
        "methods": methods,
        "numbers": {x: collect_numbers(x, plan, journal) for x in labels},
        "cost": {f["label"]: collect_cost(f["label"], plan, journal) for f in facts},
        "left_out": [dataclasses.asdict(entry) for entry in left_out],
        "scenes": list_scenes(plan, labels, journal),
    }


def posterior_results(
    facts: Sequence[Mapping[str, Any]],
    datasets: Mapping[str, PosedDataset],
    journal: Journal,
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    """The values of `results.json` of the posterior's numbers."""
    numbers = {
        f["label"]: {
            name: dataclasses.asdict(found)
            for name, found in collect_posterior(f["label"], datasets, journal).items()
        }
        for f in facts
    }
    order = {name: index for index, name in enumerate(datasets)}
    records = sorted(
        journal.records.values(), key=lambda r: (r.method, order[r.data], r.scene)
    )
    return {
        **_head(settings),
        "protocol": {
            "name": "posterior",
            "title": "Samples of the posterior",
            "summary": "Several scenes are sampled from the first view of an object. "
            "They, and the deterministic branch, are compared with the views after it.",
            "source": "unseen (unseen/evaluation/posterior.py)",
        },
        "methods": [{**f, "kind": "method"} for f in facts],
        "numbers": numbers,
        "scenes": [dataclasses.asdict(record) for record in records],
    }


def _head(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "format": 1,
        "unseen": unseen.__version__,
        "command": shlex.join(["unseen", *sys.argv[1:]]),
        "settings": dict(settings),
    }


def print_table(table: Table) -> None:
    """Print a table as wide as it is: lines are not broken in files and pipes."""
    from rich.console import Console
    from rich.table import Table as RichTable

    shown = RichTable(title=table.title)
    for number, column in enumerate(table.columns):
        shown.add_column(
            column, justify="right" if number else "left", no_wrap=not number
        )
    for row in table.rows:
        shown.add_row(*row)
    # Labels are the user's: nothing in them is markup.
    console = Console(markup=False, highlight=False)
    if not console.is_terminal:
        console.width = UNBROKEN
    console.print(shown)
