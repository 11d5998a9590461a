"""`unseen models`: what there is to train and to use."""

from __future__ import annotations

import dataclasses
import json
from typing import Any


@dataclasses.dataclass(frozen=True)
class Models:
    """List methods, presets and bundled models, with their measured numbers."""

    json: bool = False
    """Print JSON instead of tables."""

    def run(self) -> None:
        """Print the lists."""
        listing = list_models()
        if self.json:
            print(json.dumps(listing, indent=2))
        else:
            _print_tables(listing)


def list_models() -> dict[str, list[dict[str, Any]]]:
    """Methods, presets and bundled models as JSON values."""
    from unseen.checkpoints.model_folder import bundled_models, describe_model
    from unseen.methods.registry import METHODS, PRESETS, method_name

    methods = [
        {"name": name, "summary": (method.__doc__ or "").split("\n")[0]}
        for name, (method, _) in METHODS.items()
    ]
    presets = [
        {
            "name": name,
            "method": method_name(preset.method),
            "steps": preset.train.steps,
            "batch_size": preset.train.batch_size * preset.train.accumulate,
            "description": preset.description,
        }
        for name, preset in PRESETS.items()
    ]
    models = [{"name": name, **describe_model(name)} for name in bundled_models()]
    return {"methods": methods, "presets": presets, "models": models}


def _print_tables(listing: dict[str, list[dict[str, Any]]]) -> None:
    import rich.console
    import rich.table

    console = rich.console.Console()
    for title, rows in listing.items():
        table = rich.table.Table(title=title.capitalize(), title_justify="left")
        for column in rows[0] if rows else ():
            table.add_column(column.replace("_", " "))
        for row in rows:
            table.add_row(*(_text(value) for value in row.values()))
        console.print(table if rows else f"{title.capitalize()}: none", highlight=False)


def _text(value: Any) -> str:
    """A cell: numbers short, one line per entry of an object."""
    if isinstance(value, dict):
        return "\n".join(f"{name} {_text(entry)}" for name, entry in value.items())
    return f"{value:.4g}" if isinstance(value, float) else str(value)
