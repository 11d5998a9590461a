"""A folder that appears whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from unseen.errors import UserError
from unseen.files import check_place, write_errors

MARKER = "settings.json"
"""The file by which a folder of results is recognised, with `PRODUCER` in it."""
PRODUCER = "unseen sample"


def check_out(out: str | Path, overwrite: bool) -> None:
    """Raise UserError, before any work is done, if results cannot go to `out`.

    `out` must be missing or empty; with `overwrite` it may hold earlier results, but
    nothing else, so that no other file is ever deleted.
    """
    out = Path(out)
    try:
        resolved = out.resolve()
        if resolved in (Path.cwd().resolve(), *Path.cwd().resolve().parents):
            raise UserError(
                f"{out} holds the current folder: name a folder of its own with --out."
            )
        if not out.exists():
            check_place(out)
            return
        if not out.is_dir():
            raise UserError(
                f"{out} is a file: name another folder with --out, or remove it."
            )
        if not any(out.iterdir()):
            return
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UserError(f"cannot write to {out}: {reason}.") from error
    if not overwrite:
        raise UserError(
            f"{out} exists and is not empty: name another folder with --out, or "
            "replace earlier results with --overwrite."
        )
    if not _holds_results(out):
        raise UserError(
            f"{out} holds files that are no results of unseen, so it is not "
            "overwritten: name another folder with --out."
        )


def _holds_results(out: Path) -> bool:
    """Whether a folder is nothing but results of an earlier run."""
    try:
        settings = json.loads((out / MARKER).read_text(encoding="utf-8"))
        listed = set(settings["files"]) if settings["producer"] == PRODUCER else set()
    except (OSError, ValueError, KeyError, TypeError):
        return False
    found = {str(p.relative_to(out)) for p in out.rglob("*") if not p.is_dir()}
    return found <= listed


@contextlib.contextmanager
def result_folder(out: str | Path, overwrite: bool = False) -> Iterator[Path]:
    """A temporary folder beside `out` that becomes `out` if the block succeeds.

    It is removed if anything, Ctrl-C included, ends the block. Earlier results are
    replaced only at the very end, and only with `overwrite` (see `check_out`).
    A full disk, a place that cannot be written to and the like are UserErrors.
    """
    check_out(out, overwrite)
    # A link to a folder stays a link.
    final = Path(out).resolve()
    temporary = final.with_name(f".{final.name}.partial-{secrets.token_hex(4)}")
    made = _make_parents(final.parent, out)
    try:
        with write_errors(out):
            temporary.mkdir()
            try:
                yield temporary
            except UserError as error:
                # Say `out` rather than the name of a file that was temporary.
                if isinstance(error.__cause__, OSError):
                    raise error.__cause__ from None
                raise
            _replace(temporary, final)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        for parent in made:
            # Only while empty: others may have put something there.
            with contextlib.suppress(OSError):
                parent.rmdir()
        raise


def _make_parents(folder: Path, out: str | Path) -> list[Path]:
    """Make the missing parents; the ones that were made, innermost first."""
    with write_errors(out):
        missing = [p for p in (folder, *folder.parents) if not p.exists()]
        folder.mkdir(parents=True, exist_ok=True)
    return missing


def _replace(temporary: Path, final: Path) -> None:
    """Put `temporary` in the place of `final`, which stays as it is if this fails."""
    if not final.exists():
        os.rename(temporary, final)
        return
    old = final.with_name(f".{final.name}.old-{secrets.token_hex(4)}")
    os.rename(final, old)
    try:
        os.rename(temporary, final)
    except BaseException:
        os.rename(old, final)
        raise
    shutil.rmtree(old, ignore_errors=True)
