"""What `--help` says of a setting: its docstring, as paragraphs without line breaks."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable

from tyro.constructors import (
    ConstructorRegistry,
    StructConstructorSpec,
    StructTypeInfo,
)


def help_texts() -> ConstructorRegistry:
    """A registry for `tyro.cli` that fills the lines of help texts.

    tyro keeps the line breaks of indented docstrings, which then stand in the middle of
    the terminal's lines.
    """
    registry = ConstructorRegistry()
    asking = False

    def rule(info: StructTypeInfo) -> StructConstructorSpec | None:
        nonlocal asking
        if asking:
            # The rule asks tyro's own rules, which come after it.
            return None
        asking = True
        try:
            spec = ConstructorRegistry.get_struct_spec(info)
        finally:
            asking = False
        if not isinstance(spec, StructConstructorSpec):
            return None
        fields = tuple(
            dataclasses.replace(field, helptext=_filled(field.helptext))
            for field in spec.fields
        )
        return dataclasses.replace(spec, fields=fields)

    registry.struct_rule(rule)
    return registry


def _filled(text: str | Callable[[], str | None] | None) -> Callable[[], str | None]:
    """The text when it is asked for: parsing docstrings takes time."""

    def fill() -> str | None:
        found = text() if callable(text) else text
        return None if found is None else fill_lines(found)

    return fill


def fill_lines(text: str) -> str:
    """A text whose paragraphs are one line each, a blank line between them."""
    return "\n\n".join(" ".join(p.split()) for p in re.split(r"\n\s*\n", text))
