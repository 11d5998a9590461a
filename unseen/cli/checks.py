"""Checks of options that several commands share."""

from __future__ import annotations

import math
from collections.abc import Mapping

from unseen.errors import UserError


def check_ranges(options: object, ranges: Mapping[str, tuple[int, int]]) -> None:
    """Refuse an option (an attribute by its name) outside of its range; None is none.

    Raises:
        UserError: a value is not finite, or lies outside.
    """
    for name, (low, high) in ranges.items():
        value = getattr(options, name)
        if value is not None and not (math.isfinite(value) and low <= value <= high):
            flag = name.replace("_", "-")
            raise UserError(f"--{flag} must lie in {low} to {high}, not {value}.")
