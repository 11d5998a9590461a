"""Asking a frozen prior about renderings, and the term of the loss that follows."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from unseen.diffusion.guidance import classifier_free, perpendicular_negative
from unseen.diffusion.noise import normal_like
from unseen.diffusion.prediction import x0_from_eps
from unseen.diffusion.schedules import SteppedSchedule, unsqueeze_like
from unseen.distillation.cameras import Viewpoints
from unseen.distillation.config import DistillConfig
from unseen.distillation.forms import VSD, Judgement, surrogate
from unseen.distillation.particle import ParticleDenoiser
from unseen.distillation.prior import Branch, ViewPrior, resize
from unseen.distillation.prompts import Prompts
from unseen.distillation.ramp import value_at

PARTICLE_RATE = 1e-3
"""Adam's rate for the model of the renderings that VSD trains."""


class Critic:
    """A prior, what it is told, and how its answers become a term of the loss.

    `particle` is the model of the scene's renderings that variational score
    distillation trains, with its `particle_optimizer`; None for other forms.
    """

    def __init__(
        self,
        prior: ViewPrior,
        config: DistillConfig,
        prompt: str | None,
        generator: torch.Generator,
    ) -> None:
        self.prior, self.config = prior, config
        self._prompts = None
        if prompt is not None:
            self._prompts = Prompts(prior, prompt, config.prompts)
        self.particle: ParticleDenoiser | None = None
        self.particle_optimizer: torch.optim.Adam | None = None
        if isinstance(config.form, VSD):
            self.particle = self._new_particle(generator)
            parameters = self.particle.parameters()
            self.particle_optimizer = torch.optim.Adam(parameters, lr=PARTICLE_RATE)

    def draw_times(
        self, index: int, views: int, generator: torch.Generator
    ) -> Float[Tensor, "view"]:
        """Noise levels of a step's views."""
        times, schedule = self.config.times, self.prior.schedule
        low, high = value_at(times.low, index), value_at(times.high, index)
        unit = torch.rand(1 if times.shared else views, generator=generator)
        t = low + (high - low) * unit
        if isinstance(schedule, SteppedSchedule):
            # Networks of integer steps are asked at their own noise levels.
            step = (t * schedule.num_steps).long().clamp(0, schedule.num_steps - 1)
            t = schedule.t_of_step(step)
        return t.expand(views).to(self.prior.device)

    def term(
        self,
        image: Float[Tensor, "view channel height width"],
        seen: Viewpoints,
        t: Float[Tensor, "view"],
        index: int,
        generator: torch.Generator,
    ) -> Float[Tensor, ""]:
        """The weighted term of a step's rendered views; see `forms`."""
        form, weight = self.config.form, value_at(self.config.weight, index)
        if form.in_image:
            # The prior's images are what it is compared with; no encoder is in between.
            image = resize(image, self.prior.abilities.image_size)
        clean = self._encode(image.detach() if form.in_image else image, generator)
        with torch.no_grad():
            judgement = self._judge(clean.detach(), image.detach(), seen, t, generator)
            residual = form.residual(judgement)
        self._train_particle(judgement, seen)
        return weight * surrogate(image if form.in_image else clean, residual)

    def _encode(
        self,
        image: Float[Tensor, "view value image_height image_width"],
        generator: torch.Generator,
    ) -> Float[Tensor, "view channel height width"]:
        """A rendering in the prior's diffused space, where a scene may live already."""
        if not self.config.representation.latents:
            return self.prior.encode(image, generator)
        return resize(image, self.prior.abilities.shape[1])

    def _judge(
        self,
        clean: Float[Tensor, "view channel height width"],
        image: Float[Tensor, "view value image_height image_width"],
        seen: Viewpoints,
        t: Float[Tensor, "view"],
        generator: torch.Generator,
    ) -> Judgement:
        """Noise the renderings and ask the prior."""
        schedule = self.prior.schedule
        eps = normal_like(clean, generator)
        x_t = schedule.add_noise(clean, eps, t)
        conditional, guided = self._ask(x_t, t, seen, generator)

        def denoise(
            x_t: Float[Tensor, "view channel height width"], t: Float[Tensor, "view"]
        ) -> Float[Tensor, "view channel height width"]:
            _, eps = self._ask(x_t, t, seen, generator)
            scales = schedule.alpha_sigma(t)
            alpha, sigma = (unsqueeze_like(x, eps).to(eps) for x in scales)
            return x0_from_eps(x_t, eps, alpha, sigma)

        particle = None
        if self.particle is not None:
            particle = self.particle(x_t, conditional, t, seen.cameras)
        return Judgement(
            clean=clean,
            image=image,
            eps=eps,
            t=t,
            schedule=schedule,
            guided=guided,
            conditional=conditional,
            denoise=denoise,
            decode=self.prior.decode,
            particle=particle,
            group=self.prior.abilities.group,
        )

    def _ask(
        self,
        x_t: Float[Tensor, "view channel height width"],
        t: Float[Tensor, "view"],
        seen: Viewpoints,
        generator: torch.Generator,
    ) -> tuple[
        Float[Tensor, "view channel height width"],
        Float[Tensor, "view channel height width"],
    ]:
        """The prior's conditional and guided estimates of the noise."""
        guidance, prompts = self.config.guidance, self._prompts
        weights = None
        if prompts is None:
            branches = [Branch(True), Branch(False)][: 1 if guidance.is_none else 2]
        elif self.config.prompts.perpendicular:
            branches, weights = prompts.perpendicular_branches(seen)
        else:
            branches = prompts.branches(seen, not guidance.is_none)
        found = self.prior.predict_noise(x_t, t, seen.cameras, branches, generator)
        conditional = found[0]
        if len(found) == 1:
            return conditional, conditional
        scale = guidance.scale
        if weights is None:
            guided = classifier_free(conditional, found[1], scale, guidance.origin)
            return conditional, guided
        guided = perpendicular_negative(
            conditional, found[1], found[2:], weights, scale
        )
        return conditional, guided

    def _train_particle(self, judgement: Judgement, seen: Viewpoints) -> None:
        """A step of the renderings' own denoiser (ProlificDreamer, Eq. 7)."""
        if self.particle is None or self.particle_optimizer is None:
            return
        eps = self.particle(
            judgement.noisy, judgement.conditional, judgement.t, seen.cameras
        )
        self.particle_optimizer.zero_grad()
        functional.mse_loss(eps, judgement.eps).backward()
        self.particle_optimizer.step()

    def _new_particle(self, generator: torch.Generator) -> ParticleDenoiser:
        """Weights that depend on the generator alone."""
        seed = torch.randint(2**62, (), generator=generator)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(seed))  # random: layers draw from the global one
            network = ParticleDenoiser(self.prior.abilities.shape[0])
        return network.to(self.prior.device)
