"""Variants of a mesh: other proportions, other colours.

A few dozen free meshes of a family are too few to learn it from. A variant stretches
the object along its own axes and turns the hue of everything on it, so that tyres stay
black and windows grey while the paint changes.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image

from unseen.data.mesh_files import MeshFile
from unseen.data.mesh_materials import (
    Array,
    Material,
    linear_to_srgb,
    srgb_to_linear,
)
from unseen.data.meshes import Surface, Up, load_mesh, normalize_mesh

STRETCH = 0.12
"""Deviation of the logarithm of the factor along each axis."""

SATURATION = (0.5, 1.2)
"""Range of the factor of a colour's distance from grey."""


def load_variant(mesh: MeshFile, up: Up = "y") -> list[Surface]:
    """Surfaces of a mesh file or of the variant that it names, in the unit sphere.

    Raises `MeshError`; see `load_mesh`.
    """
    surfaces = load_mesh(mesh, up)
    if mesh.variant:
        # Its own seed: renders from other cameras show the same variant.
        digest = hashlib.sha256(mesh.label.encode()).digest()
        seed = int.from_bytes(digest[:7], "big")
        surfaces = vary(surfaces, torch.Generator().manual_seed(seed))
    return normalize_mesh(surfaces)


def vary(surfaces: Sequence[Surface], generator: torch.Generator) -> list[Surface]:
    """The same object, stretched and recoloured at random; not normalised."""
    stretch = np.exp(STRETCH * torch.randn(3, generator=generator).double().numpy())
    hue, mix = torch.rand(2, generator=generator).tolist()
    low, high = SATURATION
    turn = hue_rotation(2 * math.pi * hue, low + (high - low) * mix)
    textures: dict[int, Image.Image] = {}
    return [_vary(surface, stretch, turn, textures) for surface in surfaces]


def hue_rotation(angle: float, saturation: float) -> Float[Array, "3 3"]:
    """The matrix that turns linear RGB about the grey axis by `angle` (radians).

    `saturation` scales the distance from that axis; greys stay as they are.
    """
    axis = np.full(3, 3**-0.5)
    grey = np.outer(axis, axis)
    x, y, z = axis
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    # Rodrigues' formula, its part across the axis scaled.
    around = math.cos(angle) * (np.eye(3) - grey) + math.sin(angle) * cross
    return grey + saturation * around


def _vary(
    surface: Surface,
    stretch: Float[Array, "3"],
    turn: Float[Array, "3 3"],
    textures: dict[int, Image.Image],
) -> Surface:
    normals = surface.normals
    if normals is not None:
        normals = normals / stretch
        normals = normals / np.linalg.norm(normals, axis=-1, keepdims=True)
    colors = surface.colors
    return dataclasses.replace(
        surface,
        vertices=surface.vertices * stretch,
        normals=normals,
        colors=None if colors is None else _turned(colors, turn),
        material=_recolor(surface.material, turn, textures),
    )


def _recolor(
    material: Material, turn: Float[Array, "3 3"], textures: dict[int, Image.Image]
) -> Material:
    r, g, b = _turned(np.asarray(material.color[:3]), turn)
    emission = _turned(np.asarray(material.emission), turn)
    texture = material.texture
    if texture is not None:
        # Surfaces that share a texture keep sharing it.
        if id(texture) not in textures:
            textures[id(texture)] = _recolor_texture(texture, turn)
        texture = textures[id(texture)]
        # The factor multiplies a colour that was turned already: only its grey counts.
        r = g = b = float(np.mean(material.color[:3]))
    return dataclasses.replace(
        material,
        color=(float(r), float(g), float(b), material.color[3]),
        emission=(float(emission[0]), float(emission[1]), float(emission[2])),
        texture=texture,
    )


def _recolor_texture(image: Image.Image, turn: Float[Array, "3 3"]) -> Image.Image:
    pixels = np.asarray(image.convert("RGBA")).copy()
    linear = srgb_to_linear(pixels[..., :3].astype(np.float32) / 255)
    turned = linear_to_srgb(_turned(linear, turn))
    pixels[..., :3] = np.round(255 * turned)
    return Image.fromarray(pixels, "RGBA")


def _turned(
    colors: Float[Array, "*shape 3"], turn: Float[Array, "3 3"]
) -> Float[Array, "*shape 3"]:
    return np.clip(colors @ turn.T, 0, 1)
