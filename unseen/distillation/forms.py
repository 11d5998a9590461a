"""What a prior says of a noised rendering, turned into a gradient of the rendering.

A rendering x of a scene is noised, x_t = alpha x + sigma eps, and the prior guesses the
noise: eps^. Every form is a residual g, treated as a constant, and the loss

    L = 1/2 |x - sg(x - g)|^2,   whose gradient in x is g.

The network is never differentiated. The forms are related: SJC's second equation is SDS
with the uniform weighting, and the reconstruction of x_0 is SDS weighted by sigma /
alpha; tests/distillation/test_forms.py holds them to it.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable
from typing import Literal, final

import torch
from jaxtyping import Float
from torch import Tensor

from unseen.diffusion.guidance import rescaled
from unseen.diffusion.prediction import x0_from_eps
from unseen.diffusion.samplers import ddim, times_uniform
from unseen.diffusion.schedules import Schedule, unsqueeze_like

Weighting = Literal["variance", "uniform", "signal"]
"""w(t), with abar = alpha^2 / (alpha^2 + sigma^2): 1 - abar, as in DreamFusion; 1; or
sqrt(abar) (1 - abar), as in Fantasia3D (Chen et al., 2023)."""


@dataclasses.dataclass(frozen=True)
class Judgement:
    """Renderings that were noised, and what the prior says of them; no gradients.

    `clean` is x in the prior's diffused space and `image` the rendering itself, `t` one
    noise level per view. `guided` is the guided eps^ and `conditional` that of the
    condition alone; `particle` is, for variational score distillation, the noise
    that a model of the scene's own renderings expects. `denoise` is the guided prior as
    x_0 of any x_t, `decode` leads from the diffused space to images. `group` views
    belong together.
    """

    clean: Float[Tensor, "view channel height width"]
    image: Float[Tensor, "view value image_height image_width"]
    eps: Float[Tensor, "view channel height width"]
    t: Float[Tensor, "view"]
    schedule: Schedule
    guided: Float[Tensor, "view channel height width"]
    conditional: Float[Tensor, "view channel height width"]
    denoise: Callable[[Tensor, Tensor], Tensor]
    decode: Callable[[Tensor], Tensor]
    particle: Float[Tensor, "view channel height width"] | None = None
    group: int = 1

    def scales(
        self, like: Float[Tensor, "view *rest"]
    ) -> tuple[Float[Tensor, "view *one"], Float[Tensor, "view *one"]]:
        """alpha and sigma, to be multiplied with `like`."""
        alpha, sigma = self.schedule.alpha_sigma(self.t)
        return unsqueeze_like(alpha, like).to(like), unsqueeze_like(sigma, like).to(
            like
        )

    @property
    def noisy(self) -> Float[Tensor, "view channel height width"]:
        """x_t."""
        return self.schedule.add_noise(self.clean, self.eps, self.t)

    def x_0(
        self, eps: Float[Tensor, "view channel height width"]
    ) -> Float[Tensor, "view channel height width"]:
        """The clean views that a noise implies."""
        return x0_from_eps(self.noisy, eps, *self.scales(eps))

    def weight(
        self, weighting: Weighting, like: Float[Tensor, "view *rest"]
    ) -> Float[Tensor, "view *one"]:
        """w(t), see `Weighting`."""
        alpha, sigma = self.scales(like)
        share = alpha**2 / (alpha**2 + sigma**2)
        if weighting == "uniform":
            return torch.ones_like(share)
        return (1 - share) * (share.sqrt() if weighting == "signal" else 1)


class Form(abc.ABC):
    """How a judgement becomes a gradient."""

    @property
    @abc.abstractmethod
    def in_image(self) -> bool:
        """Whether the gradient is that of the rendering and skips the encoder."""

    @abc.abstractmethod
    def residual(self, judgement: Judgement) -> Float[Tensor, "view channel h w"]:
        """g, per view, of `judgement.clean` or `judgement.image`."""


def surrogate(
    x: Float[Tensor, "view *rest"], residual: Float[Tensor, "view *rest"]
) -> Float[Tensor, ""]:
    """1/2 |x - sg(x - g)|^2 per view: its gradient in x is g / views."""
    target = (x - residual).detach()
    return 0.5 * (x - target).square().sum() / len(x)


@final
@dataclasses.dataclass(frozen=True)
class SDS(Form):
    """w(t) (eps^ - eps): score distillation sampling (DreamFusion, Eq. 3)."""

    weighting: Weighting = "variance"

    @property
    def in_image(self) -> bool:
        return False

    def residual(self, judgement: Judgement) -> Float[Tensor, "view channel h w"]:
        weight = judgement.weight(self.weighting, judgement.clean)
        return weight * (judgement.guided - judgement.eps)


@final
@dataclasses.dataclass(frozen=True)
class ImageSDS(Form):
    """w(t) alpha / sigma (x - decode(x_0^)): SDS of the image itself.

    The target is decoded instead of the rendering being encoded (HiFA, Zhu & Zhuang
    2024).
    """

    image_weighting: Weighting = "variance"

    @property
    def in_image(self) -> bool:
        return True

    def residual(self, judgement: Judgement) -> Float[Tensor, "view channel h w"]:
        image = judgement.image
        alpha, sigma = judgement.scales(image)
        weight = judgement.weight(self.image_weighting, image)
        target = judgement.decode(judgement.x_0(judgement.guided))
        return weight * alpha / sigma * (image - target)


@final
@dataclasses.dataclass(frozen=True)
class SJC(Form):
    """Score Jacobian chaining (Wang et al. 2023): -(D - y) / s, their Eq. 16.

    Eq. 15, -(D - z) / s, has the same mean and more variance.

    In their notation y is the rendering, z = y + s n the noised one at s = sigma /
    alpha, and D the denoised one; our x_t is alpha z.
    """

    variance_reduced: bool = True

    @property
    def in_image(self) -> bool:
        return False

    def residual(self, judgement: Judgement) -> Float[Tensor, "view channel h w"]:
        alpha, sigma = judgement.scales(judgement.clean)
        denoised = judgement.x_0(judgement.guided)
        start = judgement.clean
        if not self.variance_reduced:
            start = judgement.noisy / alpha
        return -(denoised - start) * alpha / sigma


@final
@dataclasses.dataclass(frozen=True)
class Reconstruction(Form):
    """x - x_0^: the rendering shall be what the prior reconstructs (MVDream, Eq. 2).

    `rescale` brings x_0^ back to the spread that it has without guidance.
    """

    rescale: float = 0.5

    @property
    def in_image(self) -> bool:
        return False

    def residual(self, judgement: Judgement) -> Float[Tensor, "view channel h w"]:
        guided = judgement.x_0(judgement.guided)
        plain = judgement.x_0(judgement.conditional)
        target = rescaled(guided, plain, self.rescale, judgement.group)
        return judgement.clean - target


@final
@dataclasses.dataclass(frozen=True)
class MultiStep(Form):
    """The rendering is to be an image that is denoised in several steps (SparseFusion,
    Zhou & Tulsiani 2023, section 3.3): (1 - abar) |x - decode(x_0)|, mean per view.

    `steps_per_unit` steps of DDIM go from t = 1 to 0, in proportion from elsewhere, and
    at most `most_steps`.
    """

    steps_per_unit: int = 100
    most_steps: int = 50
    penalty: Literal["absolute", "square"] = "absolute"

    @property
    def in_image(self) -> bool:
        return True

    def residual(self, judgement: Judgement) -> Float[Tensor, "view channel h w"]:
        image = judgement.image
        if len(judgement.t.unique()) != 1:
            raise ValueError("several steps need one noise level for all views")
        t = float(judgement.t[0])
        count = min(max(round(self.steps_per_unit * t), 1), self.most_steps)
        clean = ddim(
            judgement.denoise,
            judgement.noisy,
            judgement.schedule,
            times_uniform(count, t_start=t),
        )
        difference = image - judgement.decode(clean)
        if self.penalty == "absolute":
            difference = difference.sign()
        weight = judgement.weight("variance", image)
        return weight * difference / image[0].numel()


@final
@dataclasses.dataclass(frozen=True)
class VSD(Form):
    """w(t) (eps^ - eps_phi): variational score distillation (Wang et al. 2023, Eq. 9).

    eps_phi is the noise that a model of the scene's own renderings expects.
    """

    particle_weighting: Weighting = "variance"

    @property
    def in_image(self) -> bool:
        return False

    def residual(self, judgement: Judgement) -> Float[Tensor, "view channel h w"]:
        if judgement.particle is None:
            raise ValueError("VSD needs a model of the scene's renderings")
        weight = judgement.weight(self.particle_weighting, judgement.clean)
        return weight * (judgement.guided - judgement.particle)
