"""Radiance fields of objects that two codes describe, with one network for all.

The codes say what an object's shape and its texture are (CodeNeRF; Jang and Agapito,
ICCV 2021), so they can be exchanged between objects: see `CodedFieldScene.edited`.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from unseen.configuration import from_json, to_json
from unseen.geometry.boxes import box_around
from unseen.geometry.cameras import Cameras
from unseen.networks.coded_mlp import CodedMLP, CodedMLPConfig, FoldedMLP
from unseen.rendering.rendering import Rendering, stack_renderings
from unseen.scenes.coded_marching import find_matter, march
from unseen.scenes.coded_sampling import CodedSampling, Samples
from unseen.scenes.occupancy import Occupancy
from unseen.scenes.scene import FieldScene, PixelRendering
from unseen.scenes.state import module_state, module_tensors


@dataclasses.dataclass(frozen=True)
class CodedFieldScene(FieldScene):
    """Codes, the network that they steer, and where the object stands.

    `frames` map world points into the frame that the network was trained in. Objects
    fit into the cube of half-width `extent` around that frame's origin.

    Colours of the network are linear and unbounded. They are composited as they are;
    what `render`, `render_pixels` and `evaluate` return is clamped to [0, 1], and
    `render_pixels` gives the composited colours before that as the extra "linear".
    """

    network: CodedMLP
    shapes: Float[Tensor, "*batch code"]
    textures: Float[Tensor, "*batch code"]
    frames: Float[Tensor, "*batch 4 4"]
    sampling: CodedSampling
    extent: float = 1.0

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.shapes.shape[:-1])

    @property
    def evaluations_per_ray(self) -> int:
        return self.sampling.num_samples

    def __getitem__(self, index: int | slice) -> CodedFieldScene:
        # Copies, because where a tensor lies in memory may change the last bits of a
        # product, and a scene shall render alike before and after it was saved.
        return dataclasses.replace(
            self,
            shapes=self.shapes[index].clone(),
            textures=self.textures[index].clone(),
            frames=self.frames[index].clone(),
        )

    def detach(self) -> CodedFieldScene:
        """The same scene, cut off from what its codes came from."""
        return dataclasses.replace(
            self,
            shapes=self.shapes.detach().clone(),
            textures=self.textures.detach().clone(),
            frames=self.frames.detach().clone(),
        )

    def edited(
        self,
        shape_of: CodedFieldScene | None = None,
        texture_of: CodedFieldScene | None = None,
        amount: float = 1.0,
    ) -> CodedFieldScene:
        """This object with the shape or the texture of another one (or of both).

        An `amount` between 0 and 1 goes only so far, along the line between the codes.
        The other's codes must be of the same network; the object stays where it is.
        """
        shapes = self.shapes if shape_of is None else shape_of.shapes
        textures = self.textures if texture_of is None else texture_of.textures
        return dataclasses.replace(
            self,
            shapes=self.shapes.lerp(shapes.to(self.shapes), amount),
            textures=self.textures.lerp(textures.to(self.textures), amount),
        )

    # ---- Points ---------------------------------------------------------------------

    def evaluate(
        self, points: Float[Tensor, "*batch point 3"]
    ) -> tuple[Float[Tensor, "*batch point"], Float[Tensor, "*batch point 3"]]:
        """Density and colour. Colour depends on where one looks from: this is the one
        that is seen from straight outside, looking at the object's middle."""
        local = points @ self.frames[..., :3, :3].transpose(-1, -2)
        local = local + self.frames[..., None, :3, 3]
        inward = -functional.normalize(local, dim=-1)
        single = not self.shape
        codes = self.shapes[None] if single else self.shapes
        textures = self.textures[None] if single else self.textures
        if single:
            local, inward = local[None], inward[None]
        # All points at once would not fit into memory.
        count = max(1, self.sampling.max_points // len(codes))
        pieces = [
            self.network(p, d, codes, textures)
            for p, d in zip(local.split(count, 1), inward.split(count, 1), strict=True)
        ]
        density = torch.cat([piece[0] for piece in pieces], dim=1)
        color = torch.cat([piece[1] for piece in pieces], dim=1).clamp(0, 1)
        return (density[0], color[0]) if single else (density, color)

    # ---- Rays -----------------------------------------------------------------------

    def render_pixels(
        self,
        cameras: Cameras,
        size: tuple[int, int],
        pixels: Int[Tensor, "*batch ray"],
        generator: torch.Generator | None = None,
    ) -> PixelRendering:
        """See `Scene.render_pixels`; all samples are evaluated.

        Jitter is one vector for each image, the same for all of its rays. The extra
        "linear" is the colour before it is clamped.
        """
        positions = self.sampling.positions(cameras.near, cameras.far, generator)
        return self.render_samples(cameras, size, pixels, positions)

    def render_samples(
        self,
        cameras: Cameras,
        size: tuple[int, int],
        pixels: Int[Tensor, "*batch ray"],
        positions: Float[Tensor, "*view sample"],
    ) -> PixelRendering:
        """`render_pixels` with given positions of the samples of each camera's rays."""
        if not self.shape:
            batched = self._batched().render_samples(
                cameras[None], size, pixels[None], positions[None]
            )
            return batched[0]
        cameras = cameras.transform(self.frames[:, None])
        samples = self.sampling.samples(cameras, size, pixels, positions)
        rays = max(1, self.sampling.max_points // positions.shape[-1] // len(pixels))
        # Of the views' rays, some at a time; gradients are computed piece by piece.
        flat = samples.flatten_views()
        several = flat.origins.shape[1] > rays and torch.is_grad_enabled()
        colors, weights = [], []
        for part in flat.split(rays):
            if several:
                # What a piece computed inside is forgotten, and computed once more.
                found = checkpoint(self._trace, part, use_reentrant=False)
            else:
                found = self._trace(part)
            assert found is not None
            colors.append(found[0])
            weights.append(found[1])
        color = torch.cat(colors, dim=1).unflatten(1, pixels.shape[1:])
        weight = torch.cat(weights, dim=1).unflatten(1, pixels.shape[1:])
        return samples.finish(color, weight)

    def _trace(
        self, samples: Samples
    ) -> tuple[Float[Tensor, "batch ray 3"], Float[Tensor, "batch ray sample"]]:
        """Composited colour (on nothing) and weights of samples (batch, ray)."""
        points = samples.points()
        directions = samples.unit_directions()[..., None, :].expand_as(points)
        with self.sampling.autocast(points.device):
            density, color = self.network(
                points.flatten(1, 2),
                directions.flatten(1, 2),
                self.shapes,
                self.textures,
            )
        weights = samples.weights(density.unflatten(1, points.shape[1:3]))
        color = color.unflatten(1, points.shape[1:3])
        return (weights[..., None] * color).sum(dim=-2), weights

    def render(self, cameras: Cameras, size: tuple[int, int]) -> Rendering:
        """See `Scene.render`. Without gradients; `render_plain` is the slow twin.

        Rays end where next to no light passes, and only samples that are seen get a
        colour; `CodedSampling.empty_space` may skip further ones.
        """
        if self.shape:
            return stack_renderings(
                [self[i].render(cameras[i], size) for i in range(self.shape[0])]
            )
        with torch.no_grad():
            return stack_renderings([self._render(camera, size) for camera in cameras])

    def render_plain(self, cameras: Cameras, size: tuple[int, int]) -> Rendering:
        """`render` by evaluating the network at every sample."""
        pixels = torch.arange(size[0] * size[1], device=cameras.device)
        found = self.render_pixels(cameras, size, pixels.expand(*cameras.shape, -1))
        return found.image(size)

    def _render(self, camera: Cameras, size: tuple[int, int]) -> Rendering:
        """One view of one scene."""
        pixels = torch.arange(size[0] * size[1], device=camera.device)
        camera = camera.transform(self.frames)
        positions = self.sampling.positions(camera.near, camera.far)
        samples = self.sampling.samples(camera, size, pixels, positions)
        # Points alone are small: four times as many as the network takes at once.
        rays = max(1, 4 * self.sampling.max_points // positions.shape[-1])
        search = self.sampling.empty_space == "search"
        occupancy = self._occupancy if search else None
        pieces = [
            march(self._folded, occupancy, self.sampling, part)
            for part in samples.split(rays)
        ]
        colors, weights = zip(*pieces, strict=True)
        return samples.finish(torch.cat(colors), torch.cat(weights)).image(size)

    @functools.cached_property
    def _folded(self) -> FoldedMLP:
        return self.network.fold(self.shapes, self.textures)

    @functools.cached_property
    def _occupancy(self) -> Occupancy:
        """Where one scene has matter, in the network's frame."""
        return find_matter(self._folded, self.sampling, self.extent)

    def bounds(self) -> Float[Tensor, "2 3"]:
        if self.shape:
            each = [self[i].bounds() for i in range(self.shape[0])]
            return box_around(torch.stack(each))
        with torch.no_grad():
            box = self._occupancy.bounds().clamp(-self.extent, self.extent)
            choices = torch.cartesian_prod(*box.T.unbind())
            corners = (choices - self.frames[:3, 3]) @ self.frames[:3, :3]
        return torch.stack([corners.amin(dim=0), corners.amax(dim=0)])

    def _batched(self) -> CodedFieldScene:
        return dataclasses.replace(
            self,
            shapes=self.shapes[None],
            textures=self.textures[None],
            frames=self.frames[None],
        )

    # ---- Files ----------------------------------------------------------------------

    def tensors(self) -> dict[str, Tensor]:
        return {
            "shapes": self.shapes,
            "textures": self.textures,
            "frames": self.frames,
            **module_tensors("network", self.network),
        }

    def config(self) -> dict[str, Any]:
        return {
            "network": to_json(self.network.config),
            "sampling": to_json(self.sampling),
            "extent": self.extent,
        }

    @classmethod
    def from_state(
        cls, tensors: dict[str, Tensor], config: dict[str, Any]
    ) -> CodedFieldScene:
        # Tensors of a file lie anywhere in memory: see `__getitem__`.
        tensors = {name: value.clone() for name, value in tensors.items()}
        settings = from_json(CodedMLPConfig, config["network"], "its network")
        with torch.device("meta"):
            network = CodedMLP(settings)
        network.load_state_dict(module_state("network", tensors), assign=True)
        return cls(
            network.eval().requires_grad_(False),
            tensors["shapes"],
            tensors["textures"],
            tensors["frames"],
            from_json(CodedSampling, config["sampling"], "its sampling"),
            config["extent"],
        )
