"""What else a scene should be, as terms of the loss."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from unseen.distillation.config import RegularizerConfig
from unseen.distillation.ramp import value_at
from unseen.geometry.views import Views
from unseen.scenes.look import Look


def opacity_loss(opacity: Float[Tensor, "view height width"]) -> Float[Tensor, ""]:
    """Mean sqrt(alpha^2 + 0.01) (DreamFusion, appendix A.2)."""
    return (opacity.square() + 0.01).sqrt().mean()


def entropy_loss(opacity: Float[Tensor, "view height width"]) -> Float[Tensor, ""]:
    """Mean binary entropy of alpha, in nats."""
    alpha = opacity.clamp(1e-3, 1 - 1e-3)
    return -(alpha * alpha.log() + (1 - alpha) * (1 - alpha).log()).mean()


def emptiness_loss(weights: Float[Tensor, "view ray sample"]) -> Float[Tensor, ""]:
    """Mean log(1 + 10 w) over all samples (Score Jacobian Chaining, section 4.3)."""
    return torch.log1p(10 * weights).mean()


def depth_smoothness_loss(
    depth: Float[Tensor, "view height width"],
) -> Float[Tensor, ""]:
    """Half the mean absolute differences along rows and along columns."""
    return 0.5 * (depth.diff(dim=-1).abs().mean() + depth.diff(dim=-2).abs().mean())


def regularize(
    look: Look, config: RegularizerConfig, step: int
) -> dict[str, Float[Tensor, ""]]:
    """The weighted terms of a look, by name; those of weight 0 are absent."""
    terms = {
        "opacity": lambda: opacity_loss(look.opacity),
        "entropy": lambda: entropy_loss(look.opacity),
        "depth_smoothness": lambda: depth_smoothness_loss(look.depth),
    }
    if look.orientation is not None:
        orientation = look.orientation
        terms["orientation"] = lambda: orientation
    if look.weights is not None:
        weights = look.weights
        terms["emptiness"] = lambda: emptiness_loss(weights)
    found = {}
    for name, term in terms.items():
        weight = value_at(getattr(config, name), step)
        if weight > 0:
            found[name] = weight * term()
    return found


def reference_terms(
    look: Look, given: Views, config: RegularizerConfig, step: int
) -> dict[str, Float[Tensor, ""]]:
    """The weighted terms of a look from the given views' own cameras.

    Where the given views (view) have masks, colours count on the object alone.
    """
    color = value_at(config.reference_color, step)
    found = {}
    mask = given.masks
    if color > 0:
        error = (look.image - given.images).square()
        share = torch.ones_like(look.opacity) if mask is None else mask
        error = (error * share[:, None]).sum() / (3 * share.sum()).clamp(min=1)
        found["reference_color"] = color * error
    weight = value_at(config.reference_mask, step)
    if weight > 0 and mask is not None:
        found["reference_mask"] = weight * (look.opacity - mask).square().mean()
    return found
