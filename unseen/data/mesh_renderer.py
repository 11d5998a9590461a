"""Path trace meshes with Mitsuba: colour, exact coverage, exact depth."""

from __future__ import annotations

import contextlib
import importlib
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from unseen.data.mesh_materials import Array, linear_to_srgb
from unseen.data.meshes import Surface
from unseen.data.mitsuba_scene import (
    Lighting,
    build_mesh,
    light_plugins,
    load_mitsuba,
)
from unseen.errors import UserError
from unseen.geometry.cameras import Cameras
from unseen.geometry.projection import world_to_camera
from unseen.geometry.views import Views

# One ray, through the centre of the pixel.
_CENTERED = {"type": "stratified", "sample_count": 1, "jitter": False}


class MeshRenderer:
    """Renders one object, its scene loaded once for all views.

    All surfaces are matte (Lambert) and two-sided, metals too: a base colour that
    looks the same from everywhere, where a mirror would show a black room. Light
    bounces up to three times. The same arguments and seed give the same pixels.
    """

    def __init__(
        self, surfaces: Sequence[Surface], lighting: Lighting | None = None
    ) -> None:
        self._mitsuba = load_mitsuba()
        self._meshes = [build_mesh(self._mitsuba, surface) for surface in surfaces]
        # Rays may pass through, which matters for depth.
        self._has_holes = any(not surface.material.opaque for surface in surfaces)
        self._scene = self._mitsuba.load_dict(
            {"type": "scene", **light_plugins(lighting or Lighting())}
            | {f"mesh_{i}": mesh for i, mesh in enumerate(self._meshes)}
        )
        self._color = self._mitsuba.load_dict(
            {"type": "path", "max_depth": 4, "hide_emitters": True}
        )
        self._position = self._mitsuba.load_dict(
            {"type": "aov", "aovs": "hit:position,hit:depth"}
        )

    def render(
        self,
        cameras: Cameras,
        size: tuple[int, int],
        samples: int = 32,
        seed: int = 0,
        with_depth: bool = True,
    ) -> Views:
        """Render at `cameras` (view); `size` is (height, width) in pixels.

        `images` are sRGB over white: `color * mask + 1 - mask`, where `color` is the
        mean of the object's light in the pixel, tone mapped. `masks` is the coverage
        of the pixel, from `samples` rays. `depths` is exact at the pixel's centre: z
        in the camera frame, 0 where the centre's ray hits nothing.

        Raises `UserError` for cameras that Mitsuba's sensor has no word for: skewed,
        or with pixels that are not square.
        """
        images, masks, depths = [], [], []
        with self._one_thread():
            for index in range(len(cameras)):
                camera = cameras[index]
                color, mask = self._shade(camera, size, samples, seed + index)
                images.append(color * mask + (1 - mask))
                masks.append(mask[0])
                if with_depth:
                    depths.append(self._measure(camera, size))
        return Views(
            torch.from_numpy(np.stack(images)),
            cameras,
            torch.from_numpy(np.stack(masks)),
            torch.from_numpy(np.stack(depths)) if with_depth else None,
        )

    def _shade(
        self, camera: Cameras, size: tuple[int, int], samples: int, seed: int
    ) -> tuple[Float[Array, "3 height width"], Float[Array, "1 height width"]]:
        """sRGB colour (not multiplied by coverage) and coverage."""
        sampler = {"type": "multijitter", "sample_count": samples}
        sensor = self._sensor(camera, size, sampler, "rgba")
        image = self._mitsuba.render(
            self._scene, sensor=sensor, integrator=self._color, seed=seed
        )
        image = np.asarray(image, np.float32).transpose(2, 0, 1)
        mask = np.clip(image[3:], 0, 1)
        # The film holds the light of the rays that hit, divided by all rays.
        return linear_to_srgb(image[:3] / np.maximum(mask, 1e-6)), mask

    def _measure(
        self, camera: Cameras, size: tuple[int, int]
    ) -> Float[Array, "height width"]:
        """Depth along the rays through the pixel centres."""
        sensor = self._sensor(camera, size, _CENTERED, "rgb")
        hits = self._mitsuba.render(
            self._scene, sensor=sensor, integrator=self._position
        )
        hits = np.array(hits, np.float32)
        points = torch.from_numpy(hits[..., :3].reshape(-1, 3))
        depth = world_to_camera(camera, points)[:, 2].numpy().reshape(size)
        depth = np.where(hits[..., 3] > 0, depth, 0).astype(np.float32)
        if self._has_holes:
            self._look_through(depth, camera, size)
        return depth

    def _look_through(
        self,
        depth: Float[Array, "height width"],
        camera: Cameras,
        size: tuple[int, int],
    ) -> None:
        """Replace depths of what is less than half opaque by those of what is behind.

        A depth is that of the first point whose opacity is above one half.
        """
        point2 = self._mitsuba.Point2f
        sensor = self._sensor(camera, size, _CENTERED, "rgb")
        height, width = size
        for row, column in zip(*np.nonzero(depth), strict=True):
            at = point2((column + 0.5) / width, (row + 0.5) / height)
            ray, _ = sensor.sample_ray(0.0, 0.5, at, point2(0.5))
            depth[row, column] = 0
            while (hit := self._scene.ray_intersect(ray)).is_valid():
                if hit.bsdf().eval_null_transmission(hit, True)[0] < 0.5:
                    point = torch.tensor([list(hit.p)], dtype=torch.float32)
                    depth[row, column] = float(world_to_camera(camera, point)[0, 2])
                    break
                ray = hit.spawn_ray(ray.d)

    def _sensor(
        self,
        camera: Cameras,
        size: tuple[int, int],
        sampler: dict[str, Any],
        pixel_format: str,
    ) -> Any:
        height, width = size
        intrinsics = camera.intrinsics.double()
        focal = intrinsics.diagonal()[:2] * torch.tensor([width, height])
        skewed = abs(float(intrinsics[0, 1])) > 1e-6
        if skewed or abs(float(focal[0] / focal[1]) - 1) > 1e-4:
            raise UserError("Meshes render with square, unskewed pixels only.")
        # Mitsuba's camera has x to the left and y up.
        to_world = camera.extrinsics.double().numpy() @ np.diag([-1.0, -1, 1, 1])
        return self._mitsuba.load_dict(
            {
                "type": "perspective",
                "fov_axis": "x",
                "fov": math.degrees(2 * math.atan(0.5 / float(intrinsics[0, 0]))),
                "principal_point_offset_x": 0.5 - float(intrinsics[0, 2]),
                "principal_point_offset_y": 0.5 - float(intrinsics[1, 2]),
                "near_clip": 1e-3,
                "far_clip": 1e4,
                "to_world": self._mitsuba.ScalarTransform4f(to_world),
                "sampler": sampler,
                "film": {
                    "type": "hdrfilm",
                    "width": width,
                    "height": height,
                    "pixel_format": pixel_format,
                    "component_format": "float32",
                    "rfilter": {"type": "box"},
                },
            }
        )

    @contextlib.contextmanager
    def _one_thread(self) -> Iterator[None]:
        """Render in one thread: the job's workers share out the cores."""
        drjit = importlib.import_module("drjit")
        before = drjit.thread_count()
        drjit.set_thread_count(1)
        try:
            yield
        finally:
            drjit.set_thread_count(before)
