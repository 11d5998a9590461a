"""Folders of the Hugging Face hub."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

from unseen.errors import UserError


def is_hub_name(name: str | Path) -> bool:
    """Whether a name is like those of the hub, 'organisation/name', and no folder."""
    parts = str(name).split("/")
    like = len(parts) == 2 and all(parts) and not str(name).startswith((".", "~"))
    return like and not Path(name).exists()


def fetch(name: str, patterns: Sequence[str], ignored: Sequence[str] = ()) -> Path:
    """Download the files of a hub's folder that match, and return where they are.

    Files that were fetched before are not fetched again.

    Raises:
        UserError: huggingface_hub is not installed, there is no such folder on the hub,
            or no connection to it.
    """
    if importlib.util.find_spec("huggingface_hub") is None:
        raise UserError(
            f"'{name}' is no folder here, and fetching it from the hub needs "
            "huggingface_hub: run `pip install huggingface_hub`."
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        found = snapshot_download(
            name, allow_patterns=list(patterns), ignore_patterns=list(ignored)
        )
    except (HfHubHTTPError, HFValidationError, OSError, ValueError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(
            f"'{name}' is no folder here and cannot be fetched from the hub "
            f"({lines[0]}): check the name and the connection."
        ) from error
    return Path(found)
