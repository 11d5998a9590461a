"""Square images of any photographs, and their cameras."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from tests.data.posed_files import make_views, write_posed_folder
from unseen.data.formats import open_dataset
from unseen.data.framing import FramedDataset, frame_views, square_intrinsics
from unseen.data.lens import Lens, undistort
from unseen.errors import UserError
from unseen.geometry.cameras import Cameras
from unseen.geometry.projection import project
from unseen.geometry.views import Views


def wide_views(height: int, width: int, generator: torch.Generator) -> Views:
    images = torch.rand(2, 3, height, width, generator=generator)
    intrinsics = torch.tensor([[0.9, 0, 0.55], [0, 1.4, 0.4], [0, 0, 1]])
    ones = torch.ones(2)
    cameras = Cameras(
        torch.eye(4).expand(2, 4, 4), intrinsics.expand(2, 3, 3), ones, 9 * ones
    )
    return Views(images, cameras, images[:, 0], images[:, 1] + 1)


@pytest.mark.parametrize(("height", "width"), [(24, 40), (40, 24)])
def test_a_square_is_cut_out_and_averaged(
    height: int, width: int, generator: torch.Generator
) -> None:
    views = wide_views(height, width, generator)
    framed = frame_views(views, 8)
    rows = slice((height - 24) // 2, (height + 24) // 2)
    columns = slice((width - 24) // 2, (width + 24) // 2)
    square = views.images[..., rows, columns]
    blocks = square.reshape(2, 3, 8, 3, 8, 3).mean(dim=(3, 5))
    assert torch.allclose(framed.images, blocks, atol=1e-6)
    assert framed.masks is not None and framed.depths is not None
    assert torch.allclose(framed.masks, blocks[:, 0], atol=1e-6)
    # Depths are those of the middle pixel of every three by three.
    middle = square[:, 1, 1::3, 1::3] + 1
    assert torch.equal(framed.depths, middle)


def test_a_point_stays_on_its_pixel(generator: torch.Generator) -> None:
    for height, width in ((20, 50), (50, 20), (30, 30)):
        views = wide_views(height, width, generator)
        points = torch.randn(2, 10, 3, generator=generator) + torch.tensor([0, 0, 6.0])
        before, _ = project(views.cameras, points)
        after, _ = project(frame_views(views, 10).cameras, points)
        side = min(height, width)
        corner = torch.tensor([width - side, height - side]) / 2
        pixels = before * torch.tensor([width, height]) - corner
        assert torch.allclose(after, pixels / side, atol=1e-5)


def test_what_has_the_side_already_stays_as_it_is(generator: torch.Generator) -> None:
    views = wide_views(12, 12, generator)
    assert frame_views(views, 12) is views
    intrinsics = views.cameras.intrinsics
    assert torch.equal(square_intrinsics(intrinsics, 12, 12), intrinsics)


def test_nothing_is_enlarged(generator: torch.Generator) -> None:
    with pytest.raises(UserError, match="12x30 pixels, and 16x16 are wanted"):
        frame_views(wide_views(12, 30, generator), 16)


def test_the_cache_changes_nothing(tmp_path: Path) -> None:
    write_posed_folder(tmp_path, make_views())
    plain = open_dataset(tmp_path, side=8)
    cached = open_dataset(tmp_path, side=8, cache=True)
    assert isinstance(plain, FramedDataset) and isinstance(cached, FramedDataset)
    assert plain.scene_ids == cached.scene_ids == [tmp_path.name]
    for order in ([2, 0], [1], [2, 0]):
        known, found = plain.load(0, order), cached.load(0, order)
        assert torch.equal(known.images, found.images)
        assert torch.equal(known.cameras.intrinsics, found.cameras.intrinsics)
    for path in tmp_path.glob("*.png"):
        path.unlink()
    assert torch.equal(cached.load(0, [2, 0]).images, known.images)


def test_a_straightened_image_is_the_pinhole_camera_s() -> None:
    """An analytic picture, seen through a lens, then undistorted."""
    lens = Lens(k1=0.3, k2=-0.05, p1=0.01, p2=-0.008, k3=0.02)
    intrinsics = torch.tensor([[1.1, 0, 0.52], [0, 1.6, 0.47], [0, 0, 1]])
    height, width = 60, 90

    def scene(xy: torch.Tensor) -> torch.Tensor:
        return 0.5 + 0.5 * torch.sin(9 * xy[..., 0] + 2) * torch.cos(7 * xy[..., 1])

    rows, columns = torch.meshgrid(
        (torch.arange(height) + 0.5) / height,
        (torch.arange(width) + 0.5) / width,
        indexing="ij",
    )
    plane = torch.stack([(columns - 0.52) / 1.1, (rows - 0.47) / 1.6], dim=-1)
    # Which ideal point is seen at each pixel: the inverse, by iteration.
    ideal = plane.clone()
    for _ in range(60):
        ideal = ideal + plane - lens.distort(ideal)
    assert (lens.distort(ideal) - plane).abs().max() < 1e-6
    seen, expected = scene(ideal), scene(plane)
    found = undistort(seen[None], intrinsics, lens)[0]
    # Away from the border, where the photograph has nothing to sample.
    inner = (slice(8, -8), slice(8, -8))
    assert (found - expected)[inner].abs().max() < 0.02
    assert (seen - expected)[inner].abs().max() > 0.05


def test_a_lens_follows_its_formula() -> None:
    x, y = 0.3, -0.2
    k1, k2, p1, p2, k3 = 0.1, 0.02, 0.003, -0.004, 0.05
    square = x * x + y * y
    radial = 1 + k1 * square + k2 * square**2 + k3 * square**3
    expected = [
        x * radial + 2 * p1 * x * y + p2 * (square + 2 * x * x),
        y * radial + 2 * p2 * x * y + p1 * (square + 2 * y * y),
    ]
    found = Lens(k1, k2, p1, p2, k3).distort(torch.tensor([x, y]))
    assert found.tolist() == pytest.approx(expected, abs=1e-7)
    assert not Lens().distorts and dataclasses.replace(Lens(), p2=1e-3).distorts
