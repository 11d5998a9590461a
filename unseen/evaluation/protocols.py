"""Which views of a scene are given and which are asked for, by published rules.

A protocol is a function of a data set and the index of a scene: it chooses the views,
or says why the scene has no place in it.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from unseen.data.dataset import PosedDataset
from unseen.errors import UserError
from unseen.evaluation.view_lists import read_frame_index, read_source_views

INPUT_VIEW, SECOND_VIEW = 64, 104
"""The given views of the spiral of 251 test views of ShapeNet-SRN."""

OBJECTS = 32
"""Objects of each data set, where a protocol does not ask for all."""


@dataclasses.dataclass(frozen=True)
class Choice:
    """Indices of the views of a scene that are given, and of those that are compared.

    They are what `PosedDataset.load` takes, and differ from the numbers that rules name
    where a scene lacks views (`PosedDataset.frame_numbers`).

    `sampled` are the views that a method which samples views (DFM) denoises; None
    leaves it to compare and sample the same views.
    """

    context: list[int]
    targets: list[int]
    sampled: list[int] | None = None


@dataclasses.dataclass(frozen=True)
class Unsuitable:
    """Why a scene has no place in a protocol: the end of "this scene ..."."""

    reason: str


Rule = Callable[[PosedDataset, int], Choice | Unsuitable]


@dataclasses.dataclass(frozen=True)
class Protocol:
    """A rule with its name, one sentence of what it does, and where it comes from.

    `objects`: scenes are objects in one common frame, so that the baselines (the mean
    training image, the nearest training object) mean something. `limit`: how many
    scenes of each data set are measured where nobody says; None is all.
    """

    name: str
    summary: str
    source: str
    rule: Rule
    objects: bool = True
    limit: int | None = None


@dataclasses.dataclass(frozen=True)
class ProtocolSettings:
    """What a protocol may be told: see `unseen eval --help`.

    Raises:
        UserError: fewer than one view.
    """

    index: Path | None = None
    context: int = 1
    views: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        if self.context < 1 or self.views < 1:
            raise UserError(
                "a protocol takes at least one given view and one that is asked for, "
                f"not {self.context} and {self.views}."
            )


def find_protocol(name: str, settings: ProtocolSettings) -> Protocol:
    """The protocol of this name.

    Raises:
        UserError: there is none; it lacks its list of views (`index`), or does not
            take one; the list cannot be read.
    """
    if name not in PROTOCOLS:
        raise UserError(
            f"there is no protocol '{name}': choose one of {', '.join(PROTOCOLS)}."
        )
    if settings.index is not None and name not in _INDEXES:
        raise UserError(
            f"the protocol {name} reads no list of views: leave out --index."
        )
    if settings.index is None and name in _INDEXES:
        raise UserError(
            f"the protocol {name} reads its views from a file: name {_INDEXES[name]} "
            "with --index."
        )
    return PROTOCOLS[name](settings)


def _with_numbers(
    dataset: PosedDataset, index: int, numbers: Sequence[int]
) -> list[int] | Unsuitable:
    """Indices of the views that have these numbers in their scene."""
    known = {number: view for view, number in enumerate(dataset.frame_numbers(index))}
    for number in numbers:
        if number not in known:
            count = dataset.num_views(index)
            return Unsuitable(f"has {_views(count)}, and none with the number {number}")
    return [known[number] for number in numbers]


def _others(count: int, given: list[int]) -> list[int]:
    return [view for view in range(count) if view not in given]


def _given(*views: int, step: int = 1) -> Rule:
    """Views with these numbers are given, every `step`-th other is asked for."""

    def rule(dataset: PosedDataset, index: int) -> Choice | Unsuitable:
        given = _with_numbers(dataset, index, views)
        if isinstance(given, Unsuitable):
            return given
        others = _others(dataset.num_views(index), given)
        if not others:
            return Unsuitable("has no view that is not given")
        return Choice(given, others[step // 2 :: step])

    return rule


def _single(dataset: PosedDataset, index: int) -> Choice | Unsuitable:
    count = dataset.num_views(index)
    if count < 2:
        return Unsuitable(f"has {_views(count)}: nothing is left to compare")
    usual = _with_numbers(dataset, index, [INPUT_VIEW])
    given = [0] if isinstance(usual, Unsuitable) else usual
    return Choice(given, _others(count, given))


def _random(settings: ProtocolSettings) -> Rule:
    """Views that depend on the seed and the scene's name alone."""

    def rule(dataset: PosedDataset, index: int) -> Choice | Unsuitable:
        count, wanted = dataset.num_views(index), settings.context + settings.views
        if count < wanted:
            return Unsuitable(f"has {_views(count)}, and {wanted} are drawn")
        text = f"{settings.seed}/{dataset.scene_ids[index]}"
        digest = hashlib.sha256(text.encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
        order = torch.randperm(count, generator=generator)[:wanted].tolist()
        return Choice(order[: settings.context], sorted(order[settings.context :]))

    return rule


def _listed(path: Path) -> Rule:
    sources = read_source_views(path)

    def rule(dataset: PosedDataset, index: int) -> Choice | Unsuitable:
        name = dataset.scene_ids[index]
        view = sources.get(name, sources.get(name.split("/")[-1]))
        if view is None:
            return Unsuitable(f"is not listed in {path.name}")
        return _given(view)(dataset, index)

    return rule


def _indexed(path: Path) -> Rule:
    clips = read_frame_index(path)

    def rule(dataset: PosedDataset, index: int) -> Choice | Unsuitable:
        name = dataset.scene_ids[index].split("/")[-1]
        frames = clips.get(name)
        if frames is None:
            known = "has no frames" if name in clips else "is not listed"
            return Unsuitable(f"{known} in {path.name}")
        context, targets = frames
        found = _with_numbers(dataset, index, [*context, *targets])
        if isinstance(found, Unsuitable):
            return found
        return Choice(found[: len(context)], found[len(context) :])

    return rule


def _first_to(frame: int, category: str | None, whole: bool) -> Rule:
    """The first frame is given, frame `frame` is sampled.

    Compared are the whole sequence, as far as it is there, or the frames up to the
    sampled one, all of which have to be there.
    """

    def rule(dataset: PosedDataset, index: int) -> Choice | Unsuitable:
        parts = dataset.scene_ids[index].split("/")
        if category is not None and len(parts) > 1 and category not in parts[:-1]:
            return Unsuitable(f"is no {category}")
        needed = [0, frame] if whole else range(frame + 1)
        found = _with_numbers(dataset, index, needed)
        if isinstance(found, Unsuitable):
            return found
        compared = list(range(dataset.num_views(index))) if whole else found
        return Choice([found[0]], compared, [found[-1]])

    return rule


def _views(count: int) -> str:
    return "1 view" if count == 1 else f"{count} views"


_INDEXES = {
    "nmr": "the list of source views, src_dvr.txt of pixelNeRF,",
    "re10k-pixelsplat": "pixelSplat's evaluation index (JSON)",
}

PROTOCOLS: dict[str, Callable[[ProtocolSettings], Protocol]] = {
    "single": lambda s: Protocol(
        "single",
        "One view is given, unless a method takes none: that with number 64, or "
        "the first of objects that have none. All others are compared.",
        "unseen; where there are more than 64 views it is the protocol srn",
        _single,
        limit=OBJECTS,
    ),
    "srn": lambda s: Protocol(
        "srn",
        "View 64 of the spiral of test views is given, all others are compared.",
        "Sitzmann et al. 2019; view and exclusion of the given view as in pixelNeRF",
        _given(INPUT_VIEW),
    ),
    "srn-tenth": lambda s: Protocol(
        "srn-tenth",
        "View 64 of the spiral of test views is given, every tenth other is compared.",
        "unseen: srn for methods that sample each view, and a tenth of its time",
        _given(INPUT_VIEW, step=10),
    ),
    "srn-two": lambda s: Protocol(
        "srn-two",
        "Views 64 and 104 are given, all others are compared.",
        "Sitzmann et al. 2019; views as in pixelNeRF",
        _given(INPUT_VIEW, SECOND_VIEW),
    ),
    "nmr": lambda s: Protocol(
        "nmr",
        "One of 24 views is given, named by a published list; all others are compared.",
        "renderings of Kato et al. 2018; list src_dvr.txt of pixelNeRF (8,762 objects)",
        _listed(s.index or Path()),
    ),
    "co3d-hydrants": lambda s: Protocol(
        "co3d-hydrants",
        "The first frame is given, frame 100 is sampled, and every frame of the "
        "sequence is compared.",
        "Tewari et al. 2023 (DFM), one-shot evaluation of their code",
        _first_to(100, "hydrant", whole=True),
        objects=False,
    ),
    "re10k-dfm": lambda s: Protocol(
        "re10k-dfm",
        "The first frame is given, frame 150 is sampled, and the frames from the one "
        "to the other are compared.",
        "Tewari et al. 2023 (DFM)",
        _first_to(150, None, whole=False),
        objects=False,
        limit=100,
    ),
    "re10k-pixelsplat": lambda s: Protocol(
        "re10k-pixelsplat",
        "Two frames are given and three compared, named by a published index.",
        "Charatan et al. 2024 (pixelSplat), evaluation_index_re10k.json",
        _indexed(s.index or Path()),
        objects=False,
    ),
    "random": lambda s: Protocol(
        "random",
        f"{s.context} given and {s.views} compared, drawn by the seed and the scene's "
        "name.",
        "unseen",
        _random(s),
        limit=OBJECTS,
    ),
}
"""Protocols of novel views by name."""
