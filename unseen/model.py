# length: all that one does with a model, in one class.
"""A trained model, as people use it: pictures in, scenes (or views) out."""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from jaxtyping import Bool
from torch import Tensor

from unseen.data.cameras import object_camera, object_turn, turn_around
from unseen.data.image_input import load_hidden_part, load_object_image
from unseen.errors import UserError
from unseen.geometry.cameras import Cameras
from unseen.geometry.views import Views
from unseen.methods.method import (
    JointViewMethod,
    Method,
    OnStep,
    SampleOptions,
    SceneMethod,
    ViewKeeper,
    ViewMethod,
    add_view,
    check_input,
    scene_seed,
)
from unseen.scenes.scene import Scene

DEFAULT_NUM = 4
"""Scenes that are sampled where nobody says how many, by methods that can differ."""

DEFAULT_VIEWS = 5
"""Views that are sampled around an object where nobody says which."""

DEFAULT_JOINT_VIEWS = 4
"""The same of methods that are given no view, and make all of them together."""


class SampleWarning(UserWarning):
    """One sentence: what was asked for makes no sense, and what was done instead."""


@dataclasses.dataclass(frozen=True)
class StepReport:
    """How far sampling is.

    `done` of `total` steps, over all batches. `scenes` are the first ones of those that
    were asked for, () each: the finished ones of earlier batches, then those of the
    running batch as they are after this step.
    """

    done: int
    total: int
    scenes: list[Scene]


@dataclasses.dataclass(frozen=True)
class Model:
    """A method with its weights."""

    method: Method

    @property
    def image_size(self) -> int:
        """Height and width of the images that the method works on."""
        return self.method.config.image_size  # type: ignore[union-attr,return-value]

    @property
    def _device(self) -> torch.device:
        return next(self.method.parameters()).device

    def sample_scenes(
        self,
        image: str | Path | None,
        num: int | None = None,
        seed: int = 0,
        steps: int | None = None,
        guidance: float | None = None,
        fov: float = 40.0,
        elevation: float = 20.0,
        progress: Callable[[int, int], None] | None = None,
        on_step: Callable[[StepReport], None] | None = None,
        noise_level: float | None = None,
        hidden: str | Path | None = None,
        cameras: Cameras | None = None,
    ) -> list[Scene]:
        """Sample `num` 3D scenes that a picture of an object could belong to.

        By default four, or one of a deterministic method; see `complete`. Without a
        picture (None), a model of objects themselves samples whatever it knows.
        `hidden` is a second picture of the same shape, white where the first one is
        unknown and shall be sampled. `cameras` (view,) are where the scenes are going
        to be seen, in the world of the object: see `complete` and `needs_cameras`.

        The object ends up in the unit sphere at the world's origin, z up, with the
        camera at azimuth 0. `fov` (full field of view) and `elevation` (how far the
        camera looks down) are in degrees. Scene i depends on `seed` and i, not on
        `num`. `progress` gets the number of steps done and to do, `on_step` the scenes
        also; an exception that either raises ends the sampling.

        Raises:
            UserError: the picture cannot be used, or the model cannot do what is
                asked for.
        """
        views = self.context(image, fov, elevation)
        part = None
        if hidden is not None:
            if image is None:
                raise UserError(f"{hidden} hides a part of no image: name the image.")
            part = load_hidden_part(image, hidden, self.image_size)
        if cameras is None and image is None:
            # Where scenes of no picture are seen from, should the method ask.
            cameras = object_camera(fov, elevation)
        return self.complete(
            views,
            num,
            seed,
            steps,
            guidance,
            progress,
            cameras,
            on_step,
            noise_level,
            part,
        )

    def sample_views(
        self,
        image: str | Path | None,
        cameras: Cameras | None = None,
        num_views: int | None = None,
        num: int | None = None,
        seed: int = 0,
        steps: int | None = None,
        guidance: float | None = None,
        fov: float = 40.0,
        elevation: float = 20.0,
        progress: Callable[[int, int], None] | None = None,
        prompt: str | None = None,
        azimuth: float = 0.0,
    ) -> list[Views]:
        """Sample `num` times what `cameras` (view,) see of a picture's object.

        By default four times, `num_views` views evenly around the object: five besides
        the picture's, or, of a model that takes none, four from `azimuth` (degrees) on.
        For methods without scenes; see `sample_scenes` for the other arguments, and
        `generate`.
        """
        context = self.context(image, fov, elevation)
        if cameras is None:
            cameras = self.cameras_around(context, num_views, fov, elevation, azimuth)
        return self.generate(
            context, cameras, num, seed, steps, guidance, progress, prompt=prompt
        )

    def cameras_around(
        self,
        context: Views,
        num_views: int | None = None,
        fov: float = 40.0,
        elevation: float = 20.0,
        azimuth: float = 0.0,
    ) -> Cameras:
        """Where views (view,) are sampled if nobody says it; see `sample_views`."""
        if len(context):
            count = DEFAULT_VIEWS if num_views is None else num_views
            return turn_around(context.cameras[0], count)
        count = DEFAULT_JOINT_VIEWS if num_views is None else num_views
        return object_turn(fov, elevation, count, azimuth)

    def context(
        self, image: str | Path | None, fov: float = 40.0, elevation: float = 20.0
    ) -> Views:
        """The picture of an object as the input view (view,); see `sample_scenes`.

        Without a picture there are no views: (0,).
        """
        size = (self.image_size, self.image_size)
        if image is None:
            return Views(torch.empty(0, 3, *size), object_camera(fov, elevation)[:0])
        loaded = load_object_image(image, self.image_size)
        camera = object_camera(fov, elevation)
        return Views(loaded.image[None], camera, loaded.mask[None].reshape(1, *size))

    def complete(
        self,
        context: Views,
        num: int | None = None,
        seed: int = 0,
        steps: int | None = None,
        guidance: float | None = None,
        progress: Callable[[int, int], None] | None = None,
        cameras: Cameras | None = None,
        on_step: Callable[[StepReport], None] | None = None,
        noise_level: float | None = None,
        hidden: Bool[Tensor, "height width"] | None = None,
    ) -> list[Scene]:
        """Sample `num` scenes that agree with posed images (view,).

        There may be none of them, (0,), where the model can do without. The images have
        the model's `image_size`. By default there are four scenes; a deterministic
        method makes one, and a `SampleWarning` says so where more are asked for.
        `steps` are denoising steps, or steps of fitting codes. `cameras` (view,) are
        where the scenes are going to be seen: models that do not complete objects need
        them. `noise_level` (0 to 1) and `hidden` are for diffusion models of images
        of scenes: see `SampleOptions`. Scenes live where the model does.

        Raises:
            UserError: the images have another size, or are not posed as they should
                be (see `check_views`); a number makes no sense; the model makes no
                scenes, or does not know an option.
        """
        method = self.method
        if not isinstance(method, SceneMethod):
            raise UserError(
                f"{method.title} samples views and no scenes: use a method "
                "that samples scenes, such as DFM."
            )
        num = self._number(num, len(context))
        options = SampleOptions(steps, guidance, noise_level, hidden)
        options.check(method)
        check_input(method, self.image_size, context, cameras)
        if cameras is not None:
            cameras = cameras.to(self._device)
        context = dataclasses.replace(context, depths=None).to(self._device)
        count = method.scenes_at_once
        scenes: list[Scene] = []
        for start in range(0, num, count):
            # Always a full batch: the last bits of a result may depend on its size.
            seeds = [scene_seed(seed, start + i) for i in range(count)]
            batch = Views.stack([context] * count)
            seen = None if cameras is None else Cameras.stack([cameras] * count)

            wanted = range(min(count, num - start))
            batches = (start // count, math.ceil(num / count))
            report = _reporter(batches, wanted, tuple(scenes), progress, on_step)
            found = method.sample_scene(batch, seeds, seen, options, report)
            scenes += [found[i] for i in wanted]
        return scenes

    def generate(
        self,
        context: Views,
        cameras: Cameras,
        num: int | None = None,
        seed: int = 0,
        steps: int | None = None,
        guidance: float | None = None,
        progress: Callable[[int, int], None] | None = None,
        keep: ViewKeeper | None = None,
        prompt: str | None = None,
    ) -> list[Views]:
        """Sample `num` times the views (view,) at `cameras`.

        One after the other, or together, as the method does it. `context` are posed
        images (view,) of the model's `image_size`; models of text take none, (0,), and
        a `prompt`. Sample i depends on `seed` and i. What `keep` holds is not redone.

        Raises:
            UserError: as for `complete`; or the model makes scenes.
        """
        method = self.method
        if not isinstance(method, ViewMethod | JointViewMethod):
            raise UserError(
                f"{method.title} samples scenes, which can be rendered from "
                "anywhere: use sample_scenes."
            )
        options = SampleOptions(steps, guidance, prompt=prompt)
        num = self._number(num, len(context))
        options.check(method)
        check_input(method, self.image_size, context, cameras)
        if len(cameras) == 0:
            raise UserError("there is no target camera: give at least one.")
        context, cameras = context.to(self._device), cameras.to(self._device)
        if isinstance(method, JointViewMethod):
            request = (context, cameras, num, seed, options)
            return _generate_together(method, *request, progress, keep)
        count, views, samples = method.scenes_at_once, len(cameras), []
        total = math.ceil(num / count) * views
        for start in range(0, num, count):
            # Always a full batch: the last bits of a result may depend on its size.
            seeds = [scene_seed(seed, start + i) for i in range(count)]
            known = Views.stack([Views(context.images, context.cameras)] * count)
            for view in range(views):

                def report(done: int, steps: int, before=start // count * views + view):
                    if progress is not None:
                        progress(before * steps + done, total * steps)

                name, camera = f"{start:03d}-{view:03d}", cameras[view].expand(count)
                own = [scene_seed(seed, view) for seed in seeds]
                images = None if keep is None else keep.read(name)
                if images is None:
                    images = method.sample_view(known, camera, own, options, report)
                    if keep is not None:
                        keep.write(name, images)
                known = add_view(known, images.to(self._device), camera)
            new = known[:, len(context) :]
            samples += [new[i] for i in range(min(count, num - start))]
        return samples

    @property
    def makes_scenes(self) -> bool:
        """Whether it samples scenes (`sample_scenes`), or views (`sample_views`)."""
        return isinstance(self.method, SceneMethod)

    @property
    def needs_cameras(self) -> bool:
        """Whether it must be told where a scene is going to be seen, to complete it."""
        return isinstance(self.method, SceneMethod) and self.method.needs_cameras

    def _number(self, num: int | None, num_context: int) -> int:
        """How many samples are made of so many views where `num` are asked for."""
        varies = self.method.varies(num_context)
        if num is None:
            return DEFAULT_NUM if varies else 1
        if num < 1:
            raise UserError(f"ask for at least one sample, not {num}.")
        if num > 1 and not varies:
            when = " where it is given images" if self.method.stochastic else ""
            warnings.warn(
                f"{self.method.title} is deterministic{when}, so there is one scene "
                f"and not {num}",
                SampleWarning,
                stacklevel=3,
            )
            return 1
        return num


def _generate_together(
    method: JointViewMethod,
    context: Views,
    cameras: Cameras,
    num: int,
    seed: int,
    options: SampleOptions,
    progress: Callable[[int, int], None] | None,
    keep: ViewKeeper | None,
) -> list[Views]:
    """`num` samples of all views, which are kept when all of a batch are there."""
    count, samples = method.scenes_at_once, []
    batches = math.ceil(num / count)
    for batch in range(batches):

        def report(done: int, total: int, before=batch) -> None:
            if progress is not None:
                progress(before * total + done, batches * total)

        name = f"{batch * count:03d}"
        images = None if keep is None else keep.read(name)
        if images is None:
            seeds = [scene_seed(seed, batch * count + i) for i in range(count)]
            given = Views.stack([Views(context.images, context.cameras)] * count)
            where = Cameras.stack([cameras] * count)
            found = method.sample_views(given, where, seeds, options, report)
            images = found.images.flatten(0, 1)
            if keep is not None:
                keep.write(name, images)
        images = images.to(cameras.device).unflatten(0, (count, len(cameras)))
        wanted = images[: min(count, num - batch * count)]
        samples += [Views(views, cameras) for views in wanted]
    return samples


def _reporter(
    batches: tuple[int, int],
    wanted: range,
    finished: tuple[Scene, ...],
    progress: Callable[[int, int], None] | None,
    on_step: Callable[[StepReport], None] | None,
) -> OnStep:
    """Reports the steps of one batch as steps of all; `batches` are done and all."""

    def report(done: int, total: int, found: Scene) -> None:
        done, total = batches[0] * total + done, batches[1] * total
        if progress is not None:
            progress(done, total)
        if on_step is not None:
            scenes = [*finished, *(found[i] for i in wanted)]
            on_step(StepReport(done, total, scenes))

    return report
