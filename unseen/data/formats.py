"""Opens a data set of any format that there is a reader for."""

from __future__ import annotations

from pathlib import Path

from unseen.data.co3d import CO3DDataset
from unseen.data.colmap import ColmapDataset
from unseen.data.dataset import PosedDataset, PosedReader
from unseen.data.dvr_layout import DVRDataset
from unseen.data.framing import FramedDataset
from unseen.data.llff import LLFFDataset
from unseen.data.manifest import Split
from unseen.data.nerf_synthetic import NeRFSyntheticDataset
from unseen.data.pixelsplat_chunks import PixelSplatDataset
from unseen.data.posed_folder import PosedFolderDataset
from unseen.data.realestate10k import RealEstate10KDataset
from unseen.data.shard_dataset import ShardDataset
from unseen.data.srn_hdf5 import HDF5Dataset
from unseen.data.srn_layout import SRNDataset
from unseen.data.transforms import TransformsDataset
from unseen.data.zero123 import Zero123Dataset
from unseen.errors import UserError

READERS: tuple[type[PosedReader], ...] = (
    ShardDataset,
    PosedFolderDataset,
    NeRFSyntheticDataset,
    TransformsDataset,
    ColmapDataset,
    LLFFDataset,
    Zero123Dataset,
    SRNDataset,
    CO3DDataset,
    RealEstate10KDataset,
    PixelSplatDataset,
    HDF5Dataset,
    DVRDataset,
)
"""All formats; the first that recognises a folder reads it."""


def find_reader(path: str | Path) -> type[PosedReader]:
    """The reader for what lies at `path`.

    Raises:
        UserError: there is nothing at `path`, or nothing that is known.
    """
    path = Path(path)
    if path.suffix.lower() == ".zip" and path.is_file():
        raise UserError(f"{path} is an archive: unpack it first and name the folder.")
    if not path.exists():
        raise UserError(f"There is no folder {path}; check the path.")
    for reader in READERS:
        if reader.recognises(path):
            return reader
    known = ", ".join(reader.format_name for reader in READERS)
    raise UserError(
        f"{path} holds no data set of a known format: known are {known} "
        f"(docs/data.md says which files each has)."
    )


def open_dataset(
    path: str | Path,
    split: Split | None = None,
    cache: bool = False,
    depths: bool = True,
    side: int | None = None,
) -> PosedDataset:
    """A split of a data set, or all of one that has no splits.

    With `side`, every image is the square in the middle of the file's image, averaged
    down to so many pixels (see `framing`); else images are as the files have them.
    `cache` keeps what was read in memory, `depths=False` leaves depth images alone.

    Raises:
        UserError: there is nothing at `path`, or nothing that is known.
    """
    if side is None:
        return open_reader(path, split, cache, depths)
    return FramedDataset(open_reader(path, split, False, depths), side, cache)


def open_reader(
    path: str | Path,
    split: Split | None = None,
    cache: bool = False,
    depths: bool = True,
) -> PosedReader:
    """The same, with images as the files have them, as the format's own class."""
    path = Path(path)
    reader = find_reader(path)
    chosen = {} if split is None or not reader.splits(path) else {"split": split}
    return reader(path, cache=cache, depths=depths, **chosen)  # type: ignore[call-arg]


def has_split(path: str | Path, split: Split) -> bool:
    """Whether the data set says what of it belongs to this split, if anything does."""
    return split in find_reader(path).splits(Path(path))
