"""`unseen.load` and `Model`: a tiny untrained DFM, from a picture to scenes."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import ClassVar

import pytest
import torch

import unseen
from tests.analytic_scene import SkyScene
from tests.methods.test_dfm import make_dfm
from tests.pictures import bad_pictures, save_plate
from tests.training.tiny_method import TinyMethod
from unseen.checkpoints.model_folder import save_model
from unseen.data.cameras import object_camera, object_cameras
from unseen.errors import UserError
from unseen.geometry.cameras import Cameras
from unseen.geometry.views import Views
from unseen.methods.method import SceneMethod
from unseen.model import Model, SampleWarning, StepReport, scene_seed
from unseen.scenes.scene import Scene


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = tmp_path_factory.mktemp("tiny")
    save_model(make_dfm(), folder, {})
    return unseen.load(folder)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    return save_plate(tmp_path / "plate.png")


def saved(scenes: list[Scene], folder: Path) -> list[bytes]:
    """The bytes of the scenes' files."""
    for index, scene in enumerate(scenes):
        scene.save(folder / f"{index}.safetensors")
    return [(folder / f"{i}.safetensors").read_bytes() for i in range(len(scenes))]


def test_eight_scenes_are_the_first_four_and_four_more(
    model: Model, picture: Path, tmp_path: Path
) -> None:
    few = saved(model.sample_scenes(picture, num=3, seed=1), tmp_path)
    many = saved(model.sample_scenes(picture, num=8, seed=1), tmp_path)
    assert many[:3] == few
    assert len(set(many)) == 8


def test_the_seed_decides_the_scenes(
    model: Model, picture: Path, tmp_path: Path
) -> None:
    first = saved(model.sample_scenes(picture, num=1, seed=5), tmp_path)
    assert saved(model.sample_scenes(picture, num=1, seed=5), tmp_path) == first
    assert saved(model.sample_scenes(picture, num=1, seed=6), tmp_path) != first


def test_seeds_of_scenes_are_distinct() -> None:
    seeds = {scene_seed(seed, index) for seed in range(100) for index in range(100)}
    assert len(seeds) == 100 * 100
    assert all(0 <= seed < 2**62 for seed in seeds)
    # "1" and "12" are other scenes than "11" and "2".
    assert scene_seed(1, 12) != scene_seed(11, 2)


def test_what_is_asked_for_reaches_the_sampler(model: Model, picture: Path) -> None:
    reports: list[tuple[int, int]] = []
    steps: list[StepReport] = []
    scenes = model.sample_scenes(
        picture,
        num=5,
        steps=2,
        progress=lambda *r: reports.append(r),
        on_step=steps.append,
    )
    # Two batches of two completing views of two steps.
    assert reports == [(i + 1, 8) for i in range(8)]
    assert [(step.done, step.total) for step in steps] == reports
    # Every step brings the scenes of its batch, and those of the batch before.
    assert [len(step.scenes) for step in steps] == [4] * 4 + [5] * 4
    assert all(a is b for a, b in zip(steps[-1].scenes[:4], scenes[:4], strict=True))
    # Guided, this model infers the returned scene once more after the last step.
    assert all(scene.shape == () for scene in steps[-1].scenes)
    assert [scene.shape for scene in scenes] == [()] * 5
    plain = model.sample_scenes(picture, num=1, guidance=1.0)[0].tensors()
    guided = model.sample_scenes(picture, num=1, guidance=3.0)[0].tensors()
    assert not torch.equal(plain["volumes"], guided["volumes"])


def test_the_input_view_is_where_the_picture_was_taken(
    model: Model, picture: Path
) -> None:
    views = model.context(picture, fov=50.0, elevation=30.0)
    assert views.images.shape == (1, 3, 16, 16)
    center = views.cameras.centers[0]
    assert center[1].abs() < 1e-5 and center[0] > 0
    sine = float(center[2] / center.norm())
    assert sine == pytest.approx(0.5, abs=1e-4)
    # The object's sphere fills the field of view, nearly.
    assert 1 < float(center.norm() * torch.sin(torch.deg2rad(torch.tensor(25.0)))) < 1.1


def test_several_posed_images_are_context_too(model: Model, picture: Path) -> None:
    front = model.context(picture)
    steeper = model.context(picture, elevation=45.0)
    scene = model.complete(Views.cat([front, steeper]), num=1)[0]
    # Two given views, one completed one, and the last noisy one.
    assert scene.tensors()["volumes"].shape[0] == 4


@pytest.mark.parametrize("name", ["missing.png", "text.png", "clear.png", "white.png"])
def test_bad_pictures(model: Model, tmp_path: Path, name: str) -> None:
    path, reason = bad_pictures(tmp_path)[name]
    with pytest.raises(UserError, match=reason):
        model.sample_scenes(path)


@pytest.mark.parametrize(
    "settings, reason",
    [
        ({"num": 0}, "at least one sample"),
        ({"steps": 0}, "at least one step"),
        ({"guidance": float("nan")}, "guidance must be"),
        ({"guidance": -1.0}, "guidance must be"),
        ({"fov": 180.0}, "field of view"),
        ({"fov": float("nan")}, "field of view"),
        ({"elevation": 90.0}, "elevation"),
    ],
)
def test_bad_numbers(model: Model, picture: Path, settings: dict, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        model.sample_scenes(picture, **settings)


def test_images_of_another_shape(model: Model, picture: Path) -> None:
    views = model.context(picture)
    small = views.shrink((8, 8))
    for wrong in (small, Views.stack([views])):
        with pytest.raises(UserError, match=r"give \(view, 3, 16, 16\)"):
            model.complete(wrong)


def test_a_method_without_scenes(model: Model, picture: Path) -> None:
    views_only = dataclasses.replace(model, method=TinyMethod(0.1))
    with pytest.raises(UserError, match="samples views and no scenes"):
        views_only.complete(Views(torch.rand(1, 3, 8, 8), object_camera(40.0, 20.0)))


@dataclasses.dataclass(frozen=True)
class PainterConfig:
    image_size: int = 16


class Painter(SceneMethod):
    """Paints the sky in the mean colour of what it is given, and says what that was."""

    stochastic: ClassVar = False
    max_context: ClassVar = 1
    sample_options: ClassVar = frozenset()

    def __init__(self) -> None:
        super().__init__()
        self.config = PainterConfig()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.batches: list[tuple[int, ...]] = []
        self.cameras: list[Cameras | None] = []

    def loss(self, example, generator):
        raise AssertionError("nothing is trained here")

    def sample_scene(self, context, seeds, cameras=None, options=None, on_step=None):
        assert len(seeds) == context.shape[0]
        self.batches.append(tuple(context.shape))
        self.cameras.append(cameras)
        return SkyScene(context.images.mean(dim=(1, 3, 4)))


def views_around(count: int) -> Views:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(count, 3, 16, 16, generator=generator)
    return Views(images, object_cameras(count, generator))


def test_a_deterministic_method_makes_one_scene_of_one_batch_entry() -> None:
    painter = Painter()
    views = views_around(1)
    assert len(Model(painter).complete(views)) == 1
    with pytest.warns(SampleWarning, match="one scene and not 3"):
        assert len(Model(painter).complete(views, num=3)) == 1
    assert painter.batches == [(1, 1), (1, 1)]


def test_the_default_is_four_scenes_of_a_stochastic_method(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Painter, "stochastic", True)
    painter, reports = Painter(), []
    found = Model(painter).complete(
        views_around(1), progress=lambda *step: reports.append(step)
    )
    # One at a time: nothing is sampled that nobody asked for.
    assert len(found) == 4 and painter.batches == [(1, 1)] * 4
    assert reports == []


def test_what_a_method_does_not_have_is_refused() -> None:
    model, one = Model(Painter()), views_around(1)
    for wrong, reason in (
        ({"steps": 3}, "takes no steps"),
        ({"guidance": 1.0}, "no classifier-free guidance"),
        ({"num": 0}, "at least one sample"),
    ):
        with pytest.raises(UserError, match=reason):
            model.complete(one, **wrong)
    with pytest.raises(UserError, match="takes one input view, not 2"):
        model.complete(views_around(2))


class Dreamer(Painter):
    """Paints skies of nothing at all, in colours of their seeds."""

    stochastic: ClassVar = True
    min_context: ClassVar = 0
    max_context: ClassVar = 0

    def sample_scene(self, context, seeds, cameras=None, options=None, on_step=None):
        assert context.images.shape[2:] == (3, 16, 16)
        super().sample_scene(context, seeds, cameras, options, on_step)
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        return SkyScene(torch.stack([torch.rand(3, generator=g) for g in generators]))


def test_scenes_of_no_image() -> None:
    dreamer = Dreamer()
    scenes = Model(dreamer).sample_scenes(None, num=4, seed=2, elevation=30.0)
    assert dreamer.batches == [(1, 0)] * 4 and len(scenes) == 4
    again = Model(dreamer).sample_scenes(None, num=2, seed=2)
    for scene, same in zip(scenes, again, strict=False):
        assert torch.equal(scene.tensors()["tint"], same.tensors()["tint"])
    # They are told where they are going to be seen.
    handed = dreamer.cameras[0]
    assert handed is not None and handed.shape == (1, 1)
    center = handed.centers[0, 0]
    assert float(center[2] / center.norm()) == pytest.approx(0.5, abs=1e-4)


def test_images_where_none_are_taken_and_none_where_some_are(picture: Path) -> None:
    with pytest.raises(UserError, match=r"Dreamer takes no image: leave it out"):
        Model(Dreamer()).sample_scenes(picture)
    with pytest.raises(UserError, match=r"Painter needs an image.*give a pict"):
        Model(Painter()).sample_scenes(None)


def test_views_and_targets_are_checked_and_handed_on() -> None:
    painter = Painter()
    views, cameras = views_around(1), views_around(3).cameras
    dark = dataclasses.replace(views, images=-views.images)
    with pytest.raises(UserError, match=r"outside of \[0, 1\]"):
        Model(painter).complete(dark)
    far_off = torch.eye(4)
    far_off[0, 3] = 50.0
    away = cameras.transform(far_off)
    with pytest.raises(UserError, match="target camera"):
        Model(painter).complete(views, cameras=away)
    assert painter.batches == []
    Model(painter).complete(views, cameras=cameras)
    handed = painter.cameras[0]
    assert handed is not None and handed.shape == (1, 3)
