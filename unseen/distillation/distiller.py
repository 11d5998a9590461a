"""Distillation: a scene whose renderings a frozen prior over views finds likely.

Every step looks at the scene from drawn cameras, noises what it sees, asks the prior,
and turns the answer into a gradient (`forms.py`), which flows through the renderer into
the scene.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from unseen.diffusion.guidance import classifier_free, perpendicular_negative
from unseen.diffusion.noise import normal_like
from unseen.diffusion.prediction import x0_from_eps
from unseen.diffusion.schedules import SteppedSchedule, unsqueeze_like
from unseen.distillation.cameras import Viewpoints, light_positions, sample_viewpoints
from unseen.distillation.check import Watch, check_prior
from unseen.distillation.config import DistillConfig
from unseen.distillation.forms import VSD, Judgement, surrogate
from unseen.distillation.particle import ParticleDenoiser
from unseen.distillation.prior import Branch, ViewPrior
from unseen.distillation.prompts import Prompts
from unseen.distillation.ramp import value_at
from unseen.distillation.regularizers import reference_terms, regularize
from unseen.distillation.representation import optimised
from unseen.geometry.views import Views
from unseen.scenes.look import Lighting, Look
from unseen.scenes.scene import Scene

PARTICLE_RATE = 1e-3
"""Adam's rate for the model of the renderings that VSD trains."""


@dataclasses.dataclass(frozen=True)
class StepReport:
    """One step in numbers: its loss terms (weighted), the norms of their gradients in
    the scene's tensors (empty unless asked for), and what was seen."""

    step: int
    terms: dict[str, float]
    norms: dict[str, float]
    opacity: float
    t: float


class Distiller:
    """A distillation that is under way.

    Args:
        prior: The frozen model of views.
        config: The settings.
        draws: The generator of step i, a function of nothing else, so that a resumed
            run draws what an uninterrupted one does; -1 is asked for the start.
        prompt: What is wanted, for a prior of text.
        given: Posed images (view), with masks where these are known: what the prior was
            made with, for the terms of the reference.

    Raises:
        UserError: the prior cannot do what the settings need.
    """

    def __init__(
        self,
        prior: ViewPrior,
        config: DistillConfig,
        draws: Callable[[int], torch.Generator],
        prompt: str | None = None,
        given: Views | None = None,
    ) -> None:
        check_prior(prior, config, prompt)
        self.prior, self.config, self._draws = prior, config, draws
        self.given = given
        device = prior.device
        with torch.no_grad():
            self._prompts = None
            if prompt is not None:
                self._prompts = Prompts(prior, prompt, config.prompts)
            start = config.representation.start(draws(-1))
        self.tensors = {name: x.to(device) for name, x in start.items()}
        rates = optimised(config.representation, self.tensors)
        for name in rates:
            self.tensors[name].requires_grad_()
        self._names = list(rates)
        groups = [
            {"params": [self.tensors[n]], "lr": rate} for n, rate in rates.items()
        ]
        options = {"betas": config.optimizer.betas, "eps": config.optimizer.eps}
        kinds = {"adam": torch.optim.Adam, "adamax": torch.optim.Adamax}
        self._optimizer = kinds[config.optimizer.kind](groups, **options)
        self._particle: ParticleDenoiser | None = None
        if isinstance(config.form, VSD):
            self._particle = self._new_particle()
            self._particle_optimizer = torch.optim.Adam(
                self._particle.parameters(), lr=PARTICLE_RATE
            )
        self._watch = Watch()

    # ---- The scene ------------------------------------------------------------------

    def scene(self, step: int) -> Scene:
        """The scene () as it is at a step, without gradients."""
        tensors = {name: x.detach().clone() for name, x in self.tensors.items()}
        return self.config.representation.scene(tensors, step)

    def state(self) -> dict[str, Tensor]:
        """All that a later run needs to go on, by name."""
        found = {f"scene.{name}": x.detach() for name, x in self.tensors.items()}
        found |= _optimizer_state("optimizer", self._optimizer)
        if self._particle is not None:
            weights = self._particle.state_dict()
            found |= {f"particle.{name}": x for name, x in weights.items()}
            found |= _optimizer_state("particle_optimizer", self._particle_optimizer)
        return found

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Go on from `state`; ValueError if it belongs to another distillation."""
        for name, tensor in self.tensors.items():
            found = state.get(f"scene.{name}")
            if found is None or found.shape != tensor.shape:
                raise ValueError(f"the state holds no fitting tensor {name!r}")
            with torch.no_grad():
                tensor.copy_(found)
        _load_optimizer_state("optimizer", self._optimizer, state)
        if self._particle is not None:
            start = "particle."
            weights = {
                n.removeprefix(start): x
                for n, x in state.items()
                if n.startswith(start)
            }
            self._particle.load_state_dict(weights)
            _load_optimizer_state("particle_optimizer", self._particle_optimizer, state)

    # ---- A step ---------------------------------------------------------------------

    def step(self, index: int, with_norms: bool = False) -> StepReport:
        """Step number `index`, which counts from 0.

        Raises:
            UserError: the scene has become empty, or its gradients are no numbers.
        """
        config, generator = self.config, self._draws(index)
        representation = config.representation
        representation.maintain(self.tensors, index)
        views = int(value_at(config.views, index))
        seen = sample_viewpoints(config.cameras, views, generator)
        seen = dataclasses.replace(seen, cameras=seen.cameras.to(self.prior.device))
        scene = representation.scene(self.tensors, index)
        look = self._look(scene, seen, index, generator)
        image = self._random_background(look, generator)
        t = self._draw_times(index, views, generator)
        terms = {"prior": self._prior_term(image, seen, t, index, generator)}
        terms |= regularize(look, config.regularizers, index)
        if self.given is not None:
            terms |= self._reference_terms(scene, self.given, index)
        norms = self._norms(terms) if with_norms else {}
        total = torch.stack(list(terms.values())).sum()
        self._optimizer.zero_grad()
        total.backward()
        opacity = float(look.opacity.detach().mean())
        gradients = [self.tensors[name].grad for name in self._names]
        finite = all(g is None or bool(g.isfinite().all()) for g in gradients)
        # A step without a direction is left out; the watch ends a run of them.
        if self._watch.sees(index, opacity, finite and bool(total.isfinite())):
            self._optimizer.step()
        values = {name: float(x.detach()) for name, x in terms.items()}
        return StepReport(index, values, norms, opacity, float(t.mean()))

    def _look(
        self, scene: Scene, seen: Viewpoints, index: int, generator: torch.Generator
    ) -> Look:
        config = self.config
        side = int(value_at(config.size, index))
        lighting = None
        coins = torch.rand(2, generator=generator).tolist()
        light = config.light
        if light is not None and index >= light.after and coins[0] < light.lit:
            positions = light_positions(
                seen.cameras, generator, light.spread, light.distance
            )
            textureless = coins[1] < light.textureless
            lighting = Lighting(positions, light.ambient, textureless)
        facing = value_at(config.regularizers.orientation, index) > 0
        return config.representation.see(
            scene, seen.cameras, (side, side), lighting, facing, generator
        )

    def _random_background(
        self, look: Look, generator: torch.Generator
    ) -> Float[Tensor, "view channel height width"]:
        share = self.config.random_background
        if share == 0:
            return look.image
        views, channels = look.values.shape[:2]
        drawn = torch.rand(views, channels + 1, 1, 1, generator=generator)
        drawn = drawn.to(look.values)
        behind = torch.where(drawn[:, :1] < share, drawn[:, 1:], look.background)
        return look.over(behind)

    def _draw_times(
        self, index: int, views: int, generator: torch.Generator
    ) -> Float[Tensor, "view"]:
        times, schedule = self.config.times, self.prior.schedule
        low, high = value_at(times.low, index), value_at(times.high, index)
        unit = torch.rand(1 if times.shared else views, generator=generator)
        t = low + (high - low) * unit
        if isinstance(schedule, SteppedSchedule):
            # Networks of integer steps are asked at their own noise levels.
            step = (t * schedule.num_steps).long().clamp(0, schedule.num_steps - 1)
            t = schedule.t_of_step(step)
        return t.expand(views).to(self.prior.device)

    def _prior_term(
        self,
        image: Float[Tensor, "view channel height width"],
        seen: Viewpoints,
        t: Float[Tensor, "view"],
        index: int,
        generator: torch.Generator,
    ) -> Float[Tensor, ""]:
        form, weight = self.config.form, value_at(self.config.weight, index)
        # A form in the image needs no gradient of the encoder.
        clean = self._encode(image.detach() if form.in_image else image, generator)
        with torch.no_grad():
            judgement = self._judge(clean.detach(), image.detach(), seen, t, generator)
            if form.in_image:
                image = _resize(image, self.prior.abilities.image_size)
                judgement = dataclasses.replace(judgement, image=image.detach())
            residual = form.residual(judgement)
        self._train_particle(judgement, seen)
        return weight * surrogate(image if form.in_image else clean, residual)

    def _encode(
        self,
        image: Float[Tensor, "view channel height width"],
        generator: torch.Generator,
    ) -> Float[Tensor, "view channel height width"]:
        """A rendering in the prior's diffused space, where a scene may live already."""
        if not self.config.representation.latents:
            return self.prior.encode(image, generator)
        return _resize(image, self.prior.abilities.shape[1])

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
        if self._particle is not None:
            particle = self._particle(x_t, conditional, t, seen.cameras)
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
        if self._particle is None:
            return
        eps = self._particle(
            judgement.noisy, judgement.conditional, judgement.t, seen.cameras
        )
        self._particle_optimizer.zero_grad()
        functional.mse_loss(eps, judgement.eps).backward()
        self._particle_optimizer.step()

    def _new_particle(self) -> ParticleDenoiser:
        """Weights that depend on the seed alone."""
        seed = torch.randint(2**62, (), generator=self._draws(-1))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(seed))  # random: layers draw from the global one
            network = ParticleDenoiser(self.prior.abilities.shape[0])
        return network.to(self.prior.device)

    def _reference_terms(
        self, scene: Scene, given: Views, index: int
    ) -> dict[str, Float[Tensor, ""]]:
        config = self.config
        wanted = config.regularizers
        if not value_at(wanted.reference_color, index) > 0:
            return {}
        look = config.representation.see(
            scene, given.cameras, given.size, None, False, None
        )
        return reference_terms(look, given, wanted, index)

    def _norms(self, terms: dict[str, Float[Tensor, ""]]) -> dict[str, float]:
        """The norm of each term's gradient in all that is optimised."""
        tensors = [self.tensors[name] for name in self._names]
        found = {}
        for name, term in terms.items():
            gradients = torch.autograd.grad(
                term, tensors, retain_graph=True, allow_unused=True
            )
            squares = [float(g.square().sum()) for g in gradients if g is not None]
            found[name] = math.sqrt(sum(squares))
        return found


def _resize(
    image: Float[Tensor, "view channel height width"], side: int
) -> Float[Tensor, "view channel side side"]:
    if image.shape[-2:] == (side, side):
        return image
    return functional.interpolate(image, (side, side), mode="bilinear")


def _optimizer_state(
    prefix: str, optimizer: torch.optim.Optimizer
) -> dict[str, Tensor]:
    """An optimiser's moments as `prefix.number.key` tensors."""
    state = optimizer.state_dict()["state"]
    return {
        f"{prefix}.{number}.{key}": torch.as_tensor(value)
        for number, entries in state.items()
        for key, value in entries.items()
    }


def _load_optimizer_state(
    prefix: str, optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]
) -> None:
    """The inverse of `_optimizer_state`."""
    state: dict[int, dict[str, Tensor]] = {}
    for full_name, tensor in tensors.items():
        if full_name.startswith(f"{prefix}."):
            _, number, key = full_name.rsplit(".", 2)
            state.setdefault(int(number), {})[key] = tensor
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
