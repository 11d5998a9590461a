"""The Janus experiment: its score, its priors, and a small run of all of it."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import pytest
import torch

from benchmarks.janus.classifier import BINS, label
from benchmarks.janus.experiment import Janus
from benchmarks.janus.prior import KINDS, Kind, NetworkConfig, TruckPrior
from benchmarks.janus.score import janus_score
from benchmarks.janus.training import TrainingConfig, new_network
from benchmarks.janus.world import GROUP, directions, make_truck, turntable
from unseen.distillation.cameras import CameraPrior, sample_viewpoints
from unseen.distillation.prior import Branch
from unseen.errors import UserError
from unseen.networks.unet2d import UNet2dConfig

VIEWS = 24
AZIMUTH = 2 * math.pi * torch.arange(VIEWS) / VIEWS
TINY = NetworkConfig(UNet2dConfig((16, 16), 1, (False, True), 16))


def answers(shown: torch.Tensor, sure: float = 1.0) -> torch.Tensor:
    """What a classifier says of views that show azimuths `shown` (view)."""
    return sure * label(shown) + (1 - sure) / BINS


def test_an_object_with_one_front_scores_so_however_it_is_turned() -> None:
    for turn in (0.0, 1.0, 4.0):
        score = janus_score(answers(AZIMUTH + turn))
        assert score.has_one_front and score.arcs == 1
        assert 5 <= score.fronts <= 7
        assert score.agreement > 0.95 and score.error < 15
    unsure = janus_score(answers(AZIMUTH, sure=0.3))
    assert unsure.agreement == pytest.approx(0.3, abs=0.02)
    assert not unsure.has_one_front


def test_two_and_three_fronts_are_counted() -> None:
    for fronts in (2, 3):
        score = janus_score(answers(fronts * AZIMUTH + 0.3))
        assert score.arcs == fronts and not score.has_one_front
        assert score.agreement < 0.1 and score.error > 75
    # A front half whose mirror image is behind.
    mirrored = torch.where(AZIMUTH.cos() > 0, AZIMUTH, math.pi - AZIMUTH)
    score = janus_score(answers(mirrored))
    assert score.arcs == 2 and score.agreement < 0.6 and not score.has_one_front


def test_a_blob_has_not_one_front() -> None:
    always_front = janus_score(answers(torch.zeros(VIEWS)))
    assert always_front.fronts == VIEWS and always_front.agreement < 0.01
    never_front = janus_score(answers(torch.full((VIEWS,), math.pi)))
    assert never_front.fronts == 0 and never_front.arcs == 0
    unsure = janus_score(torch.full((VIEWS, BINS), 1 / BINS))
    assert unsure.certainty < 1e-6
    assert not any(s.has_one_front for s in (always_front, never_front, unsure))


def test_a_single_mistaken_view_is_no_arc() -> None:
    shown = AZIMUTH.clone()
    shown[VIEWS // 2] = 0.0
    score = janus_score(answers(shown))
    assert score.arcs == 1 and score.has_one_front


def test_every_truck_turns_its_front_to_the_x_axis() -> None:
    """Its nose, which alone has lamps, reaches as far as the box that it may fill."""
    for seed in (0, 1, 2):
        truck = make_truck(seed)
        boxes = torch.stack([torch.from_numpy(s.bounds()) for s in truck.solids])
        low, high = boxes[:, 0].amin(0), boxes[:, 1].amax(0)
        assert high[0] - low[0] > high[1] - low[1]
        cabin = truck.solids[1].bounds()
        assert cabin[1][0] == pytest.approx(float(high[0]), abs=0.03)
    azimuth, elevation = directions(turntable(8))
    assert azimuth[0] == pytest.approx(math.pi / 8)
    assert torch.allclose(elevation, torch.full((8,), math.radians(20)))


def noise_of(kind: Kind, **changes: float) -> torch.Tensor:
    """What a prior with random weights says; see the changes below."""
    network = new_network(TINY, seed=0)
    generator = torch.Generator().manual_seed(1)
    for parameter in network.parameters():
        parameter.data = 0.2 * torch.randn(parameter.shape, generator=generator)
    prior = TruckPrior(network, kind)
    cameras = CameraPrior(group=GROUP, azimuth=(changes.get("azimuth", 0.0),) * 2)
    seen = sample_viewpoints(cameras, GROUP, torch.Generator().manual_seed(0)).cameras
    x_t = torch.randn(GROUP, 3, 32, 32, generator=generator)
    x_t[3] += changes.get("last", 0.0)
    t = torch.full((GROUP,), 0.5)
    branches = [Branch(True), Branch(False)]
    found = prior.predict_noise(x_t, t, seen, branches, generator)
    assert found.shape == (2, *x_t.shape) and torch.equal(found[0], found[1])
    assert prior.abilities.group == (GROUP if kind == "multi-view" else 1)
    assert prior.abilities.poses == (kind in ("camera", "multi-view"))
    return found[0]


@pytest.mark.parametrize("kind", KINDS)
def test_a_prior_depends_on_what_it_is_told_and_on_nothing_else(kind: Kind) -> None:
    plain = noise_of(kind)
    turned = torch.allclose(noise_of(kind, azimuth=30.0), plain, atol=1e-5)
    assert turned == (kind in ("pose-free", "front-biased"))
    others = noise_of(kind, last=0.5)[:3]
    assert torch.allclose(others, plain[:3], atol=1e-5) == (kind != "multi-view")


def test_a_small_run_makes_everything_once(tmp_path: Path, capsys) -> None:
    out = tmp_path / "run"
    few = TrainingConfig(steps=3, batch=1, warmup=1)
    run = Janus(
        out,
        seeds=1,
        trucks=2,
        held_out=1,
        training=few,
        classifier=few,
        network=TINY,
        steps=2,
        sampling_steps=2,
        sampler_steps=2,
    )
    run.run()
    assert "Distilled: multi-view" in capsys.readouterr().out
    names = ["real-0", "pose-free-0", "front-biased-0", "camera-0"]
    names += ["multi-view-0", "dfm-0"]
    results = json.loads((out / "results.json").read_text())
    assert [scene["name"] for scene in results["scenes"]] == names
    page = (out / "index.html").read_text()
    assert all(name in page for name in names) and 'src="http' not in page
    assert (out / "janus.png").stat().st_size > 1000
    kept = {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")}
    assert len(kept) == 4 + 6 + 5
    run.run()
    assert kept == {path: path.stat().st_mtime_ns for path in kept}
    with pytest.raises(UserError, match="other settings"):
        dataclasses.replace(run, trucks=3).run()
