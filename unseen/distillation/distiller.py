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

from unseen.distillation.cameras import Viewpoints, light_positions, sample_viewpoints
from unseen.distillation.check import Watch, check_prior
from unseen.distillation.config import DistillConfig
from unseen.distillation.critic import Critic
from unseen.distillation.prior import ViewPrior
from unseen.distillation.ramp import value_at
from unseen.distillation.regularizers import reference_terms, regularize
from unseen.distillation.representation import optimised
from unseen.geometry.views import Views
from unseen.scenes.look import Lighting, Look
from unseen.scenes.scene import Scene


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
        generator = draws(-1)
        start = config.representation.start(generator)
        self.critic = Critic(prior, config, prompt, generator)
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
        particle, optimizer = self.critic.particle, self.critic.particle_optimizer
        if particle is not None and optimizer is not None:
            weights = particle.state_dict()
            found |= {f"particle.{name}": x for name, x in weights.items()}
            found |= _optimizer_state("particle_optimizer", optimizer)
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
        particle, optimizer = self.critic.particle, self.critic.particle_optimizer
        if particle is not None and optimizer is not None:
            start = "particle."
            weights = {
                n.removeprefix(start): x
                for n, x in state.items()
                if n.startswith(start)
            }
            particle.load_state_dict(weights)
            _load_optimizer_state("particle_optimizer", optimizer, state)

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
        t = self.critic.draw_times(index, views, generator)
        terms = {"prior": self.critic.term(image, seen, t, index, generator)}
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

    def _reference_terms(
        self, scene: Scene, given: Views, index: int
    ) -> dict[str, Float[Tensor, ""]]:
        config = self.config
        wanted = config.regularizers
        if not value_at(wanted.reference_color, index) > 0:
            return {}
        # As large as the other renderings, so that it costs no more than they do.
        side = int(value_at(config.size, index))
        given = given.shrink((min(side, given.size[0]), min(side, given.size[1])))
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
