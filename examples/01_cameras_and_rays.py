"""Cameras, rays and projection: the conventions, checked as they are shown."""

import math

import torch

from unseen.geometry.cameras import Cameras, intrinsics_from_fov, look_at
from unseen.geometry.projection import project
from unseen.geometry.rays import image_rays, plucker_images

# Four cameras at distance 3 around the origin, looking at it. The world's z is up.
azimuths = torch.arange(4) * (math.pi / 2)
centers = 3 * torch.stack([azimuths.cos(), azimuths.sin(), 0 * azimuths], dim=-1)
fov = torch.full((4,), math.radians(40))
cameras = Cameras(
    extrinsics=look_at(centers, torch.zeros(3)),
    intrinsics=intrinsics_from_fov(fov),
    near=torch.full((4,), 2.0),
    far=torch.full((4,), 4.0),
)
print("cameras:", tuple(cameras.shape), "centres:", cameras.centers.tolist())

# The origin is in the middle of every image, at depth 3.
xy, depth = project(cameras, torch.zeros(4, 1, 3))
print("the origin is seen at", xy[:, 0].tolist(), "at depth", depth[:, 0].tolist())
assert torch.allclose(xy, torch.tensor(0.5), atol=1e-5)
assert torch.allclose(depth, torch.tensor(3.0), atol=1e-5)

# A ray per pixel. Directions have z = 1 in the camera frame, so that a point at a depth
# is `origin + depth * direction`; projecting it gives the pixel centre back.
size = (4, 6)
origins, directions = image_rays(cameras, size)
points = origins + 2.5 * directions
xy, depth = project(cameras, points)
print("the first pixel's centre:", xy[0, 0].tolist(), "= (0.5 / 6, 0.5 / 4)")
assert torch.allclose(depth, torch.tensor(2.5), atol=1e-5)
assert torch.allclose(xy[0, 0], torch.tensor([0.5 / 6, 0.5 / 4]), atol=1e-5)

# What a network is shown of a camera: Pluecker coordinates, six channels per pixel.
print("Pluecker images:", tuple(plucker_images(cameras, size).shape))
