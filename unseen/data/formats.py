"""Opens a data set of any format that there is a reader for."""

from __future__ import annotations

from pathlib import Path

from unseen.data.dataset import PosedDataset
from unseen.data.manifest import Split, read_manifest
from unseen.data.srn_layout import SRNDataset


def open_dataset(
    path: str | Path,
    split: Split | None = None,
    cache: bool = False,
    depths: bool = True,
) -> PosedDataset:
    """A split of a data set, or all of one that has no splits.

    Raises:
        UserError: there is nothing at `path`, or nothing that is known.
    """
    has_splits = read_manifest(path) is not None
    return SRNDataset(path, split if has_splits else None, cache=cache, depths=depths)


def has_split(path: str | Path, split: Split) -> bool:
    """Whether the data set says which of its scenes belong to this split."""
    manifest = read_manifest(path)
    return manifest is not None and any(r.split == split for r in manifest.objects)
