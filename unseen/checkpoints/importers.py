"""Every importer of released weights by its name on the command line.

Importers are imported when they are asked for: the command line lists them, and that
should not wait for torch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unseen.errors import UserError

if TYPE_CHECKING:
    from unseen.methods.method import Method


def _read_dfm(path: Path) -> Method:
    from unseen.checkpoints.dfm_authors import read_dfm

    return read_dfm(path)


def _read_srn(path: Path, **options: Any) -> Method:
    from unseen.checkpoints.srn_authors import read_srn

    return read_srn(path, **options)


def _read_lfn(path: Path, **options: Any) -> Method:
    from unseen.checkpoints.lfn_authors import read_lfn

    return read_lfn(path, **options)


def _read_codenerf(path: Path, **options: Any) -> Method:
    from unseen.checkpoints.codenerf_authors import read_codenerf

    return read_codenerf(path, **options)


def _read_pixelnerf(path: Path, **options: Any) -> Method:
    from unseen.checkpoints.pixelnerf_authors import read_pixelnerf

    return read_pixelnerf(path, **options)


def _read_visionnerf(path: Path) -> Method:
    from unseen.checkpoints.visionnerf_authors import read_visionnerf

    return read_visionnerf(path)


def _read_enr(path: Path) -> Method:
    from unseen.checkpoints.enr_authors import read_enr

    return read_enr(path)


def _read_3dim(path: Path) -> Method:
    from unseen.checkpoints.threedim_port import read_3dim

    return read_3dim(path)


def _read_renderdiffusion(path: Path, **options: Any) -> Method:
    from unseen.checkpoints.viewset_triplane import read_renderdiffusion

    return read_renderdiffusion(path, **options)


def _read_genvs(path: Path) -> Method:
    from unseen.checkpoints.genvs_port import read_genvs

    return read_genvs(path)


def _read_zero123(path: Path, **options: Any) -> Method:
    from unseen.checkpoints.zero123_authors import read_zero123

    return read_zero123(path, **options)


def _read_holodiffusion(path: Path, **options: Any) -> Method:
    from unseen.checkpoints.holodiffusion_authors import read_holodiffusion

    return read_holodiffusion(path, **options)


def _read_sparsefusion(path: Path) -> Method:
    from unseen.checkpoints.sparsefusion_authors import read_sparsefusion

    return read_sparsefusion(path)


def _read_mvdream(path: Path, **options: Any) -> Method:
    from unseen.checkpoints.mvdream_authors import read_mvdream

    return read_mvdream(path, **options)


@dataclasses.dataclass(frozen=True)
class Importer:
    """How the weights of one system's authors are read.

    `method` is the name in `METHODS` of what `read` returns; `options` are the keyword
    arguments that `read` takes, because the file does not tell. With `folders` it reads
    folders in the layout of diffusers, too. `licence` is what is stated where the files
    are published; ShapeNet, which many were trained on, has terms of its own.
    """

    method: str
    read: Callable[..., Method]
    licence: str
    options: tuple[str, ...] = ()
    folders: bool = False


IMPORTERS: Mapping[str, Importer] = {
    "dfm": Importer("DFM", _read_dfm, "none stated"),
    "srn": Importer("SRN", _read_srn, "MIT", ("image_size",)),
    "lfn": Importer("LFN", _read_lfn, "MIT", ("image_size",)),
    "codenerf": Importer("CodeNeRF", _read_codenerf, "MIT", ("image_size", "extent")),
    "pixelnerf": Importer("PixelNeRF", _read_pixelnerf, "BSD-2-Clause", ("release",)),
    "visionnerf": Importer("VisionNeRF", _read_visionnerf, "MIT"),
    "enr": Importer("ENR", _read_enr, "Apple Sample Code"),
    "3dim": Importer("ThreeDiM", _read_3dim, "none stated"),
    "renderdiffusion": Importer(
        "RenderDiffusion",
        _read_renderdiffusion,
        "none stated",
        ("release", "image_size"),
    ),
    "genvs": Importer("GeNVS", _read_genvs, "none stated"),
    "zero123": Importer(
        "Zero123", _read_zero123, "code MIT", ("release", "weights"), True
    ),
    "holodiffusion": Importer(
        "HoloDiffusion", _read_holodiffusion, "CC BY-NC", ("image_size", "extent")
    ),
    "sparsefusion": Importer("SparseFusion", _read_sparsefusion, "none stated"),
    "mvdream": Importer("MVDream", _read_mvdream, "OpenRAIL-M", ("tokenizer",), True),
}


def find_importer(system: str) -> Importer:
    """The importer of this name; UserError if there is none."""
    if system not in IMPORTERS:
        raise UserError(
            f"there is no importer for '{system}': choose one of "
            f"{', '.join(IMPORTERS)}."
        )
    return IMPORTERS[system]


def check_options(system: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The options that were given (not None), for `Importer.read`.

    Raises:
        UserError: one of them means nothing to this importer.
    """
    known = find_importer(system).options
    chosen = {name: value for name, value in given.items() if value is not None}
    for name in chosen:
        if name not in known:
            flag = f"--{name.replace('_', '-')}"
            raise UserError(
                f"the importer of {system} reads all settings from the file: leave out "
                f"{flag}."
                if not known
                else f"the importer of {system} does not know {flag}: it takes "
                f"{', '.join('--' + n.replace('_', '-') for n in known)}."
            )
    return chosen
