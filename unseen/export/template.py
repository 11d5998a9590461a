"""Filling the pages of `assets/`, which hold `{{name}}` where a value goes."""

from __future__ import annotations

import html
import importlib.resources
from collections.abc import Mapping


def fill_template(name: str, values: Mapping[str, str]) -> str:
    """The page `name` (a path in the package) with its values, HTML already."""
    template = importlib.resources.files("unseen").joinpath(name)
    # Split first and fill then, so that no value is searched for placeholders.
    head, *parts = template.read_text(encoding="utf-8").split("{{")
    filled = [head]
    for part in parts:
        place, _, rest = part.partition("}}")
        filled.append(values[place] + rest)
    return "".join(filled)


def definition_list(settings: Mapping[str, str]) -> str:
    """The entries of an HTML definition list."""
    return "\n".join(
        f"<dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd>"
        for name, value in settings.items()
    )
