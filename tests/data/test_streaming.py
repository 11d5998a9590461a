"""The example stream: random, complete, and the same again."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path

import pytest
import torch

from tests.evaluation.made_up import InMemory, flat, write_set
from unseen.data.procedural_dataset import ProceduralSettings, write_procedural
from unseen.data.shard_dataset import ShardDataset
from unseen.data.shard_writer import ShardSettings, write_shards
from unseen.data.srn_layout import SRNDataset
from unseen.data.streaming import ExampleStream, shuffle_runs
from unseen.errors import UserError
from unseen.geometry.views import Example


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two data sets, of 12 and of 6 objects with 5 views each."""
    base = tmp_path_factory.mktemp("sets")
    for name, num, seed in (("many", 12, 0), ("few", 6, 1)):
        write_procedural(base / name, num, ProceduralSettings(5, 8, seed, depth=False))
    return base / "many", base / "few"


@pytest.fixture
def many(roots: tuple[Path, Path]) -> SRNDataset:
    return SRNDataset(roots[0], cache=True)


@pytest.fixture
def few(roots: tuple[Path, Path]) -> SRNDataset:
    return SRNDataset(roots[1], cache=True)


def poses(example: Example) -> torch.Tensor:
    """All poses of an example (view 12) or of a batch (batch view 12)."""
    both = (example.context.cameras, example.target.cameras)
    matrices = torch.cat([cameras.extrinsics for cameras in both], dim=-3)
    return matrices[..., :3, :].flatten(-2)


def identify(example: Example, *datasets: SRNDataset) -> tuple[int, str]:
    """Data set and name of the object that an example shows."""
    pose = example.context.cameras.extrinsics[0]
    for number, dataset in enumerate(datasets):
        for index, name in enumerate(dataset.scene_ids):
            if (dataset.load(index).cameras.extrinsics == pose).all((1, 2)).any():
                return number, name
    raise AssertionError("the example shows no known object")


def test_examples_say_what_they_show(many: SRNDataset) -> None:
    batch = ExampleStream([many], 1, 1, seed=0).batch(0, 6)
    first = ExampleStream([many], 1, 1, seed=0).example(0)
    assert first.captions == batch.captions[:1] and len(batch.captions) == 6
    names = [
        identify(ExampleStream([many], 1, 1, 0).example(i), many) for i in range(6)
    ]
    assert batch.captions == tuple(name.split("-")[0] for _, name in names)
    assert batch.to("cpu").captions == batch.captions


def test_an_example_is_a_function_of_seed_and_index(
    many: SRNDataset, roots: tuple[Path, Path]
) -> None:
    first = ExampleStream([many], 2, 2, seed=3)
    second = ExampleStream([SRNDataset(roots[0])], 2, 2, seed=3)
    order = [7, 40, 0, 7, 13]
    for index in order:
        assert torch.equal(
            first.example(index).target.images, second.example(index).target.images
        )
    other = ExampleStream([many], 2, 2, seed=4)
    assert any(
        not torch.equal(poses(first.example(k)), poses(other.example(k)))
        for k in range(3)
    )


def test_context_and_target_are_distinct_views_of_one_object(many: SRNDataset) -> None:
    stream = ExampleStream([many], 2, 3, seed=0)
    seen = set()
    for index in range(24):
        example = stream.example(index)
        assert len(example.context) == 2 and len(example.target) == 3
        assert len(torch.unique(poses(example), dim=0)) == 5
        _, name = identify(example, many)
        known = many.load(many.scene_ids.index(name)).cameras.extrinsics
        target = example.target.cameras.extrinsics
        assert all((pose == known).all((1, 2)).any() for pose in target)
        seen.add((name, tuple(example.context.cameras.extrinsics[0, :3, 3].tolist())))
    # Another epoch shows an object from other sides.
    assert len(seen) > 12


def test_every_epoch_is_a_new_permutation(many: SRNDataset) -> None:
    stream = ExampleStream([many], 1, 1, seed=0)
    names = [identify(stream.example(k), many)[1] for k in range(36)]
    epochs = [names[12 * k : 12 * k + 12] for k in range(3)]
    assert all(sorted(epoch) == sorted(many.scene_ids) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert epochs[0] != sorted(epochs[0])


@pytest.mark.parametrize("world_size", [2, 5])
def test_ranks_never_share_an_object_within_an_epoch(
    many: SRNDataset, world_size: int
) -> None:
    streams = [
        ExampleStream([many], 1, 1, seed=0, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    turns = itertools.product(range(12), range(world_size))
    names = [identify(streams[rank].example(k), many)[1] for k, rank in turns]
    for epoch in range(world_size):
        assert sorted(names[12 * epoch : 12 * epoch + 12]) == sorted(many.scene_ids)


def test_several_sets_without_weights_are_one(
    many: SRNDataset, few: SRNDataset
) -> None:
    stream = ExampleStream([many, few], 1, 1, seed=0)
    assert len(stream) == 18
    shown = [identify(stream.example(k), many, few) for k in range(18)]
    assert len(set(shown)) == 18


def test_weights_give_shares_and_keep_epochs(many: SRNDataset, few: SRNDataset) -> None:
    stream = ExampleStream([many, few], 1, 1, seed=0, weights=[1.0, 3.0])
    shown = [stream._member(place)[0] for place in range(2048)]
    assert Counter(shown) == {0: 512, 1: 1536}
    # No fixed beat, or two ranks would each see one set only.
    beats = {tuple(shown[k : k + 4]) for k in range(0, 2048, 4)}
    assert len(beats) > 8
    turns = [m for m in map(stream._member, range(2048)) if m[0] == 1]
    assert set(Counter(turns).values()) == {256}
    assert Counter(stream._member(place) for place in range(2048)).keys() == {
        *((0, k) for k in range(12)),
        *((1, k) for k in range(6)),
    }


def test_a_range_of_contexts_is_drawn_per_batch(many: SRNDataset) -> None:
    streams = [ExampleStream([many], (1, 3), 2, 0, rank, 2) for rank in (0, 1)]
    counts = []
    for step in range(12):
        batches = [stream.batch(step, 3) for stream in streams]
        shapes = {tuple(batch.context.images.shape) for batch in batches}
        assert len(shapes) == 1
        assert batches[0].target.images.shape == (3, 2, 3, 8, 8)
        counts.append(shapes.pop()[1])
    assert set(counts) == {1, 2, 3}


def test_the_loader_gives_the_same_for_any_number_of_workers(many: SRNDataset) -> None:
    stream = ExampleStream([many], (1, 2), 2, seed=5)
    expected = [stream.batch(step, 2) for step in range(4, 10)]
    for workers in (0, 1, 2):
        loaded = itertools.islice(stream.loader(4, workers, 2), len(expected))
        for batch, truth in zip(loaded, expected, strict=True):
            assert torch.equal(batch.context.images, truth.context.images)
            assert torch.equal(poses(batch), poses(truth))


def test_errors_cross_the_worker_processes_as_one_sentence(tmp_path: Path) -> None:
    write_set(tmp_path, {"torn": ("train", flat(100, 3))})
    for image in tmp_path.glob("torn/rgb/*.png"):
        image.write_bytes(b"cut short")
    stream = ExampleStream([SRNDataset(tmp_path)], 1, 2, seed=0)
    for workers in (0, 1):
        with pytest.raises(UserError) as caught:
            next(stream.loader(0, workers, 1))
        assert "torn/rgb/" in str(caught.value) and "\n" not in str(caught.value)


class Uneven(InMemory):
    """Scenes with so many views each, in files of several; -1 cannot be counted."""

    def __init__(self, counts: list[int], runs: list[int]) -> None:
        scenes = {f"s{k}": flat(k, max(n, 1), seed=k) for k, n in enumerate(counts)}
        super().__init__(scenes)
        self._counts, self._runs = counts, runs

    @property
    def runs(self) -> list[int]:
        return self._runs

    def num_views(self, index: int) -> int:
        if self._counts[index] < 0:
            raise UserError("it has no usable view.")
        return self._counts[index]


COUNTS = [5, 4, 3, 9, 4, 0, -1, 3, 6, 4]
KEPT = [0, 1, 3, 4, 8, 9]
"""The scenes with 4 views and more."""


@pytest.mark.parametrize("buffer", [None, 1, 3])
@pytest.mark.parametrize("world_size", [1, 2, 5])
def test_scenes_with_too_few_views_are_left_out_of_every_epoch(
    buffer: int | None, world_size: int
) -> None:
    def open_streams() -> list[ExampleStream]:
        datasets = [Uneven([2, 4], [1, 1]), Uneven(COUNTS, [3, 4, 1, 2])]
        return [
            ExampleStream(datasets, (1, 2), 2, 7, rank, world_size, buffer=buffer)
            for rank in range(world_size)
        ]

    streams = open_streams()
    # Objects are numbered as if none were left out: there are codes for all.
    assert all(len(stream) == 12 for stream in streams)
    assert streams[0].left_out == (
        "5 of 12 scenes have fewer than 4 views and are left out: s0, s2, s5, ..."
    )
    turns = list(itertools.product(range(7), range(world_size)))
    shown = [streams[rank].example(k) for k, rank in turns]
    objects = [int(example.objects) for example in shown]
    kept = [1, *(2 + k for k in KEPT)]
    for epoch in range(world_size):
        assert sorted(objects[7 * epoch : 7 * epoch + 7]) == kept
    for example, number in zip(shown[:7], objects, strict=False):
        level = number if number < 2 else number - 2
        assert torch.allclose(example.target.images * 255, torch.tensor(float(level)))
    # Other streams go on from any place.
    again = open_streams()
    for (k, rank), example in list(zip(turns, shown, strict=True))[::-3]:
        assert torch.equal(poses(again[rank].example(k)), poses(example))


def test_weights_and_scenes_that_are_left_out() -> None:
    few, many = Uneven([4, 2], [1, 1]), Uneven(COUNTS, [10])
    stream = ExampleStream([few, many], 2, 2, seed=0, weights=[1.0, 3.0])
    drawn = Counter(stream._member(place) for place in range(1024))
    assert drawn == {(0, 0): 256} | {(1, k): 128 for k in KEPT}
    one = ExampleStream([few], 2, 2, seed=0).left_out
    assert one == "1 of 2 scenes has fewer than 4 views and is left out: s1"
    assert ExampleStream([few], 1, 1, seed=0).left_out is None
    # Without weights one set may be left out as a whole, with weights it cannot.
    assert int(ExampleStream([few, many], 3, 2, seed=0).example(0).objects) >= 2
    message = (
        r"no scene of memory has the 5 views that an example takes \(the most is 4\): "
        r"lower --num-target, or give data with more views\."
    )
    for datasets, weights in (([few, many], [1.0, 3.0]), ([few], None)):
        with pytest.raises(UserError, match=message):
            ExampleStream(datasets, 3, 2, seed=0, weights=weights)


def test_shards_leave_the_same_scenes_out(tmp_path: Path) -> None:
    counts = [n for n in COUNTS if n > 0]
    objects = {f"o{k}": ("train", flat(20 * k, n)) for k, n in enumerate(counts)}
    source = SRNDataset(write_set(tmp_path / "set", objects))
    write_shards(source, tmp_path / "packed", ShardSettings(size_mb=0.03))
    packed = ShardDataset(tmp_path / "packed")
    assert len(packed.runs) > 1
    for buffer in (None, 2):
        theirs = ExampleStream([source], 2, 2, seed=1)
        ours = ExampleStream([packed], 2, 2, seed=1, buffer=buffer)
        assert ours.left_out == theirs.left_out is not None
        found = [[int(s.example(k).objects) for k in range(12)] for s in (ours, theirs)]
        assert sorted(found[0]) == sorted(found[1]) == sorted(2 * [0, 1, 3, 4, 6, 7])
        assert buffer is not None or found[0] == found[1]


def test_images_of_two_sizes_are_refused(many: SRNDataset, tmp_path: Path) -> None:
    write_procedural(tmp_path, 3, ProceduralSettings(3, 16))
    stream = ExampleStream([many, SRNDataset(tmp_path)], 1, 1, seed=0)
    with pytest.raises(UserError, match=r"different sizes \(\(8, 8\) and \(16, 16\)"):
        stream.batch(0, 15)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_context": 0}, "needs context and target views"),
        ({"num_context": (3, 1)}, "needs context and target views"),
        ({"num_target": 0}, "needs context and target views"),
        ({"rank": 2, "world_size": 2}, "Rank 2 does not exist"),
        ({"weights": [1.0, 2.0]}, "one positive weight for each of the 1 data sets"),
        ({"weights": [0.0]}, "one positive weight"),
        ({"datasets": []}, "at least one data set"),
    ],
)
def test_bad_arguments_are_refused(
    many: SRNDataset, arguments: dict, message: str
) -> None:
    good = {"datasets": [many], "num_context": 1, "num_target": 1, "seed": 0}
    with pytest.raises(UserError, match=message):
        ExampleStream(**(good | arguments))


def test_runs_are_shuffled_within_a_buffer(generator: torch.Generator) -> None:
    runs = [5, 1, 7, 4, 8]
    order = shuffle_runs(runs, 3, generator)
    assert sorted(order) == list(range(25)) and order != list(range(25))
    # Without a buffer: whole runs, in random order, each from its start.
    whole = shuffle_runs(runs, 1, generator)
    starts = {0: 5, 5: 1, 6: 7, 13: 4, 17: 8}
    place = 0
    while place < 25:
        length = starts.pop(whole[place])
        first = whole[place]
        assert whole[place : place + length] == list(range(first, first + length))
        place += length
    # No index comes more than two places before its turn.
    same = torch.Generator().manual_seed(5)
    turns = shuffle_runs(runs, 1, same)
    same.manual_seed(5)
    early = [turns.index(x) - k for k, x in enumerate(shuffle_runs(runs, 3, same))]
    assert max(early) == 2
    # A buffer that holds everything makes every order possible.
    counts = Counter(tuple(shuffle_runs([3], 3, generator)) for _ in range(600))
    assert len(counts) == 6 and min(counts.values()) > 60


def test_a_buffer_keeps_epochs_seeds_and_ranks(
    many: SRNDataset, few: SRNDataset
) -> None:
    for world_size in (1, 2, 5):
        streams = [
            ExampleStream([many, few], 1, 1, 3, rank, world_size, buffer=4)
            for rank in range(world_size)
        ]
        turns = itertools.product(range(18), range(world_size))
        seen = [int(streams[rank].example(k).objects) for k, rank in turns]
        for epoch in range(world_size):
            assert sorted(seen[18 * epoch : 18 * epoch + 18]) == list(range(18))
    again = ExampleStream([many, few], 1, 1, 3, 4, 5, buffer=4)
    assert int(again.example(17).objects) == seen[-1]
    weighted = ExampleStream([many, few], 1, 1, 3, weights=[1.0, 1.0], buffer=4)
    drawn = Counter(int(weighted.example(k).objects) for k in range(24))
    assert sum(drawn[k] for k in range(12)) in (11, 12, 13)
    with pytest.raises(UserError, match="at least 1"):
        ExampleStream([many], 1, 1, 0, buffer=0)
