"""Distillations that cannot work, or have stopped working, said in one sentence."""

from __future__ import annotations

from unseen.distillation.config import DistillConfig
from unseen.distillation.prior import Abilities, ViewPrior
from unseen.distillation.ramp import Ramp
from unseen.errors import UserError

EMPTY = 1e-3
"""Mean opacity of a step's views below which nothing is seen."""
PATIENCE_EMPTY, PATIENCE_NUMBERS = 20, 5
"""Steps in a row without matter, or without finite gradients, that end a run."""


def check_prior(prior: ViewPrior, config: DistillConfig, prompt: str | None) -> None:
    """Raise UserError if a prior cannot do what the settings need."""
    can = prior.abilities
    if can.text and not prompt:
        raise UserError(
            "this prior is told in words what to make: say it with --prompt."
        )
    if prompt is not None and not can.text:
        raise UserError(
            "this prior is given an image and takes no text: leave out --prompt and "
            "name the image with --image."
        )
    if config.needs_poses and not can.poses:
        raise UserError(
            "these settings look at the scene from several sides at once and need a "
            "prior that is told the cameras, which this one is not: choose "
            "--preset dreamfusion or sjc, or a multi-view prior such as MVDream."
        )
    if config.representation.latents and not can.latent:
        raise UserError(
            "these settings optimise latents, and this prior works on the images "
            "themselves: choose --preset dreamfusion or small."
        )
    if config.representation.latents and config.form.in_image:
        raise UserError(
            "these settings compare images, and the scene that they optimise shows "
            "latents: choose a scene of colours."
        )
    if can.group > 1:
        _check_groups(can, config)
    counts = [config.views]
    if isinstance(config.views, Ramp):
        counts = [value for _, value in config.views.points]
    if any(count % config.cameras.group for count in counts):  # type: ignore[operator]
        raise UserError(
            f"the views per step must be a multiple of {config.cameras.group}, the "
            "cameras' group."
        )


def _check_groups(can: Abilities, config: DistillConfig) -> None:
    if config.cameras.group % can.group:
        raise UserError(
            f"this prior looks at {can.group} views of the object at a time, and these "
            f"settings draw them in groups of {config.cameras.group}: choose "
            "--preset mvdream."
        )
    if not config.times.shared:
        raise UserError(
            "this prior wants one noise level for the views of a group, and these "
            "settings draw one for each: choose --preset mvdream."
        )
    if can.text and can.poses and config.prompts.views != "none":
        raise UserError(
            "this prior is told the cameras and one text for all views of a group, and "
            "these settings say the side in words: choose --preset mvdream."
        )


class Watch:
    """Notices a scene that has become empty, or gradients that are no numbers."""

    def __init__(self) -> None:
        self._empty = self._broken = 0

    def sees(self, step: int, opacity: float, finite: bool) -> bool:
        """Whether the step's gradients can be used.

        Raises UserError at the end of a row of steps that were empty or not finite.
        """
        self._broken = 0 if finite else self._broken + 1
        self._empty = self._empty + 1 if opacity < EMPTY else 0
        if self._broken >= PATIENCE_NUMBERS:
            raise UserError(
                f"for {PATIENCE_NUMBERS} steps up to step {step + 1} the gradient was "
                "no finite number: try a smaller --guidance, another --seed, or a "
                "prior whose weights are kept in float32 (--device cpu)."
            )
        if self._empty >= PATIENCE_EMPTY:
            raise UserError(
                f"the scene has become empty: for {PATIENCE_EMPTY} steps up to step "
                f"{step + 1} nothing was seen of it; try another --seed, a smaller "
                "--guidance, or a preset with less weight on opacity and emptiness."
            )
        return finite
