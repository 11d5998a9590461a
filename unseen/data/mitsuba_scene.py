"""Surfaces and lights in Mitsuba's words.

Mitsuba's `scalar_rgb` variant runs wherever its wheel installs. The variants that
compile kernels abort the whole process where their compiler is missing.
"""

from __future__ import annotations

import dataclasses
import importlib
import math
from typing import Any

import numpy as np
from jaxtyping import Float
from PIL import Image

from unseen.data.mesh_materials import Array, Material, srgb_to_linear
from unseen.data.meshes import Surface
from unseen.errors import UserError

TEXTURE_SIZE = 1024
"""Larger textures are reduced to this side: no view here could show more."""


@dataclasses.dataclass(frozen=True)
class Lighting:
    """A constant sky and one sun, both white and fixed in the world.

    A white matte surface that sees the whole sky shines with `sky`, plus up to `sun`
    where it faces the sun. The defaults add up to 1, so that nothing is blown out and
    colours look like their textures.
    """

    sky: float = 0.6
    sun: float = 0.4
    sun_direction: tuple[float, float, float] = (0.45, -0.55, 0.70)


def load_mitsuba() -> Any:
    """Mitsuba in its scalar variant; `UserError` if it is not installed."""
    try:
        mitsuba = importlib.import_module("mitsuba")
    except ImportError as error:
        raise UserError(
            "Rendering meshes needs mitsuba: run `pip install unseen[meshes]`."
        ) from error
    if mitsuba.variant() != "scalar_rgb":
        mitsuba.set_variant("scalar_rgb")
    mitsuba.set_log_level(mitsuba.LogLevel.Error)
    return mitsuba


def light_plugins(lighting: Lighting) -> dict[str, Any]:
    """The emitters of a scene, for `mitsuba.load_dict`."""
    lights: dict[str, Any] = {
        "sky": {
            "type": "constant",
            "radiance": {"type": "rgb", "value": lighting.sky},
        }
    }
    if lighting.sun > 0:
        lights["sun"] = {
            "type": "directional",
            "direction": [-x for x in lighting.sun_direction],
            # A Lambert surface reflects irradiance / pi.
            "irradiance": {"type": "rgb", "value": lighting.sun * math.pi},
        }
    return lights


def build_mesh(mitsuba: Any, surface: Surface) -> Any:
    """A Mitsuba mesh with its material."""
    properties = mitsuba.Properties()
    properties["bsdf"] = mitsuba.load_dict(_bsdf(mitsuba, surface))
    properties["face_normals"] = surface.normals is None
    mesh = mitsuba.Mesh(
        surface.material.name or "surface",
        len(surface.vertices),
        len(surface.faces),
        has_vertex_normals=surface.normals is not None,
        has_vertex_texcoords=surface.uv is not None,
        props=properties,
    )
    values = mitsuba.traverse(mesh)
    values["vertex_positions"] = surface.vertices.astype(np.float32).ravel()
    values["faces"] = surface.faces.astype(np.uint32).ravel()
    if surface.normals is not None:
        values["vertex_normals"] = surface.normals.astype(np.float32).ravel()
    if surface.uv is not None:
        values["vertex_texcoords"] = surface.uv.astype(np.float32).ravel()
    values.update()
    if surface.colors is not None:
        glow = np.asarray(surface.material.emission)
        tint = np.asarray(surface.material.color[:3])
        colors = np.clip(surface.colors * tint + glow, 0, 1).astype(np.float32)
        mesh.add_attribute("vertex_color", 3, colors.ravel())
    return mesh


def _bsdf(mitsuba: Any, surface: Surface) -> dict[str, Any]:
    material = surface.material
    alpha: Any = material.color[3]
    if surface.uv is not None and material.texture is not None:
        reflectance, alpha = _texture(mitsuba, material, material.texture)
    elif surface.colors is not None:
        reflectance = {"type": "mesh_attribute", "name": "vertex_color"}
    else:
        shine = np.clip(np.add(material.color[:3], material.emission), 0, 1)
        reflectance = {"type": "rgb", "value": [float(x) for x in shine]}
    matte = {"type": "diffuse", "reflectance": reflectance}
    matte = {"type": "twosided", "bsdf": matte}
    if material.opaque:
        return matte
    return {"type": "mask", "opacity": alpha, "bsdf": matte}


def _texture(
    mitsuba: Any, material: Material, image: Image.Image
) -> tuple[dict[str, Any], Any]:
    """Base colour and opacity as linear bitmaps."""
    if max(image.size) > TEXTURE_SIZE:
        image = image.copy()
        image.thumbnail((TEXTURE_SIZE, TEXTURE_SIZE), Image.Resampling.BOX)
    pixels = np.asarray(image.convert("RGBA"))
    table = srgb_to_linear(np.arange(256) / 255).astype(np.float32)
    factor = np.asarray(material.color, np.float32)
    color = table[pixels[..., :3]] * factor[:3] + np.asarray(
        material.emission, np.float32
    )
    alpha = pixels[..., 3:].astype(np.float32) / 255 * factor[3]
    if material.cutoff is not None:
        alpha = (alpha >= material.cutoff).astype(np.float32)
    opacity = material.color[3] if material.opaque else _bitmap(mitsuba, alpha)
    return _bitmap(mitsuba, np.clip(color, 0, 1)), opacity


def _bitmap(
    mitsuba: Any, pixels: Float[Array, "height width channel"]
) -> dict[str, Any]:
    bitmap = mitsuba.Bitmap(np.ascontiguousarray(pixels))
    return {"type": "bitmap", "bitmap": bitmap, "raw": True}
