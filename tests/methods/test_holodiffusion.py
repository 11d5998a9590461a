"""HoloDiffusion: what it learns from, what it samples. Parity is in tests/parity."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from tests.methods.volumes import HOLO, SIZE, example, holodiffusion, no_views
from unseen.errors import UserError
from unseen.geometry.views import Example, Views
from unseen.methods.holodiffusion import HoloDiffusion
from unseen.methods.method import SampleOptions


def loss_of(method: HoloDiffusion, seed: int, batch: Example | None = None) -> float:
    generator = torch.Generator().manual_seed(seed)
    return method.loss(batch or example(), generator).total.item()


def test_it_learns() -> None:
    method, batch = holodiffusion(), example()
    optimizer = torch.optim.Adam(method.parameters(), lr=3e-3)
    losses = []
    for step in range(25):
        found = method.loss(batch, torch.Generator().manual_seed(step)).total
        optimizer.zero_grad()
        found.backward()
        optimizer.step()
        losses.append(found.item())
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])
    untouched = [n for n, p in method.named_parameters() if p.grad is None]
    assert not untouched


def test_bootstrapping_denoises_what_was_denoised(monkeypatch) -> None:
    """It is the denoiser's own output that is noised again, with other noise."""
    calls: list[tuple[torch.Tensor, torch.Tensor]] = []

    def denoise(self, x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        calls.append((x_t, t))
        return torch.full_like(x_t, 0.3)

    def batches(bootstrap: float) -> list[int]:
        calls.clear()
        method = holodiffusion(dataclasses.replace(HOLO, bootstrap=bootstrap))
        monkeypatch.setattr(HoloDiffusion, "denoise", denoise)
        method.loss(example(), torch.Generator().manual_seed(0))
        return [len(x_t) for x_t, _ in calls]

    assert batches(0.0) == [2]
    assert batches(1.0) == [2, 2]
    (_, first), (x_t, second) = calls
    assert not torch.equal(first, second)
    schedule = holodiffusion().schedule
    alpha, sigma = schedule.alpha_sigma(second)
    # Less its signal, 0.3 everywhere, what is left is standard normal noise.
    wide = (slice(None), None, None, None, None)
    noise = (x_t - 0.3 * alpha[wide]) / sigma[wide]
    assert abs(float(noise.mean())) < 0.05 and abs(float(noise.std()) - 1) < 0.05
    sizes = {tuple(batches(0.5)) for _ in range(1)}
    assert sizes <= {(2,), (2, 1), (2, 2)}


def test_the_last_pass_and_the_swapped_axes(monkeypatch) -> None:
    plain = holodiffusion()
    volume = torch.rand(1, 8, 8, 8, 8) - 0.5
    assert torch.equal(plain.finish(volume), volume)
    assert torch.equal(plain.scene(volume).grid, volume)
    authors = holodiffusion(
        dataclasses.replace(HOLO, last_pass=True, swapped_axes=True)
    )
    expected = authors.network(volume, torch.zeros(1)).tanh()
    assert torch.equal(authors.finish(volume), expected)
    assert torch.equal(authors.scene(volume).grid, volume.permute(0, 1, 4, 3, 2))


def test_backgrounds_and_masks() -> None:
    """A scene behind the object changes nothing where masks tell it from it."""
    batch = example()

    def with_masks(views: Views, behind: float) -> Views:
        masks = (views.images < 0.9).any(dim=2).float()
        kept = masks[:, :, None]
        return Views(views.images * kept + behind * (1 - kept), views.cameras, masks)

    pairs = [
        Example(with_masks(batch.context, b), with_masks(batch.target, b))
        for b in (0.0, 0.7)
    ]
    method = holodiffusion().eval()
    assert loss_of(method, 1, pairs[0]) == pytest.approx(loss_of(method, 1, pairs[1]))


def test_samples_depend_on_their_seeds_alone() -> None:
    method, cameras = holodiffusion().eval(), example().target.cameras[:1]
    reports = []
    both = method.sample_scene(
        no_views(2), [5, 6], on_step=lambda *report: reports.append(report)
    )
    alone = method.sample_scene(no_views(1), [6])
    torch.testing.assert_close(alone.grid, both.grid[1:], rtol=0, atol=1e-4)
    assert not torch.allclose(both.grid[0], both.grid[1], atol=1e-2)
    assert both.grid.abs().max() <= 1
    assert [(done, total) for done, total, _ in reports] == [
        (k, 4) for k in range(1, 5)
    ]
    seen = reports[-1][2][1].render(cameras[0], (SIZE, SIZE)).color
    torch.testing.assert_close(
        seen, both[1].render(cameras[0], (SIZE, SIZE)).color, rtol=0, atol=1e-5
    )
    options = SampleOptions(num_steps=2)
    assert not torch.allclose(
        method.sample_scene(no_views(1), [6], options=options).grid, alone.grid
    )


def test_views_are_reconstructed_whatever_the_seed() -> None:
    method, context = holodiffusion().eval(), example().context
    assert method.varies(0) and not method.varies(1)
    with pytest.raises(UserError, match="leave out --steps"):
        method.sample_scene(context, [0, 1], options=SampleOptions(num_steps=3))
    first, second = (method.sample_scene(context, [s, s + 1]) for s in (1, 7))
    assert torch.equal(first.grid, second.grid)
    # Scenes are cut off from the weights.
    assert not any(p.requires_grad for p in first.decoder.parameters())


def test_impossible_settings() -> None:
    with pytest.raises(ValueError, match="reduces it 2-fold"):
        dataclasses.replace(HOLO, resolution=9)
    with pytest.raises(ValueError, match="share"):
        dataclasses.replace(HOLO, bootstrap=1.5)
