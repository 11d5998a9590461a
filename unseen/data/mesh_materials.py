"""What surfaces look like: materials and vertex colours of glTF and OBJ, linear."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Float
from PIL import Image
from trimesh.visual.material import PBRMaterial

Array = np.ndarray


class MeshError(Exception):
    """This mesh cannot be used; the message is the reason."""


@dataclasses.dataclass(frozen=True)
class Material:
    """What a surface looks like, in linear light.

    `color` (RGBA) multiplies the texture, whose RGB is sRGB and whose alpha is linear,
    as in glTF. `emission` (RGB) is added. Points with an opacity below `cutoff` are
    holes; with no cutoff, opacity is the chance that a ray is stopped.
    """

    name: str
    color: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)
    texture: Image.Image | None = None
    emission: tuple[float, float, float] = (0.0, 0.0, 0.0)
    opaque: bool = True
    cutoff: float | None = None

    @property
    def key(self) -> tuple[Any, ...]:
        """Equal for materials that look the same."""
        looks = (self.color, self.emission, self.opaque, self.cutoff)
        return (id(self.texture), *looks)


def srgb_to_linear(color: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """IEC 61966-2-1, [0, 1] to [0, 1]."""
    low = color / 12.92
    return np.where(color <= 0.04045, low, ((color + 0.055) / 1.055) ** 2.4)


def linear_to_srgb(color: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """IEC 61966-2-1, [0, 1] to [0, 1]; what is brighter than 1 is clipped."""
    color = np.clip(color, 0, 1)
    high = 1.055 * color ** (1 / 2.4) - 0.055
    return np.where(color <= 0.0031308, 12.92 * color, high)


def read_material(material: Any, header: dict[str, Any]) -> Material:
    """Our form of a trimesh material; `header` is the glTF file's JSON, {} for OBJ.

    Raises `MeshError` where a texture is there but cannot be decoded.
    """
    name = str(material.name or "")
    read = _read_pbr if isinstance(material, PBRMaterial) else _read_wavefront
    result = read(material, name, header)
    if result.texture is not None:
        # Pillow decodes when first asked: ask now, while an error still finds its mesh.
        result.texture.load()
    return result


def _read_pbr(material: PBRMaterial, name: str, header: dict[str, Any]) -> Material:
    color = _exact_factors(header).get(name)
    if color is None:
        factor = material.baseColorFactor
        color = np.ones(4) if factor is None else np.asarray(factor) / 255
    texture = material.baseColorTexture
    if texture is None and name in _textured(header):
        raise MeshError(f"the texture of its material {name!r} cannot be read")
    mode = material.alphaMode or "OPAQUE"
    cutoff = None
    if mode == "MASK":
        given = material.alphaCutoff
        cutoff = 0.5 if given is None else float(given)
    red, green, blue = (0.0,) * 3
    if material.emissiveFactor is not None:
        red, green, blue = map(float, material.emissiveFactor)
    r, g, b, a = map(float, color)
    emission = (red, green, blue)
    return Material(name, (r, g, b, a), texture, emission, mode == "OPAQUE", cutoff)


def _read_wavefront(material: Any, name: str, header: dict[str, Any]) -> Material:
    """Wavefront MTL: Kd is a display colour, d its opacity; map_Kd replaces Kd."""
    diffuse = np.asarray(material.diffuse) / 255
    texture = getattr(material, "image", None)
    r, g, b = map(float, np.ones(3) if texture else srgb_to_linear(diffuse[:3]))
    alpha = float(diffuse[3])
    return Material(name, (r, g, b, alpha), texture, opaque=alpha >= 1)


def _textured(header: dict[str, Any]) -> set[str]:
    return {
        material.get("name", "")
        for material in header.get("materials", [])
        if "baseColorTexture" in material.get("pbrMetallicRoughness", {})
    }


def _exact_factors(header: dict[str, Any]) -> dict[str, tuple[float, ...]]:
    """Base colour factors by material name; trimesh rounds them to 8 bits, linear.

    That is too coarse for dark colours. Names that stand for several colours are left
    out.
    """
    factors: dict[str, set[tuple[float, ...]]] = {}
    for material in header.get("materials", []):
        factor = material.get("pbrMetallicRoughness", {}).get("baseColorFactor")
        if factor is not None:
            name = material.get("name", "")
            factors.setdefault(name, set()).add(tuple(map(float, factor)))
    return {name: next(iter(x)) for name, x in factors.items() if len(x) == 1}


def linear_vertex_colors(
    colors: Any, count: int, srgb: bool
) -> Float[Array, "vertex 3"] | None:
    if colors is None or len(colors) != count or np.shape(colors)[-1] < 3:
        return None
    colors = np.asarray(colors)
    peak = np.iinfo(colors.dtype).max if colors.dtype.kind in "ui" else 1
    rgb = np.clip(colors[:, :3] / peak, 0, 1)
    return srgb_to_linear(rgb) if srgb else rgb
