"""What `unseen data render` shows: a progress bar, then a summary."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from unseen.data.mesh_files import MeshFile
from unseen.data.render_meshes import Outcome, RenderSettings, render_meshes


def render_and_report(
    meshes: Sequence[MeshFile], out: str, settings: RenderSettings, workers: int
) -> list[Outcome]:
    """Render, with progress on stderr; print a summary that lists what was skipped."""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    speed = TextColumn("{task.fields[speed]}")
    console = Console(stderr=True)
    outcomes, rendered = [], 0
    with Progress(*columns, speed, TimeRemainingColumn(), console=console) as progress:
        task = progress.add_task("objects", total=len(meshes), speed="")
        for outcome in render_meshes(meshes, out, settings, workers):
            outcomes.append(outcome)
            fresh = outcome.record is not None and not outcome.present
            rendered += settings.views * fresh
            seconds = progress.tasks[task].elapsed or 0.0
            speed_text = f"{rendered / seconds:.1f} views/s" if seconds else ""
            progress.update(task, advance=1, speed=speed_text)
    _summarize(outcomes, out)
    return outcomes


def _summarize(outcomes: Sequence[Outcome], out: str) -> None:
    records = [x.record for x in outcomes if x.record is not None]
    skipped = [x for x in outcomes if x.record is None]
    present = sum(x.present for x in outcomes if x.record is not None)
    test = sum(record.split == "test" for record in records)
    console = Console(soft_wrap=True, highlight=False)
    console.print(
        f"{len(records)} objects ({test} for testing, {present} already there), "
        f"{len(skipped)} meshes skipped, in {escape(out)}"
    )
    for outcome in skipped:
        console.print(
            f"  skipped {escape(outcome.mesh.label)}: {escape(outcome.reason)}"
        )
