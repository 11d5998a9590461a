"""Protocols choose the published views, or say why a scene has no place."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.data.test_realestate10k import rows, write_poses
from tests.evaluation.made_up import of_counts
from unseen.data.formats import open_dataset, open_reader
from unseen.data.shard_writer import ShardSettings, write_shards
from unseen.errors import UserError
from unseen.evaluation.places import Place, find_places
from unseen.evaluation.protocols import (
    PROTOCOLS,
    Choice,
    Protocol,
    ProtocolSettings,
    Unsuitable,
    find_protocol,
)


def choose(name: str, scene: str, count: int, **settings) -> Choice | Unsuitable:
    protocol = find_protocol(name, ProtocolSettings(**settings))
    return protocol.rule(of_counts({scene: count}), 0)


def test_single_gives_view_64_where_there_is_one() -> None:
    for count, given in ((2, 0), (24, 0), (64, 0), (65, 64), (251, 64)):
        targets = [v for v in range(count) if v != given]
        assert choose("single", "a", count) == Choice([given], targets)
    assert choose("single", "a", 1) == Unsuitable(
        "has 1 view: nothing is left to compare"
    )


def test_the_views_of_shapenet_srn() -> None:
    one, two = choose("srn", "a", 251), choose("srn-two", "a", 251)
    assert isinstance(one, Choice) and isinstance(two, Choice)
    assert one.context == [64] and len(one.targets) == 250
    assert two.context == [64, 104] and len(two.targets) == 249
    assert not set(two.context) & set(two.targets) and 250 in two.targets
    assert choose("srn-two", "a", 104) == Unsuitable(
        "has 104 views, and none with the number 104"
    )


def test_the_list_of_nmr_is_found_by_name_with_and_without_category(
    tmp_path: Path,
) -> None:
    path = tmp_path / "src_dvr.txt"
    path.write_text("02691156 aa 5\n02958343 bb 23\n\n")
    for name in ("aa", "02691156/aa"):
        found = choose("nmr", name, 24, index=path)
        assert isinstance(found, Choice) and found.context == [5]
        assert found.targets == [v for v in range(24) if v != 5]
    assert choose("nmr", "cc", 24, index=path) == Unsuitable(
        "is not listed in src_dvr.txt"
    )
    assert isinstance(choose("nmr", "bb", 23, index=path), Unsuitable)


def test_the_index_of_pixelsplat(tmp_path: Path) -> None:
    path = tmp_path / "index.json"
    entry = {"context": [5, 9], "target": [6, 7, 9]}
    path.write_text(json.dumps({"clip": entry, "none": None}))
    assert choose("re10k-pixelsplat", "clip", 10, index=path) == Choice(
        [5, 9], [6, 7, 9]
    )
    assert choose("re10k-pixelsplat", "test/clip", 10, index=path) == Choice(
        [5, 9], [6, 7, 9]
    )
    for scene, views, reason in (
        ("clip", 9, "has 9 views, and none with the number 9"),
        ("none", 99, "has no frames in index.json"),
        ("other", 99, "is not listed in index.json"),
    ):
        assert choose("re10k-pixelsplat", scene, views, index=path) == Unsuitable(
            reason
        )


def write_clip(root: Path, missing: tuple[int, ...]) -> Path:
    """12 frames of greys 0, 20, ... at 1000, 2000, ..., some of which are not there."""
    table = np.repeat(rows()[:1], 12, axis=0)
    table[:, 0] = 1000 * (1 + np.arange(12))
    write_poses(root / "clip.txt", table)
    (root / "clip").mkdir()
    for frame in set(range(12)) - set(missing):
        pixels = np.full((8, 8, 3), 20 * frame, np.uint8)
        Image.fromarray(pixels).save(root / "clip" / f"{1000 * (1 + frame)}.png")
    return root


def test_published_frames_are_found_in_clips_with_gaps(tmp_path: Path) -> None:
    """The frames themselves, from the clip, its shards, and framed images of both."""
    clip = write_clip(tmp_path, missing=(3, 10))
    packed = tmp_path / "packed"
    write_shards(open_reader(clip), packed, ShardSettings())
    index = tmp_path / "index.json"
    index.write_text(json.dumps({"clip": {"context": [2, 8], "target": [11, 5, 4]}}))
    rule = find_protocol("re10k-pixelsplat", ProtocolSettings(index)).rule
    lacking = tmp_path / "lacking.json"
    lacking.write_text(json.dumps({"clip": {"context": [2, 8], "target": [5, 3]}}))
    other = find_protocol("re10k-pixelsplat", ProtocolSettings(lacking)).rule
    for dataset in (
        *(open_reader(root) for root in (clip, packed)),
        *(open_dataset(root, side=4) for root in (clip, packed)),
    ):
        choice = rule(dataset, 0)
        assert isinstance(choice, Choice)
        for views, frames in ((choice.context, [2, 8]), (choice.targets, [11, 5, 4])):
            greys = dataset.load(0, views).images.mean((1, 2, 3)) * 255
            assert torch.allclose(greys, 20.0 * torch.tensor(frames), atol=1e-3)
            # Results name the published frames, too.
            assert Place("set", dataset, 0, choice).numbers(views) == frames
        assert other(dataset, 0) == Unsuitable(
            "has 10 views, and none with the number 3"
        )


def choose_with_gaps(name: str, scene: str, numbers: list[int]) -> Choice | Unsuitable:
    dataset = of_counts({scene: len(numbers)})
    dataset.frame_numbers = lambda index: numbers  # type: ignore[method-assign]
    return find_protocol(name, ProtocolSettings()).rule(dataset, 0)


def test_views_keep_their_numbers_in_every_protocol() -> None:
    spiral = [v for v in range(251) if v not in (3, 70)]
    found = choose_with_gaps("srn-two", "a", spiral)
    assert isinstance(found, Choice) and len(found.targets) == 247
    assert found.context == [63, 102]
    assert choose_with_gaps("single", "a", spiral) == Choice(
        [63], [v for v in range(249) if v != 63]
    )
    gone = [v for v in range(251) if v != 64]
    assert choose_with_gaps("srn", "a", gone) == Unsuitable(
        "has 250 views, and none with the number 64"
    )
    sequence = [v for v in range(120) if v != 50]
    assert choose_with_gaps("co3d-hydrants", "hydrant/1", sequence) == Choice(
        [0], list(range(119)), [99]
    )
    # All frames up to the sampled one are compared, so none may be missing.
    lacking = choose_with_gaps("re10k-dfm", "a", [v for v in range(400) if v != 77])
    assert lacking == Unsuitable("has 399 views, and none with the number 77")
    later = choose_with_gaps("re10k-dfm", "a", [v for v in range(400) if v != 177])
    assert later == Choice([0], list(range(151)), [150])
    for name in ("co3d-hydrants", "re10k-dfm"):
        assert choose_with_gaps(name, "a", list(range(1, 400))) == Unsuitable(
            "has 399 views, and none with the number 0"
        )


@pytest.mark.shared
def test_the_published_index_of_pixelsplat(shared: Path, tmp_path: Path) -> None:
    import zipfile

    with zipfile.ZipFile(shared / "data/posed/realestate10k_clips.zip") as archive:
        path = Path(archive.extract("evaluation_index_re10k.json", tmp_path))
    found = choose("re10k-pixelsplat", "0bf152ef84195293", 300, index=path)
    assert found == Choice([32, 80], [41, 51, 56])


def test_the_frames_of_dfm() -> None:
    assert choose("co3d-hydrants", "hydrant/1_2", 120) == Choice(
        [0], list(range(120)), [100]
    )
    assert choose("re10k-dfm", "clip", 400) == Choice([0], list(range(151)), [150])
    for name, scene, views, reason in (
        ("co3d-hydrants", "apple/1", 200, "is no hydrant"),
        ("co3d-hydrants", "1_2", 100, "has 100 views, and none with the number 100"),
        ("re10k-dfm", "clip", 150, "has 150 views, and none with the number 150"),
    ):
        assert choose(name, scene, views) == Unsuitable(reason)


def test_random_views_depend_on_seed_and_name_alone() -> None:
    def pick(scene: str, seed: int, views: int = 30) -> Choice:
        found = choose("random", scene, views, context=2, views=5, seed=seed)
        assert isinstance(found, Choice)
        return found

    first = pick("a", 0)
    assert first == pick("a", 0) and first not in (pick("a", 1), pick("b", 0))
    assert len(first.context) == 2 and len(first.targets) == 5
    assert not set(first.context) & set(first.targets)
    assert set(pick("a", 0, 7).context + pick("a", 0, 7).targets) == set(range(7))
    assert choose("random", "a", 8, context=1, views=8) == Unsuitable(
        "has 8 views, and 9 are drawn"
    )


def choose_all(name: str, path: Path) -> Protocol:
    index = path if name in ("nmr", "re10k-pixelsplat") else None
    return find_protocol(name, ProtocolSettings(index))


def test_names_and_sources_are_complete(tmp_path: Path) -> None:
    path = tmp_path / "both.json"
    for name in PROTOCOLS:
        text = '{"a": null}' if name == "re10k-pixelsplat" else "c a 0"
        path.write_text(text)
        protocol = choose_all(name, path)
        assert protocol.name == name and protocol.summary.endswith(".")
        assert protocol.source and not protocol.source.endswith(".")


def test_the_first_scenes_that_suit() -> None:
    data = {"one": of_counts({"a": 1, "b": 3, "c": 1, "d": 2, "e": 2})}
    protocol = find_protocol("single", ProtocolSettings())
    places, left_out = find_places(data, protocol, 2)
    assert [p.scene for p in places] == ["b", "d"]
    assert [x.scene for x in left_out] == ["a", "c"]
    assert len(find_places(data, protocol, None)[0]) == 3
    with pytest.raises(UserError, match=r"no scene of two has .* single: z "):
        find_places({"two": of_counts({"z": 1})}, protocol, 5)


def test_refusals(tmp_path: Path) -> None:
    path = tmp_path / "list"
    cases = [
        ("nothing", None, None, "there is no protocol 'nothing': choose one of single"),
        ("srn", path, None, "leave out --index"),
        ("nmr", None, None, "with --index"),
        ("nmr", path, "a b\n", "line 1 of .* is not `category object view`"),
        ("nmr", path, "a b -1\n", "line 1"),
        ("nmr", path, "", "lists no objects"),
        ("re10k-pixelsplat", path, "[1]", "no evaluation index"),
        ("re10k-pixelsplat", path, '{"a": {"context": [0]}}', "no evaluation index"),
        (
            "re10k-pixelsplat",
            path,
            '{"a": {"context": [0], "target": ["1"]}}',
            "no evaluation index",
        ),
        ("re10k-pixelsplat", tmp_path / "none", None, "cannot be read"),
    ]
    for name, index, text, reason in cases:
        if text is not None:
            path.write_text(text)
        with pytest.raises(UserError, match=reason):
            find_protocol(name, ProtocolSettings(index))
    with pytest.raises(UserError, match="at least one given view"):
        ProtocolSettings(context=0)
