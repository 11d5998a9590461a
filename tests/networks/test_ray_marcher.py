"""The learned ray marcher: geometry, memory, initial weights, clamped gradients."""

from __future__ import annotations

import torch

from unseen.networks.ray_marcher import GRADIENT_LIMIT, RayMarcher, RayMarcherConfig

CONFIG = RayMarcherConfig(features=8, memory=4, num_steps=5, color_layers=1)


def make_marcher() -> RayMarcher:
    torch.manual_seed(0)
    return RayMarcher(CONFIG)


def make_rays() -> tuple[torch.Tensor, torch.Tensor]:
    directions = torch.randn(2, 7, 3)
    directions[..., 2] = 1.0
    return torch.randn(2, 7, 3), directions


def test_forget_gates_start_open_and_no_others() -> None:
    lstm = make_marcher().lstm
    for bias in (lstm.bias_ih, lstm.bias_hh):
        gates = bias.detach().chunk(4)
        assert torch.equal(gates[1], torch.ones(4))
        assert all((gates[i].abs() <= 0.5).all() for i in (0, 2, 3))


def test_constant_steps_have_world_length() -> None:
    """Steps of 0.3 along unit directions, whatever the length of those given."""
    marcher = make_marcher()
    with torch.no_grad():
        marcher.step.weight.zero_()
        marcher.step.bias.fill_(0.3)
    visited = []

    def scene(points: torch.Tensor) -> torch.Tensor:
        visited.append(points)
        return torch.zeros(*points.shape[:-1], 8)

    origins, directions = make_rays()
    start = torch.full((2, 7), 0.05)
    _, depth = marcher(scene, origins, directions, start)
    # Ten steps read the scene ten times, and the colour once more.
    assert len(visited) == CONFIG.num_steps + 1
    torch.testing.assert_close(visited[0], origins + 0.05 * directions)
    lengths = torch.stack(visited).diff(dim=0).norm(dim=-1)
    torch.testing.assert_close(lengths, torch.full_like(lengths, 0.3))
    # Directions have z = 1, and so the z of the end is the depth.
    end = visited[-1][..., 2] - origins[..., 2]
    torch.testing.assert_close(depth, end)


def test_rays_do_not_know_of_each_other() -> None:
    marcher = make_marcher()
    weight = torch.randn(3, 8)
    origins, directions = make_rays()
    start = torch.full((2, 7), 0.05)

    def march(rays: slice) -> torch.Tensor:
        return marcher(
            lambda x: torch.sin(x @ weight),
            origins[:, rays],
            directions[:, rays],
            start[:, rays],
        )[0]

    both = march(slice(None))
    torch.testing.assert_close(march(slice(2, 4)), both[:, 2:4])


def test_gradients_of_the_memory_are_clamped() -> None:
    """With a cotangent of any size, the step's bias sees it, its input hardly."""
    marcher = make_marcher()
    origins, directions = make_rays()

    def gradient(size: float) -> tuple[float, float]:
        marcher.zero_grad()
        _, depth = marcher(
            lambda x: x @ torch.ones(3, 8),
            origins.detach(),
            directions,
            torch.full((2, 7), 0.05),
        )
        (size * depth).sum().backward()
        bias, inputs = marcher.step.bias.grad, marcher.lstm.weight_ih.grad
        assert bias is not None and inputs is not None
        return float(bias.abs().max()), float(inputs.abs().max())

    small, huge = gradient(1e6), gradient(1e9)
    assert huge[0] > 100 * small[0], "the layer after the memory is not clamped"
    rays, reach = 14, float((origins.abs().sum(-1) + 10).max())
    limit = CONFIG.num_steps**2 * rays * GRADIENT_LIMIT * reach * 100
    assert huge[1] < limit < 1e8
