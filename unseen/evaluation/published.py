"""Published numbers of ShapeNet-SRN, one input view: what the field compares.

Every number says where it is from. None of these was read off the paper: they are
quoted from notes that were made from memory of the papers, so they are marked in every
table that shows them, until somebody checks them. Where notes disagree in the second
decimal of SSIM, the row is that of the method's own paper.
"""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Published:
    """Numbers of one method on cars or chairs; None where no source states one.

    `checked` says whether the numbers were compared with the paper.
    """

    psnr: float | None = None
    ssim: float | None = None
    lpips: float | None = None
    fid: float | None = None
    checked: bool = False


@dataclasses.dataclass(frozen=True)
class FieldRow:
    """A system: its name, the method of this package, its paper, published numbers."""

    name: str
    method: str | None
    paper: str
    cars: Published = Published()
    chairs: Published = Published()


FID_SOURCE = (
    "FID of SRN, pixelNeRF, VisionNeRF and 3DiM: the table of 3DiM (Watson et al. "
    "2022)."
)

FIELD: tuple[FieldRow, ...] = (
    FieldRow(
        "SRN",
        "SRN",
        "Sitzmann et al. 2019; numbers from Yu et al. 2021, on the re-rendered cars",
        Published(22.25, 0.89, fid=41.21),
        Published(22.89, 0.89, fid=26.51),
    ),
    FieldRow(
        "pixelNeRF",
        "PixelNeRF",
        "Yu et al. 2021",
        Published(23.17, 0.90, fid=59.24),
        Published(23.72, 0.91, fid=38.49),
    ),
    FieldRow(
        "VisionNeRF",
        "VisionNeRF",
        "Lin et al. 2023",
        Published(22.88, 0.91, 0.084, 21.31),
        Published(24.48, 0.93, 0.077, 10.05),
    ),
    FieldRow(
        "CodeNeRF",
        "CodeNeRF",
        "Jang and Agapito 2021, camera given",
        Published(23.80, 0.91),
        Published(23.66, 0.90),
    ),
    FieldRow(
        "LFN",
        "LFN",
        "Sitzmann et al. 2021",
        Published(22.42, 0.89),
        Published(22.26, 0.90),
    ),
    FieldRow(
        "ENR",
        "ENR",
        "Dupont et al. 2020",
        Published(22.26),
        Published(22.83),
    ),
    FieldRow(
        "3DiM",
        "ThreeDiM",
        "Watson et al. 2022",
        Published(21.01, 0.57, fid=8.99),
        Published(17.05, 0.53, fid=6.57),
    ),
    FieldRow(
        "GeNVS",
        "GeNVS",
        "Chan et al. 2023",
        Published(20.7, 0.89, 0.104, 6.47),
    ),
    # Its paper reports CO3D and RealEstate10K, not ShapeNet-SRN.
    FieldRow("DFM", "DFM", "Tewari et al. 2023"),
)
