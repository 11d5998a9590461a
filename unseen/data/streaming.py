"""Random (context, target) views of random objects, in an order that can be repeated.

Everything is a pure function of the seed and an index: training can be resumed at any
step, with any number of worker processes, and sees what it would have seen.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from unseen.data.dataset import PosedDataset
from unseen.data.enough_views import EnoughViews
from unseen.errors import UserError
from unseen.geometry.views import Example

BLOCK = 1024
"""Mixed data sets are shuffled against each other within blocks of so many examples."""


class ExampleStream:
    """An endless stream of examples, the same for the same seed.

    Every epoch is a new random permutation of all objects; `world_size` ranks take
    turns in it, so no object comes twice in an epoch, on one rank or on two. With
    `weights` every data set has epochs of its own and its share of the examples is its
    weight over their sum; without, all objects are one set. Context and target views
    of an example are distinct and random.

    A scene with fewer views than the largest example takes is never shown, and is not
    part of an epoch; `left_out` says which. It keeps its number among the objects.

    `num_context` may be a range (low, high), both included: then the number is drawn
    per example, or per batch, the same on all ranks.

    With `buffer` the permutation suits data in large files on slow disks: it goes
    through the files (`PosedDataset.runs`) in random order and draws each object at
    random from the next `buffer` that come in the order of the files. All else stays.

    Give data sets that were opened with `cache=True` if they fit into memory; with
    worker processes every worker has a cache of its own.
    """

    def __init__(
        self,
        datasets: Sequence[PosedDataset],
        num_context: int | tuple[int, int],
        num_target: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        weights: Sequence[float] | None = None,
        buffer: int | None = None,
    ) -> None:
        low, high = (
            (num_context, num_context) if isinstance(num_context, int) else num_context
        )
        if not 0 < low <= high or num_target < 1:
            raise UserError(
                f"An example needs context and target views, not {low} to {high} and "
                f"{num_target}."
            )
        if not 0 <= rank < world_size:
            raise UserError(f"Rank {rank} does not exist among {world_size} ranks.")
        self.datasets = list(datasets)
        self._context_range, self._num_target = (low, high), num_target
        self._seed, self._rank, self._world_size = seed, rank, world_size
        if buffer is not None and buffer < 1:
            raise UserError(f"The shuffle buffer holds at least 1, not {buffer}.")
        self._buffer = buffer
        self._shares = _shares(weights, len(self.datasets))
        numbers = list(range(len(self.datasets)))
        enough = EnoughViews(self.datasets, high + num_target)
        for pool in [numbers] if weights is None else [[n] for n in numbers]:
            enough.require(pool)
        self.left_out = enough.report()
        members = [[(n, index) for index in enough.scenes(n)] for n in numbers]
        everything = [member for pool in members for member in pool]
        self._pools = [everything] if weights is None else members
        runs = [enough.runs(n) for n in numbers]
        all_runs = [run for pool in runs for run in pool]
        self._runs = [all_runs] if weights is None else runs
        self._permutations: dict[tuple[str, int, int], list[int]] = {}

    def __len__(self) -> int:
        """Number of objects, with those that are left out."""
        return sum(len(dataset) for dataset in self.datasets)

    def example(self, index: int) -> Example:
        """The example (view) with this index, of this rank."""
        return self._example(index, None)

    def _example(self, index: int, num_context: int | None) -> Example:
        place = index * self._world_size + self._rank
        number, member = self._member(place)
        generator = self._generator("views", place)
        if num_context is None:
            num_context = self._draw_context(generator)
        dataset = self.datasets[number]
        order = torch.randperm(dataset.num_views(member), generator=generator)
        chosen = order[: num_context + self._num_target].tolist()
        views = dataset.load(member, chosen)
        before = sum(len(earlier) for earlier in self.datasets[:number])
        objects = torch.tensor(before + member)
        caption = dataset.caption(member)
        return Example(views[:num_context], views[num_context:], objects, (caption,))

    def batch(self, step: int, batch_size: int) -> Example:
        """The examples (batch view) of a training step on this rank."""
        num_context = self._draw_context(self._generator("context", step))
        first = step * batch_size
        examples = [
            self._example(index, num_context)
            for index in range(first, first + batch_size)
        ]
        sizes = sorted({example.context.size for example in examples})
        if len(sizes) > 1:
            raise UserError(
                f"The data sets have images of different sizes ({sizes[0]} and "
                f"{sizes[1]}); open them with one side for all."
            )
        return Example.stack(examples)

    def loader(
        self, start_step: int, num_workers: int, batch_size: int
    ) -> Iterator[Example]:
        """Endless batches from `start_step` on, in the order of the steps.

        `num_workers` processes prepare them; 0 does it in this one. The batches do
        not depend on that number.
        """
        loader = DataLoader(
            _Batches(self, batch_size),
            batch_size=None,
            sampler=_Steps(start_step),
            num_workers=num_workers,
            collate_fn=_unchanged,
        )
        for item in loader:
            # torch would bury the sentence of a worker's error in its traceback.
            if isinstance(item, UserError):
                raise item
            yield item

    def _draw_context(self, generator: torch.Generator) -> int:
        low, high = self._context_range
        return int(torch.randint(low, high + 1, (), generator=generator))

    def _member(self, place: int) -> tuple[int, int]:
        """Data set and object at a place in the stream of all ranks."""
        pool, turn = 0, place
        if len(self._pools) > 1:
            block, offset = divmod(place, BLOCK)
            shuffled = self._permutation("mix", 0, block, BLOCK)[offset]
            pool, turn = _take_turns(block * BLOCK + shuffled, self._shares)
        members = self._pools[pool]
        epoch, position = divmod(turn, len(members))
        return members[self._permutation("epoch", pool, epoch, len(members))[position]]

    def _permutation(self, kind: str, pool: int, epoch: int, size: int) -> list[int]:
        key = (kind, pool, epoch)
        if key not in self._permutations:
            # Neighbouring epochs are enough: the stream is read forward.
            if len(self._permutations) >= 4 * (1 + len(self._pools)):
                del self._permutations[next(iter(self._permutations))]
            generator = self._generator(*key)
            if self._buffer is None or kind == "mix":
                order = torch.randperm(size, generator=generator).tolist()
            else:
                order = shuffle_runs(self._runs[pool], self._buffer, generator)
            self._permutations[key] = order
        return self._permutations[key]

    def _generator(self, *key: str | int) -> torch.Generator:
        """A generator that depends on the seed and the key alone."""
        digest = hashlib.sha256(repr((self._seed, *key)).encode()).digest()
        seed = int.from_bytes(digest[:8], "big") >> 1
        return torch.Generator().manual_seed(seed)


def shuffle_runs(
    runs: Sequence[int], buffer: int, generator: torch.Generator
) -> list[int]:
    """A permutation of the indices of consecutive runs that reads few runs at a time.

    The runs come in random order, their indices in sequence; each place takes a random
    one of the `buffer` indices that are next, so no index comes more than
    `buffer` - 1 places early.
    """
    starts = list(itertools.accumulate(runs, initial=0))
    shuffled = torch.randperm(len(runs), generator=generator).tolist()
    upcoming = (starts[run] + k for run in shuffled for k in range(runs[run]))
    order, held = [], list(itertools.islice(upcoming, buffer))
    for draw in torch.rand(sum(runs), generator=generator).tolist():
        place = int(draw * len(held))
        order.append(held[place])
        following = next(upcoming, None)
        if following is None:
            held[place] = held[-1]
            held.pop()
        else:
            held[place] = following
    return order


def _shares(weights: Sequence[float] | None, count: int) -> list[Fraction]:
    if count == 0:
        raise UserError("Give at least one data set.")
    if weights is None:
        return [Fraction(1)]
    if len(weights) != count or not all(0 < weight < math.inf for weight in weights):
        raise UserError(
            f"Give one positive weight for each of the {count} data sets, not "
            f"{', '.join(f'{weight:g}' for weight in weights) or 'none'}."
        )
    exact = [Fraction(weight) for weight in weights]
    return [weight / sum(exact) for weight in exact]


def _take_turns(place: int, shares: Sequence[Fraction]) -> tuple[int, int]:
    """Who has the turn at `place`, and how many turns it had before.

    The first takes every place where floor(place x share) steps up; the others divide
    the remaining places among themselves in the same way. So each has its share to
    within one turn, and its turns count 0, 1, 2, ... without a gap.
    """
    left = Fraction(1)
    for index, share in enumerate(shares[:-1]):
        part = share / left
        before = math.floor(place * part)
        if math.floor((place + 1) * part) > before:
            return index, before
        place -= before
        left -= share
    return len(shares) - 1, place


class _Steps(Sampler[int]):
    """start, start + 1, ..."""

    def __init__(self, start: int) -> None:
        self._start = start

    def __iter__(self) -> Iterator[int]:
        return itertools.count(self._start)


class _Batches(Dataset):
    """Batches by step; errors of the user are values, so that they cross processes."""

    def __init__(self, stream: ExampleStream, batch_size: int) -> None:
        self._stream = stream
        self._batch_size = batch_size

    def __getitem__(self, step: int) -> Example | UserError:
        try:
            return self._stream.batch(step, self._batch_size)
        except UserError as error:
            return error


def _unchanged(item: Any) -> Any:
    return item
