"""The scenes that an evaluation measures, and the views that it needs of them."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from unseen.data.dataset import PosedDataset
from unseen.errors import UserError
from unseen.evaluation.baselines import load_views
from unseen.evaluation.protocols import Choice, Protocol, Unsuitable
from unseen.geometry.cameras import Cameras
from unseen.geometry.check import check_cameras, check_views
from unseen.geometry.views import Views
from unseen.methods.method import scene_seed


@dataclasses.dataclass(frozen=True)
class Place:
    """A scene with a place in the protocol; `data` names its data set."""

    data: str
    dataset: PosedDataset
    index: int
    choice: Choice

    @property
    def scene(self) -> str:
        return self.dataset.scene_ids[self.index]

    def numbers(self, views: list[int]) -> list[int]:
        """The numbers that views with these indices have in their scene."""
        known = self.dataset.frame_numbers(self.index)
        return [known[view] for view in views]

    def load(self, side: int, max_context: int | None) -> tuple[Views, Views]:
        """The given views (context,) and those that are compared (view,).

        Raises:
            UserError: they are too many or too small, or wrongly posed.
        """
        context = load_views(self.dataset, self.index, side, self.choice.context)
        targets = load_views(self.dataset, self.index, side, self.choice.targets)
        check_views(context, max_context)
        check_cameras(targets.cameras, "held-out view")
        return context, targets

    def sampled_cameras(self, side: int, targets: Cameras) -> Cameras:
        """Where a scene is sampled; the cameras that are compared, if not told."""
        if self.choice.sampled is None:
            return targets
        views = load_views(self.dataset, self.index, side, self.choice.sampled)
        return views.cameras

    def seeds(self, seed: int, samples: int) -> list[int]:
        """Seeds of samples of this scene, which depend on nothing else that is there.

        The first ones do not depend on their number.
        """
        first = self.seed(seed)
        return [first, *(scene_seed(first, i) for i in range(1, samples))]

    def seed(self, seed: int) -> int:
        """A seed of this scene's own, which does not depend on what else is there."""
        return named_seed(seed, self.data, self.scene)


def named_seed(seed: int, *names: str) -> int:
    """A seed that belongs to names, and does not depend on what else there is."""
    digest = hashlib.sha256("/".join([str(seed), *names]).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 2


@dataclasses.dataclass(frozen=True)
class LeftOut:
    """A scene without a place in the protocol, and why."""

    data: str
    scene: str
    reason: str


def find_places(
    datasets: Mapping[str, PosedDataset], protocol: Protocol, limit: int | None
) -> tuple[list[Place], list[LeftOut]]:
    """The first `limit` scenes of each data set by name that have a place.

    Raises:
        UserError: a data set has none.
    """
    places: list[Place] = []
    left_out: list[LeftOut] = []
    for name, dataset in datasets.items():
        found = 0
        for index, scene in enumerate(dataset.scene_ids):
            if limit is not None and found == limit:
                break
            choice = protocol.rule(dataset, index)
            if isinstance(choice, Unsuitable):
                left_out.append(LeftOut(name, scene, choice.reason))
                continue
            found += 1
            places.append(Place(name, dataset, index, choice))
        if found == 0:
            first = left_out[-1]
            raise UserError(
                f"no scene of {name} has a place in the protocol {protocol.name}: "
                f"{first.scene} {first.reason}."
            )
    return places, left_out


def view_angles(targets: Cameras, context: Cameras) -> Float[Tensor, "view"]:
    """Degrees between the viewing direction of each target (view,) and a given view.

    Of several given views, that which is closest.
    """
    among = context.extrinsics[:, :3, 2].double()
    cosines = targets.extrinsics[:, :3, 2].double() @ among.T
    return torch.rad2deg(cosines.clamp(-1, 1).arccos().amin(dim=1))
