"""`unseen import`: weights that the authors of a system released, to a model folder."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from unseen.errors import UserError

if TYPE_CHECKING:
    from unseen.methods.method import Method


@dataclasses.dataclass(frozen=True)
class Import:
    """Turn weights that a system's authors released into a model folder of ours.

    The systems are listed by `unseen models`. Nothing in the file is executed, and
    every tensor is checked. The folder is what `unseen sample --model`, `unseen eval`
    and the function `unseen.load` take.
    """

    system: tyro.conf.Positional[str]
    """Whose weights they are, such as dfm."""
    file: tyro.conf.Positional[Path]
    """The released file; or, for zero123 and mvdream, a folder in the layout of
    diffusers."""
    out: tyro.conf.Positional[Path]
    """Model folder to write; it must not exist."""
    image_size: int | None = None
    """Height and width of the images that the weights were trained on, in pixels, for
    systems whose files do not tell."""
    release: str | None = None
    """Which of several releases the file is, for systems whose files do not tell:
    srn or nmr for pixelnerf, cars or co3d for renderdiffusion, zero123 or
    stable-zero123 for zero123."""
    weights: Literal["average", "plain"] | None = None
    """For checkpoints of zero123: the moving average of the weights, or the weights
    themselves; by default the average where there is one."""
    tokenizer: Path | None = None
    """The file merges.txt of CLIP's tokenizer, or a folder with it, for mvdream's file;
    its folders bring it with them."""
    extent: float | None = None
    """For codenerf half the width of the training objects, in the data's units: 0.5 for
    the cars of ShapeNet-SRN, 0.75 for its chairs. For holodiffusion the side of the
    cube, in world units (8 by default)."""

    def run(self) -> None:
        """Read, write the folder, and print what was found."""
        from unseen.checkpoints.importers import check_options, find_importer
        from unseen.files import check_place

        importer = find_importer(self.system)
        names = ("image_size", "release", "weights", "tokenizer", "extent")
        given = {name: getattr(self, name) for name in names}
        options = check_options(self.system, given)
        if self.out.exists() or self.out.is_symlink():
            raise UserError(f"{self.out} exists: choose another folder.")
        check_place(self.out)
        if not self.file.is_file() and not (importer.folders and self.file.is_dir()):
            raise UserError(
                f"{self.file} does not exist or is no file: name the released file."
            )
        # PyTorch takes seconds to import: bad arguments need not wait.
        from unseen.checkpoints.model_folder import save_model
        from unseen.export.result_folder import result_folder

        method = importer.read(self.file, **options)
        provenance = {
            "imported": self.system,
            "file": self.file.name,
            "sha256": _digest(self.file),
            # Names of files say nothing elsewhere.
            "options": {k: x for k, x in options.items() if not isinstance(x, Path)},
        }
        with result_folder(self.out) as folder:
            save_model(method, folder, provenance)
        for line in describe(method):
            print(line)
        print(self.out)


def describe(method: Method) -> list[str]:
    """What was found in a file, for people."""
    config = method.config
    count = sum(parameter.numel() for parameter in method.parameters())
    size = f"{count / 1e6:.1f} million" if count >= 1e6 else f"{count:,}"
    lines = [
        f"method      {type(method).__name__}",
        f"weights     {size} ({4 * count / 1e6:.1f} MB)",
        f"image size  {config.image_size} x {config.image_size}",  # type: ignore[union-attr]
    ]
    codes = getattr(config, "num_objects", None)
    if codes is not None:
        lines.append(f"codes       {codes}, one per object of the training data")
    return lines


def _digest(path: Path) -> str:
    """The SHA-256 of a file; of a folder, that of the list of those of its files."""
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        lines = [f"{_digest(x)}  {x.relative_to(path).as_posix()}\n" for x in files]
        return hashlib.sha256("".join(lines).encode()).hexdigest()
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
