# length: all that the rest of the package knows of a method, in one place.
"""The interface of every method."""

from __future__ import annotations

import abc
import contextlib
import dataclasses
import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from unseen.distillation.prior import ViewPrior
from unseen.errors import UserError
from unseen.geometry.cameras import Cameras
from unseen.geometry.check import check_cameras, check_targets, check_views
from unseen.geometry.views import Example, Views
from unseen.scenes.scene import Scene


@dataclasses.dataclass(frozen=True)
class Losses:
    """The scalar to minimise and the named terms to report (detached)."""

    total: Float[Tensor, ""]
    terms: dict[str, Float[Tensor, ""]]


@dataclasses.dataclass(frozen=True)
class TrainingScenes:
    """The scenes of the training data, by number: all that there is of each."""

    names: tuple[str, ...]
    """Names of the scenes; `Example.objects` counts in their order."""

    load: Callable[[int], Views]
    """All views (view,) of a scene."""


class Method(nn.Module, abc.ABC):
    """A method: how it learns from an `Example` and how it samples novel views.

    Contexts, targets and cameras carry the axes (batch, view). Every random number
    comes from the generator that is passed in.
    """

    stochastic: ClassVar[bool] = True
    """Whether other seeds give other scenes."""

    title: ClassVar[str]
    """What people call it: the name of its class, unless the class says another one."""

    min_context: ClassVar[int] = 1
    """The fewest context views that it can take; 0 samples scenes without any image."""

    max_context: ClassVar[int | None] = None
    """The most context views that it can take; None is any number."""

    sample_options: ClassVar[frozenset[str]] = frozenset({"num_steps"})
    """The fields of `SampleOptions` that mean something to it."""

    scenes_at_once: ClassVar[int] = 1
    """Scenes that it is asked for in one batch, where several are wanted."""

    made_empty: ClassVar[bool] = False
    """Whether it can be made without values (on the device "meta") and then be given
    tensors: all that it computes with is in its state dict. Large methods should."""

    def __init_subclass__(cls, title: str | None = None, **more: Any) -> None:
        super().__init_subclass__(**more)
        cls.title = title or cls.__name__

    def prepare(
        self,
        scenes: TrainingScenes,
        folder: Path,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """Make of the training data what the loss needs, before the first step.

        What takes long is kept in `folder`, where a second call finds it again.
        `on_progress` gets the scenes done and to do. Most methods need nothing. All
        processes of a training call it together: what it writes must allow that.
        """

    def varies(self, num_context: int) -> bool:
        """Whether other seeds give other samples of so many context views."""
        return self.stochastic

    def large_networks(self) -> list[nn.Module]:
        """Those that may work in half precision, and take turns on a GPU, while views
        are sampled (`networks.large`). Most methods have none."""
        return []

    def view_prior(self, context: Views) -> ViewPrior:
        """What it expects to see of the object of posed images (view,), for distilling
        a scene; (0,) of methods of text. The method is in evaluation mode.

        Raises UserError if the images do not fit, or (unless a method overrides this)
        because it offers no denoiser of views.
        """
        raise UserError(
            f"{self.title} offers no denoiser that a scene could be distilled "
            "from: use a method that does, such as 3DiM, Zero-1-to-3 or MVDream."
        )

    @abc.abstractmethod
    def loss(self, example: Example, generator: torch.Generator) -> Losses:
        """The training loss of a batch of scenes."""

    @abc.abstractmethod
    def sample(
        self, context: Views, cameras: Cameras, generator: torch.Generator
    ) -> Views:
        """Novel views (batch, view) of one sampled scene per batch entry."""


@contextlib.contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """A module in evaluation mode and no gradients, for the length of a block."""
    training = module.training
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        module.train(training)


Settings = TypeVar("Settings")


@dataclasses.dataclass(frozen=True)
class SampleOptions:
    """What a user may ask of sampling; None leaves it to the method.

    Raises:
        UserError: fewer steps than one, or a guidance that is negative or not finite.
    """

    num_steps: int | None = None
    """Denoising steps (per view, where views are sampled one after the other), or
    steps of fitting the scene's codes."""

    guidance: float | None = None
    """Classifier-free guidance scale; 1 is none."""

    noise_level: float | None = None
    """How much noise, from 0 to 1, the given image gets before it is denoised."""

    hidden: Bool[Tensor, "height width"] | None = None
    """Pixels of the given image that are unknown, and sampled."""

    prompt: str | None = None
    """What is wanted, in words."""

    def __post_init__(self) -> None:
        if self.noise_level is not None and not 0 <= self.noise_level <= 1:
            raise UserError(
                f"the noise level must lie in 0 to 1, not {self.noise_level}."
            )
        if self.num_steps is not None and self.num_steps < 1:
            raise UserError(f"ask for at least one step, not {self.num_steps}.")
        if self.guidance is not None and not 0 <= self.guidance < math.inf:
            raise UserError(
                f"the guidance must be a number from 0 on, not {self.guidance}."
            )

    def over(self, settings: Settings) -> Settings:
        """A method's settings of sampling (a dataclass), but for what is asked for."""
        asked = {name: x for name, x in vars(self).items() if x is not None}
        return dataclasses.replace(settings, **asked)  # type: ignore[type-var]

    def check(self, method: Method) -> None:
        """Raise UserError if something is asked for that the method does not have."""
        words = {
            "num_steps": "takes no steps, so their number cannot be chosen",
            "guidance": "has no classifier-free guidance",
            "noise_level": "adds no noise to the image that is given",
            "hidden": "cannot sample parts of the image that is given",
            "prompt": "takes no text",
        }
        flags = {"num_steps": "--steps", "noise_level": "--noise-level"}
        for name, value in vars(self).items():
            if value is not None and name not in method.sample_options:
                raise UserError(
                    f"{method.title} {words[name]}: leave out "
                    f"{flags.get(name, f'--{name}')}."
                )


OnStep = Callable[[int, int, Scene], None]
"""Receives the number of steps done, of steps to do, and the scenes so far."""


class SceneMethod(Method):
    """A method whose samples are scenes."""

    @property
    def needs_cameras(self) -> bool:
        """Whether `sample_scene` must be told where scenes are going to be seen, to
        know where to complete them."""
        return False

    @abc.abstractmethod
    def sample_scene(
        self,
        context: Views,
        seeds: Sequence[int],
        cameras: Cameras | None = None,
        options: SampleOptions | None = None,
        on_step: OnStep | None = None,
    ) -> Scene:
        """One scene per batch entry of `context`, (batch,).

        `context` is (batch, 0) where a scene is wanted of no image (`min_context`).
        The random numbers of entry i come from `seeds[i]` alone, so that a scene does
        not depend on the batch that it is sampled in. `cameras` (batch, view) is where
        the scenes are going to be seen; methods may need it to know what to sample.
        """

    def sample(
        self, context: Views, cameras: Cameras, generator: torch.Generator
    ) -> Views:
        seeds = torch.randint(2**62, (context.shape[0],), generator=generator)
        scene = self.sample_scene(context, seeds.tolist(), cameras)
        return Views(scene.render(cameras, context.size).color, cameras)


class ViewMethod(Method):
    """A method whose samples are views, made one after the other, and no scenes."""

    @abc.abstractmethod
    def sample_view(
        self,
        known: Views,
        camera: Cameras,
        seeds: Sequence[int],
        options: SampleOptions | None = None,
        on_step: Callable[[int, int], None] | None = None,
    ) -> Float[Tensor, "batch 3 height width"]:
        """The image in [0, 1] that one camera (batch,) sees, for each batch entry.

        `known` (batch, view) are the views that it shall agree with: those given, then
        those sampled so far. The random numbers of entry i come from `seeds[i]` alone.
        `on_step` receives the steps done and to do.
        """

    def sample_views(
        self,
        context: Views,
        cameras: Cameras,
        seeds: Sequence[int],
        options: SampleOptions | None = None,
        on_view: Callable[[int, int], None] | None = None,
    ) -> Views:
        """Views at cameras (batch, view), one after the other, each from all before it.

        The random numbers of a view come from its entry's seed and its number alone.
        `on_view` receives the views done and to do.
        """
        known = Views(context.images, context.cameras)
        for view in range(cameras.shape[1]):
            own = [scene_seed(seed, view) for seed in seeds]
            image = self.sample_view(known, cameras[:, view], own, options)
            known = add_view(known, image, cameras[:, view])
            if on_view is not None:
                on_view(view + 1, cameras.shape[1])
        return known[:, context.shape[1] :]

    def sample(
        self, context: Views, cameras: Cameras, generator: torch.Generator
    ) -> Views:
        seeds = torch.randint(2**62, (context.shape[0],), generator=generator)
        return self.sample_views(context, cameras, seeds.tolist())


class JointViewMethod(Method):
    """A method whose samples are views that are made together, and no scenes."""

    @abc.abstractmethod
    def sample_views(
        self,
        context: Views,
        cameras: Cameras,
        seeds: Sequence[int],
        options: SampleOptions | None = None,
        on_step: Callable[[int, int], None] | None = None,
    ) -> Views:
        """Views at cameras (batch, view) of one scene per batch entry.

        `context` (batch, view) is what they shall agree with; (batch, 0) for methods of
        text. The random numbers of entry i come from `seeds[i]` alone. `on_step`
        receives the steps done and to do.
        """

    def sample(
        self, context: Views, cameras: Cameras, generator: torch.Generator
    ) -> Views:
        seeds = torch.randint(2**62, (context.shape[0],), generator=generator)
        return self.sample_views(context, cameras, seeds.tolist())


class ViewKeeper(abc.ABC):
    """Where finished views are kept, so that an interrupted run can go on."""

    @abc.abstractmethod
    def read(self, name: str) -> Float[Tensor, "batch 3 height width"] | None:
        """The images that were kept under this name; None where there are none."""

    @abc.abstractmethod
    def write(self, name: str, images: Float[Tensor, "batch 3 height width"]) -> None:
        """Keep images."""


def check_input(
    method: Method, image_size: int, context: Views, cameras: Cameras | None = None
) -> None:
    """Refuse posed images (view,) and target cameras that a method cannot take.

    Raises:
        UserError: images have another size; there are too many, or none where some
            are needed; or they and the cameras are not posed as they should be (see
            `check_views`, `check_targets`).
    """
    shape = (3, image_size, image_size)
    if len(context.shape) != 1 or context.images.shape[1:] != shape:
        raise UserError(
            f"images of shape {tuple(context.images.shape)} do not fit this model: "
            f"give (view, {', '.join(map(str, shape))})."
        )
    name = method.title
    if len(context) > 0 and method.max_context == 0:
        text = "prompt" in method.sample_options
        instead = ", and say what is wanted with --prompt" if text else ""
        raise UserError(f"{name} takes no image: leave it out{instead}.")
    if len(context) > 0:
        check_views(context, method.max_context)
        if cameras is not None:
            check_targets(cameras, context.cameras)
    elif method.min_context > 0:
        raise UserError(
            f"{name} needs an image, and there is none: give a picture of an object."
        )
    elif cameras is not None:
        check_cameras(cameras, "target camera")


def check_size(name: str, known: Views, image_size: int) -> None:
    """Refuse images of another size than that of the model called `name`.

    Raises:
        UserError: the images are not squares of `image_size` pixels a side.
    """
    height, width = known.size
    if (height, width) != (image_size, image_size):
        raise UserError(
            f"{name} was trained with images of {image_size} x {image_size} pixels, "
            f"not {height} x {width}: resize them."
        )


def check_given(name: str, given: Views, image_size: int) -> None:
    """Refuse to look around no image (view,), or around one of another size.

    Raises:
        UserError: there is no image, or see `check_size`.
    """
    if len(given) == 0:
        raise UserError(f"{name} needs a picture of the object: give one.")
    check_size(name, given, image_size)


def add_view(
    known: Views, image: Float[Tensor, "batch 3 height width"], camera: Cameras
) -> Views:
    """Views (batch, view) and one more per batch entry."""
    new = Views(image[:, None], camera.reshape(-1, 1))
    return Views.cat([known, new], dim=1)


def scene_seed(seed: int, index: int) -> int:
    """The seed of the index-th scene: unrelated to those of other seeds and scenes."""
    digest = hashlib.sha256(f"{seed}/{index}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 2
