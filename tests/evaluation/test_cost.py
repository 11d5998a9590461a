"""Costs that are known: of counted products, and of tensors of known size."""

from __future__ import annotations

import dataclasses

import torch

from tests.analytic_scene import SkyScene, sky
from unseen.data.cameras import sphere_cameras
from unseen.evaluation.cost import TensorMemory, render_cost
from unseen.geometry.cameras import Cameras
from unseen.rendering.rendering import Rendering
from unseen.scenes.voxel_radiance import VoxelRadianceScene


def test_memory_of_tensors_is_what_is_alive_at_once() -> None:
    old = torch.zeros(1000)
    with TensorMemory() as memory:
        assert memory.peak == 0
        first = old + 1  # 4000 bytes
        view = old.reshape(10, 100)[2:]  # nothing new
        assert memory.alive == 4000
        second = torch.empty(500, dtype=torch.float64)  # 4000 more
        assert memory.alive == 8000
        del first
        assert memory.alive == 4000
        third = second.reshape(50, 10).T  # a view of the second
        del second
        assert memory.alive == 4000 and view.shape == (8, 100)
        del third
        assert memory.alive == 0
        torch.ones(100).add_(1)
    assert memory.peak == 8000


@dataclasses.dataclass(frozen=True)
class ProductScene(SkyScene):
    """A scene whose frame takes one product of known matrices."""

    def render(self, cameras: Cameras, size: tuple[int, int]) -> Rendering:
        product = torch.ones(20, 30) @ torch.ones(30, 40)
        assert product.shape == (20, 40)
        return super().render(cameras, size)


def test_cost_of_a_frame() -> None:
    cameras = sphere_cameras(torch.zeros(2), torch.full((2,), 0.3), torch.tensor(0.7))
    plain = render_cost(sky(), cameras, (8, 8))
    found = render_cost(ProductScene(sky().tint), cameras, (8, 8))
    # Two operations per product, shared by two frames.
    assert found.operations - plain.operations == 2 * 20 * 30 * 40 // 2
    assert found.evaluations_per_ray is None
    assert found.frames_per_second == 1 / found.seconds > 0
    images = 2 * 3 * 8 * 8 * 4
    assert images <= plain.peak_bytes < 20 * images


def test_more_samples_are_more_evaluations_and_more_memory() -> None:
    box = torch.tensor([[-1.0] * 3, [1.0] * 3])
    cameras = sphere_cameras(torch.zeros(1), torch.full((1,), 0.3), torch.tensor(0.7))
    few, many = (
        render_cost(
            VoxelRadianceScene(torch.zeros(4, 8, 8, 8), box, torch.ones(3), samples),
            cameras,
            (16, 16),
            repeats=1,
        )
        for samples in (8, 64)
    )
    assert (few.evaluations_per_ray, many.evaluations_per_ray) == (8, 64)
    # Density and colour of every sample of every ray.
    assert many.peak_bytes > 64 * 16 * 16 * 4 * 4
    assert many.peak_bytes > 4 * few.peak_bytes
