"""`unseen distill`: a scene that a diffusion model of images finds likely."""

from __future__ import annotations

import dataclasses
import hashlib
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from unseen.cli.checks import check_ranges
from unseen.errors import UserError

if TYPE_CHECKING:
    import torch

    from unseen.distillation.config import DistillConfig
    from unseen.distillation.prior import ViewPrior
    from unseen.export.result import Origin
    from unseen.geometry.views import Views


@dataclasses.dataclass(frozen=True)
class Distill:
    """Optimise a 3D scene until a diffusion model finds all its views likely.

    The model is told in words what to make, with --prompt: a text-to-image model (a
    folder as diffusers writes it, such as Stable Diffusion), or MVDream. Or it is
    another model of this package that samples views and no scenes (3DiM, Zero-1-to-3,
    SparseFusion, GeNVS), which is given an --image.

    Writes a folder like that of `unseen sample`. While it works, previews, a log and
    checkpoints lie in a folder beside it, OUT.run: the same command goes on from there
    after an interruption.
    """

    prior: str
    """Text-to-image model, or model of views: a folder, or a name on the hub."""
    out: Path
    """Folder to write."""
    prompt: str | None = None
    """What to make, for a model of text."""
    image: Path | None = None
    """Picture of the object, for other models of views."""
    preset: str | None = None
    """All other settings; by default small or small-mvdream on a CPU, else mvdream,
    dreamfusion or zero123, by what the model is."""
    steps: int | None = None
    """Optimiser steps; by default the preset's."""
    guidance: float | None = None
    """Strength of classifier-free guidance; by default the preset's."""
    negative: str | None = None
    """What is not wanted, in words; by default the preset's."""
    perpendicular: bool = False
    """Guide away from the sides that a view does not show (Perp-Neg), which helps
    against objects with several faces."""
    seed: int = 0
    """Other seeds give other scenes."""
    fov: float = 40.0
    """Full field of view, in degrees, that the image was taken with."""
    elevation: float = 20.0
    """Degrees by which the camera of the image looked down on the object."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to work."""
    overwrite: bool = False
    """Replace the results of an earlier run."""
    preview_every: int = 100
    """Steps between previews."""
    checkpoint_every: int = 100
    """Steps between checkpoints."""
    log_every: int = 10
    """Steps between lines of the log; each costs one more backward pass per term."""
    size: int = 128
    """Side of the orbit video in pixels."""
    frames: int = 48
    """Frames of the orbit video."""

    def run(self) -> None:
        """Distill, write, and print the paths of what was written."""
        self._check()
        # PyTorch takes seconds to import: `--help` and bad arguments need not wait.
        from unseen.cli.distill_run import DistillRun
        from unseen.export.result_folder import check_out
        from unseen.training.trainer import choose_device

        check_out(self.out, self.overwrite)
        self._check_preset()
        device = choose_device(self.device)
        prior, given = self._read_prior(device)
        config = self._config(prior, device.type)
        run = DistillRun(self, prior, config, given)
        for path in run.run():
            print(path)
        print(f"\nOpen {self.out / 'index.html'} in a browser.")

    def _check(self) -> None:
        """Refuse what makes no sense, before anything slow happens."""
        ranges = {
            "steps": (1, 1_000_000),
            "guidance": (0, 1000),
            "seed": (0, 2**62),
            "fov": (1, 150),
            "elevation": (-89, 89),
            "preview_every": (1, 1_000_000),
            "checkpoint_every": (1, 1_000_000),
            "log_every": (1, 1_000_000),
            "size": (16, 2048),
            "frames": (2, 2000),
        }
        check_ranges(self, ranges)
        if self.prompt is not None and not self.prompt.strip():
            raise UserError("the --prompt is empty: say what to make.")
        if self.prompt is not None and self.image is not None:
            raise UserError(
                "give a --prompt (for a model of text) or an --image (for another "
                "model of views), not both."
            )

    def _check_preset(self) -> None:
        """Refuse an unknown preset before the prior, which may be large, is read."""
        from unseen.distillation.presets import DISTILL_PRESETS

        if self.preset is not None and self.preset not in DISTILL_PRESETS:
            raise UserError(
                f"there is no preset '{self.preset}': choose one of "
                f"{', '.join(DISTILL_PRESETS)}."
            )

    def _read_prior(self, device: torch.device) -> tuple[ViewPrior, Views | None]:
        """The prior, and the posed image (view) that it was made with, if any."""
        import torch

        from unseen.checkpoints.diffusers_prior import (
            find_diffusers_folder,
            read_diffusers_prior,
        )

        folder = find_diffusers_folder(self.prior)
        if folder is not None:
            self._check_input(self.prior, takes_text=True)
            dtype = torch.float16 if device.type == "cuda" else torch.float32
            return read_diffusers_prior(folder, device, dtype), None
        return self._read_view_prior(device)

    def _read_view_prior(self, device: torch.device) -> tuple[ViewPrior, Views | None]:
        from unseen.checkpoints.model_folder import load_model
        from unseen.model import Model

        model = Model(load_model(self.prior, device))
        method, name = model.method, model.method.title
        if model.makes_scenes:
            raise UserError(
                f"{name} samples scenes by itself: use `unseen sample`, or a model of "
                "views such as 3DiM."
            )
        self._check_input(name, takes_text="prompt" in method.sample_options)
        context = model.context(self.image, self.fov, self.elevation).to(device)
        prior = method.requires_grad_(False).view_prior(context)
        return prior, None if self.image is None else context

    def _check_input(self, name: str, takes_text: bool) -> None:
        """Refuse an image for a prior of text, and the other way round."""
        if takes_text:
            if self.image is not None:
                raise UserError(
                    f"{name} is told in words what to make: give --prompt in place of "
                    "--image."
                )
            if self.prompt is None:
                raise UserError(
                    f"{name} is told in words what to make: say it with --prompt."
                )
            return
        if self.prompt is not None:
            raise UserError(
                f"{name} is given an image and takes no text: leave out --prompt and "
                "name the image with --image."
            )
        if self.image is None:
            raise UserError(f"{name} needs a picture of the object: name it, --image.")

    def _config(self, prior: ViewPrior, device: str) -> DistillConfig:
        """The preset with what else was asked for."""
        from unseen.distillation.presets import DISTILL_PRESETS

        config = DISTILL_PRESETS[self._preset(prior, device)]
        asked: dict[str, Any] = {}
        if self.steps is not None:
            asked["steps"] = self.steps
        if self.guidance is not None:
            asked["guidance"] = dataclasses.replace(
                config.guidance, scale=self.guidance
            )
        prompts = config.prompts
        if self.negative is not None:
            prompts = dataclasses.replace(prompts, negative=self.negative)
        if self.perpendicular:
            if not prior.abilities.text or prior.abilities.poses:
                raise UserError(
                    "--perpendicular is for text-to-image models, which know the "
                    "sides of an object by words alone: leave it out."
                )
            prompts = dataclasses.replace(prompts, perpendicular=True)
        if self.negative is not None and not prior.abilities.text:
            raise UserError("this prior takes no text: leave out --negative.")
        return dataclasses.replace(config, prompts=prompts, **asked)

    def _preset(self, prior: ViewPrior, device: str) -> str:

        if self.preset is not None:
            return self.preset
        if prior.abilities.group > 1:
            return "small-mvdream" if device == "cpu" else "mvdream"
        if device == "cpu":
            return "small"
        if prior.abilities.image:
            return "zero123"
        return "dreamfusion" if prior.abilities.latent else "dreamfusion-if"

    def origin(self, config: DistillConfig) -> Origin:
        """Where the result comes from."""
        from unseen.export.result import Origin

        what = self.prompt if self.image is None else self.image.name
        determining = self.determining(config)
        # The nested settings are in the scene's file; the page shows what was asked.
        shown = {k: v for k, v in determining.items() if k != "settings"}
        shown |= {"steps": config.steps, "guidance": config.guidance.scale}
        shown |= {"preset": self.preset or "by default", "image": self.image}
        return Origin(
            title=f"{what}",
            settings={k: str(v) for k, v in shown.items() if v is not None},
            command=self._command(),
            provenance=determining,
            summary=f"One scene whose views {Path(self.prior).name} finds likely.",
        )

    def determining(self, config: DistillConfig) -> dict[str, Any]:
        """All that the scene depends on, as JSON values."""
        import unseen
        from unseen.configuration import to_json

        digest = None
        if self.image is not None:
            digest = hashlib.sha256(self.image.read_bytes()).hexdigest()
        return {
            "prior": str(self.prior),
            "prompt": self.prompt,
            "image_sha256": digest,
            "fov": self.fov,
            "elevation": self.elevation,
            "seed": self.seed,
            "settings": to_json(config),
            "unseen": unseen.__version__,
        }

    def _command(self) -> str:
        """The command that makes the same result again."""
        words = ["unseen", "distill"]
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            name = field.name.replace("_", "-")
            if field.name == "overwrite" or value is None or value is False:
                continue
            words += [f"--{name}"] if value is True else [f"--{name}", str(value)]
        return shlex.join(words)
