"""The exact picture and what its colours mean, against closed forms."""

from __future__ import annotations

import math

import pytest
import torch

from tests.analytic_scene import sky
from tests.viewer.balls import ball_samples, given_view
from unseen.data.cameras import object_camera
from unseen.export.colormap import colorize
from unseen.geometry.cameras import look_at
from unseen.scenes.gaussians import GaussianScene, harmonics_of_colors
from unseen.viewer.exact import FAR, Cell, draw_exact
from unseen.viewer.gaussians import Gaussians
from unseen.viewer.layout import Viewpoint, arrange
from unseen.viewer.modes import (
    FULL_SPREAD,
    Mode,
    draw_picture,
    gaussian_colors,
    possible_modes,
)
from unseen.viewer.sample import Sample

SIZE = (48, 64)


def viewpoint(azimuth: float = 0.3, distance: float = 5.0) -> Viewpoint:
    center = distance * torch.tensor([math.cos(azimuth), math.sin(azimuth), 0.2])
    return Viewpoint(look_at(center, torch.zeros(3)), math.radians(40), 4 / 3)


def draw(mode: Mode, samples: list[Sample], view: Viewpoint, **settings):
    cells = [Cell((sample,), sample.name) for sample in samples]
    motions = arrange(len(cells), view, samples[0].sphere)
    return draw_exact(mode, cells, motions, view, SIZE, **settings)


def test_bands_and_cells_make_the_picture_of_one_camera() -> None:
    """One scene in the middle: the window's bands against a single rendering."""
    sample = ball_samples(given=given_view())[0]
    view = viewpoint()
    canvas = draw(Mode.COLOR, [sample], view)
    assert canvas is not None
    distance = float(view.extrinsics[:3, 3].norm())
    camera = object_camera(40.0, 0.0)
    camera = type(camera)(
        view.extrinsics[None],
        view.intrinsics[None],
        torch.tensor([distance - 1]),
        torch.tensor([distance + 1]),
    )
    rendered = sample.scene.render(camera, SIZE)
    torch.testing.assert_close(canvas.color, rendered.color[0], atol=1e-3, rtol=0)
    assert rendered.opacity is not None and rendered.depth is not None
    solid = rendered.opacity[0] > 0.5
    torch.testing.assert_close(
        canvas.depth[solid], rendered.depth[0][solid], atol=1e-3, rtol=0
    )
    assert (canvas.depth[~solid] == FAR).all() and solid.any()


def test_drawing_ends_when_something_changes() -> None:
    asked = iter([False, True])
    sample = ball_samples()[0]
    view = viewpoint(distance=3.0)
    cells = [Cell((sample,), "")]
    motions = arrange(1, view, sample.sphere)
    size = (300, 400)
    found = draw_exact(
        Mode.COLOR, cells, motions, view, size, lambda: next(asked, True)
    )
    assert found is None and next(asked, None) is None


def test_the_spread_of_two_balls_is_where_only_one_is() -> None:
    samples = ball_samples(0.6, 0.3)
    camera = object_camera(40.0, 20.0)
    picture = draw_picture(Mode.SPREAD, samples, camera, (33, 33))
    agree = draw_picture(Mode.SPREAD, [samples[0]] * 2, camera, (33, 33))
    dark = colorize(torch.zeros(1, 1))[:, 0, 0]
    torch.testing.assert_close(agree.color[:, 16, 16], dark, atol=0.02, rtol=0)
    # Half way out there is a red or blue ball in one sample and white in the other.
    assert picture.opacity is not None
    column = 16 + int(0.45 / 0.6 * (picture.opacity[16] > 0.5).sum() / 2)
    colors = [s.scene.render(camera, (33, 33)).color[0, :, 16, column] for s in samples]
    spread = torch.stack(colors).std(dim=0, correction=0).mean()
    expected = colorize((spread / FULL_SPREAD)[None, None])[:, 0, 0]
    torch.testing.assert_close(
        picture.color[:, 16, column], expected, atol=0.02, rtol=0
    )


def cloud_sample(color: tuple[float, float, float]) -> Sample:
    """A scene of Gaussians all over a ball, of one colour."""
    generator = torch.Generator().manual_seed(0)
    means = 0.5 * torch.randn(300, 3, generator=generator)
    scene = GaussianScene(
        means,
        torch.full((300, 3), math.log(0.08)),
        torch.tensor([1.0, 0, 0, 0]).repeat(300, 1),
        torch.full((300,), 4.0),
        harmonics_of_colors(torch.tensor(color).repeat(300, 1), 0),
        torch.ones(3),
    )
    return Sample(str(color), scene)


def test_the_spread_of_scenes_of_gaussians() -> None:
    """Gaussians of the same places in red, and in blue: their colours differ by 1."""
    red, blue = cloud_sample((1.0, 0.0, 0.0)), cloud_sample((0.0, 0.0, 1.0))
    assert Mode.SPREAD in possible_modes([red, blue])
    camera = object_camera(40.0, 20.0)
    dark = colorize(torch.zeros(1, 1))[:, 0, 0]
    gaussians = red.gaussians
    assert gaussians is not None
    agree = gaussian_colors(Mode.SPREAD, red, [red, red], camera)
    torch.testing.assert_close(agree, dark.expand_as(agree))
    differ = gaussian_colors(Mode.SPREAD, red, [red, blue], camera)
    light = colorize(torch.ones(1, 1))[:, 0, 0]
    middle = gaussians.centers.norm(dim=-1) < 0.4
    assert middle.any()
    assert (differ[middle] - light).abs().max() < 0.05
    # A field beside Gaussians: both count.
    mixed = gaussian_colors(Mode.SPREAD, red, [red, ball_samples()[0]], camera)
    assert (mixed[middle] - dark).abs().sum(dim=-1).median() > 0.3


def test_gaussians_at_points_equal_all_of_them_one_by_one() -> None:
    gaussians = cloud_sample((0.2, 0.5, 0.9)).gaussians
    assert gaussians is not None
    chosen = Gaussians(
        gaussians.centers[:12],
        gaussians.covariances[:12],
        gaussians.colors[:12],
        gaussians.opacities[:12],
    )
    points = chosen.centers + 0.02
    opacity, color = chosen.evaluate(points)
    for point, found, seen in zip(points, opacity, color, strict=True):
        passed, mixed, weight = 1.0, torch.zeros(3), 0.0
        for i in range(12):
            offset = point - chosen.centers[i]
            square = offset @ torch.linalg.inv(chosen.covariances[i]) @ offset
            absorbed = float(chosen.opacities[i]) * math.exp(-0.5 * float(square))
            passed *= 1 - absorbed
            mixed, weight = mixed + absorbed * chosen.colors[i], weight + absorbed
        assert float(found) == pytest.approx(1 - passed, abs=1e-4)
        torch.testing.assert_close(seen, mixed / weight, atol=1e-3, rtol=0)


@pytest.mark.parametrize("turn, seen", [(0.0, True), (math.pi, False)])
def test_the_front_is_seen_and_the_back_invented(turn: float, seen: bool) -> None:
    sample = ball_samples(given=given_view())[0]
    view = viewpoint(azimuth=turn)
    canvas = draw(Mode.SEEN, [sample], view)
    assert canvas is not None
    color = canvas.color[:, SIZE[0] // 2, SIZE[1] // 2]
    blue = bool(color[2] > color[0])
    assert blue == seen
    # The Gaussians of that side have the same hue.
    colors = gaussian_colors(Mode.SEEN, sample, [sample], object_camera(40.0, 20.0))
    assert sample.gaussians is not None
    x = sample.gaussians.centers[:, 0]
    side = x > 0.4 if seen else x < -0.4
    share = (colors[side, 2] > colors[side, 0]).float().mean()
    assert share > 0.9 if seen else share < 0.1


def test_depth_is_light_where_near() -> None:
    sample = ball_samples(given=given_view())[0]
    camera = object_camera(40.0, 20.0)
    picture = draw_picture(Mode.DEPTH, [sample], camera, (33, 33))
    assert picture.depth is not None
    near, far = float(camera.near[0]), float(camera.far[0])
    value = 0.1 + 0.9 * (far - picture.depth[16, 16]) / (far - near)
    torch.testing.assert_close(
        picture.color[:, 16, 16],
        colorize(value[None, None])[:, 0, 0],
        atol=1e-2,
        rtol=0,
    )
    colors = gaussian_colors(Mode.DEPTH, sample, [sample], camera)
    assert sample.gaussians is not None
    toward = sample.gaussians.centers @ camera.centers[0]
    light = colors.mean(dim=-1)
    assert light[toward.argmax()] > light[toward.argmin()] + 0.1


def test_modes_are_offered_where_they_mean_something() -> None:
    known, unknown = ball_samples(given=given_view())[0], ball_samples()[0]
    plain = [Mode.COLOR, Mode.DEPTH, Mode.OPACITY]
    assert possible_modes([unknown]) == plain
    assert possible_modes([known]) == [*plain, Mode.SEEN]
    assert possible_modes([known, unknown]) == [*plain, Mode.SPREAD]
    # A scene without depth cannot say what was seen.
    flat = Sample("sky", sky(), given_view())
    assert possible_modes([flat]) == plain
    assert flat.coarse is None
    lightest = {}
    for mode in (Mode.DEPTH, Mode.COLOR):
        canvas = draw(mode, [flat], viewpoint())
        assert canvas is not None
        lightest[mode] = float(canvas.color.min())
    assert lightest[Mode.DEPTH] == 1 and lightest[Mode.COLOR] < 0.9
