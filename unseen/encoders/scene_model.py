"""The interface between DFM and a scene representation, with its forward model."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unseen.geometry.cameras import Cameras
from unseen.geometry.views import Example, Views
from unseen.scenes.scene import Scene

ContextState = object
"""What is known of the context views: everything that does not depend on t.

Computed once per trajectory; batched over scenes on its first axis. Each scene model
has a kind of its own, which nobody else looks into.
"""


@dataclasses.dataclass(frozen=True)
class Condition:
    """The deterministic rendering of the context at the target cameras.

    `maps` is what the target encoder reads beside the noisy image; `color` (in
    [0, 1]) is its supervised part, at the size it was rendered, and `opacity` says
    where it shows something, for representations that have any.
    """

    maps: Float[Tensor, "batch view channel height width"]
    color: Float[Tensor, "batch view 3 height width"]
    opacity: Float[Tensor, "batch view height width"] | None = None


class SceneModel(nn.Module, abc.ABC):
    """Amortised reconstruction from clean context views and noisy target views.

    Images are in [-1, 1] here (the diffused range). All cameras are in one world
    frame per scene; implementations must not depend on the choice of that frame.
    """

    @abc.abstractmethod
    def encode_context(self, images: Views) -> ContextState:
        """Encode clean context views (batch, view), at t = 0."""

    @abc.abstractmethod
    def deterministic(self, context: ContextState) -> Scene:
        """The scenes (batch,) that the context alone predicts: a posterior mean."""

    @abc.abstractmethod
    def condition(
        self,
        context: ContextState,
        cameras: Cameras,
        size: tuple[int, int],
        generator: torch.Generator | None = None,
    ) -> Condition:
        """Render the deterministic scene at the target cameras (batch, view)."""

    @abc.abstractmethod
    def joint(
        self,
        context: ContextState,
        noisy: Views,
        condition: Condition,
        t: Float[Tensor, "batch"],
    ) -> Scene:
        """The scenes (batch,) of the context and of noisy target views (batch, view).

        `t` is the noise level in [0, 1] of the target views.
        """

    def observe(self, example: Example, generator: torch.Generator) -> Example:
        """What training compares with: the example of the data, as it is.

        A scene model whose observations the data does not hold makes them of it here.
        """
        return example

    def denoiser(
        self,
        context: ContextState,
        condition: Condition,
        cameras: Cameras,
        size: tuple[int, int],
    ) -> Denoiser:
        """`joint` and its rendering at the target cameras (batch, view), as a function.

        It is called at every step of a trajectory, so implementations compute what
        does not depend on the noisy views once, if they can. `plain_denoiser`, which
        this is by default, is the slow twin.
        """
        return plain_denoiser(self, context, condition, cameras, size)


Denoiser = Callable[
    [Float[Tensor, "batch view 3 height width"], Float[Tensor, "batch"]],
    tuple[Float[Tensor, "batch view 3 height width"], Scene],
]
"""Maps x_t and t to the estimate of x_0 in [-1, 1], and the scene it renders."""


def plain_denoiser(
    model: SceneModel,
    context: ContextState,
    condition: Condition,
    cameras: Cameras,
    size: tuple[int, int],
) -> Denoiser:
    """Infer the joint scene and render it: what every `denoiser` must equal."""

    def denoise(
        x_t: Float[Tensor, "batch view 3 height width"], t: Float[Tensor, "batch"]
    ) -> tuple[Float[Tensor, "batch view 3 height width"], Scene]:
        scene = model.joint(context, Views(x_t, cameras), condition, t)
        return 2 * scene.render(cameras, size).color - 1, scene

    return denoise
