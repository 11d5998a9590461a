"""Gaussians in the files of others: PLY of 3D Gaussian Splatting, and .splat records.

Both keep our world (right-handed, z up) and its unit. Reading checks everything and
executes nothing.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from unseen.errors import UserError
from unseen.export.colormap import to_bytes
from unseen.files import atomic_file
from unseen.scenes.gaussians import GaussianScene, harmonics_of_colors

RECORD = np.dtype(
    [
        ("position", "<f4", 3),
        ("scale", "<f4", 3),
        ("color", "u1", 4),
        ("rotation", "u1", 4),
    ]
)
"""One Gaussian of a .splat file: 32 bytes."""
PLY_TYPES = {
    "char": "i1", "uchar": "u1", "short": "<i2", "ushort": "<u2", "int": "<i4",
    "uint": "<u4", "float": "<f4", "double": "<f8", "int8": "i1", "uint8": "u1",
    "int16": "<i2", "uint16": "<u2", "int32": "<i4", "uint32": "<u4",
    "float32": "<f4", "float64": "<f8",
}  # fmt: skip
MAX_HEADER = 2**16


def write_ply(columns: dict[str, np.ndarray], path: str | Path) -> None:
    """Write columns (all of one length) as the vertices of a binary PLY file."""
    kinds = {"f": "float", "u": "uchar"}
    table = np.empty(
        len(next(iter(columns.values()))),
        [(name, "<f4" if c.dtype.kind == "f" else "u1") for name, c in columns.items()],
    )
    for name, column in columns.items():
        table[name] = column
    header = [
        "ply",
        "format binary_little_endian 1.0",
        f"element vertex {len(table)}",
        *(f"property {kinds[c.dtype.kind]} {name}" for name, c in columns.items()),
        "end_header",
    ]
    with atomic_file(path) as temporary, temporary.open("wb") as file:
        file.write(("\n".join(header) + "\n").encode())
        file.write(table.tobytes())


def write_splat_ply(scene: GaussianScene, path: str | Path) -> None:
    """Write one scene of Gaussians as PLY, whole or not at all.

    The layout is that of the 3D Gaussian Splatting code (Kerbl et al., 2023):
    positions, normals (all 0), f_dc (the constant harmonic), f_rest (the others: all
    of red, then of green, then of blue), logits of opacity, logarithms of scales, unit
    quaternions (w, x, y, z), all as little-endian floats. The background is lost.
    """
    rest = scene.harmonics[:, 1:].transpose(1, 2).flatten(1)
    groups = {
        "xyz": scene.means,
        "n": torch.zeros_like(scene.means),
        "f_dc_": scene.harmonics[:, 0],
        "f_rest_": rest,
        "opacity": scene.opacity_logits[:, None],
        "scale_": scene.log_scales,
        "rot_": torch.nn.functional.normalize(scene.rotations, dim=-1),
    }
    columns = {}
    for prefix, values in groups.items():
        for index, column in enumerate(values.detach().cpu().float().numpy().T):
            columns[_column_name(prefix, index)] = column
    write_ply(columns, path)


def _column_name(prefix: str, index: int) -> str:
    if prefix == "xyz":
        return "xyz"[index]
    if prefix == "n":
        return f"n{'xyz'[index]}"
    return prefix if prefix == "opacity" else f"{prefix}{index}"


def write_splat(scene: GaussianScene, path: str | Path) -> None:
    """Write one scene of Gaussians as a .splat file, whole or not at all."""
    with atomic_file(path) as temporary:
        temporary.write_bytes(splat_records(scene))


def splat_records(scene: GaussianScene) -> bytes:
    """One scene of Gaussians as the contents of a .splat file.

    The format of antimatter15's viewer: per Gaussian 32 bytes, the position and the
    scales as floats, colour and opacity as bytes, the quaternion (w, x, y, z) as bytes
    128 + 128 q, the most visible Gaussians (by opacity times volume) first. It holds
    one colour per Gaussian: of harmonics above degree 0 nothing is left.
    """
    scene = scene._map(lambda x: x.detach().cpu().float())
    opacity = scene.opacity_logits.sigmoid()
    worth = opacity * scene.log_scales.sum(dim=-1).exp()
    order = worth.argsort(descending=True, stable=True)
    scene, opacity = scene.select(order), opacity[order]
    records = np.empty(scene.count, RECORD)
    records["position"] = scene.means.numpy()
    records["scale"] = scene.log_scales.exp().numpy()
    color = torch.cat([scene.base_colors, opacity[:, None]], dim=1)
    records["color"] = to_bytes(color).numpy()
    unit = torch.nn.functional.normalize(scene.rotations, dim=-1)
    records["rotation"] = (unit * 128 + 128).round().clamp(0, 255).byte().numpy()
    return records.tobytes()


def read_splat_file(path: str | Path) -> GaussianScene:
    """Gaussians of a .ply or .splat file, on white; the suffix says which.

    Their low-pass is "classic", which such files are made for. Raises UserError if the
    file is missing or damaged, or holds no Gaussians.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UserError(f"cannot read {path}: {reason}.") from error
    scene = _read_records(data, path) if _is_splat(path) else _read_ply(data, path)
    if not all(x.isfinite().all() for x in scene.tensors().values()):
        raise UserError(
            f"{path} is damaged: it holds numbers that are not finite; use another "
            "file."
        )
    return scene


def _is_splat(path: Path) -> bool:
    return path.suffix.lower() == ".splat"


def _read_records(data: bytes, path: Path) -> GaussianScene:
    if not data or len(data) % RECORD.itemsize:
        raise UserError(
            f"{path} is no .splat file, or was cut short: its {len(data)} bytes are no "
            "records of 32."
        )
    records = np.frombuffer(data, RECORD)
    color = torch.from_numpy(records["color"].astype(np.float32) / 255)
    rotation = torch.from_numpy((records["rotation"].astype(np.float32) - 128) / 128)
    rotation[rotation.norm(dim=-1) == 0] = torch.tensor([1.0, 0.0, 0.0, 0.0])
    scales = torch.from_numpy(records["scale"].copy())
    return GaussianScene(
        torch.from_numpy(records["position"].copy()),
        scales.clamp(min=1e-9).log(),
        rotation,
        torch.logit(color[:, 3], eps=1e-4),
        harmonics_of_colors(color[:, :3], degree=0),
        torch.ones(3),
        "classic",
    )


def _read_ply(data: bytes, path: Path) -> GaussianScene:
    columns = read_ply_vertices(data, path)

    def stack(names: list[str]) -> Float[Tensor, "gaussian column"]:
        missing = [name for name in names if name not in columns]
        if missing:
            raise UserError(
                f"{path} holds no 3D Gaussians: its vertices lack '{missing[0]}'; name "
                "a file in the layout of 3D Gaussian Splatting."
            )
        found = np.stack([columns[name].astype(np.float32) for name in names], axis=1)
        return torch.from_numpy(found)

    rest = sum(name.startswith("f_rest_") for name in columns)
    if rest not in (0, 9, 24, 45):
        raise UserError(
            f"{path} is damaged: {rest} columns f_rest belong to no degree of "
            "spherical harmonics (0, 9, 24 or 45 do)."
        )
    harmonics = stack([f"f_dc_{i}" for i in range(3)])[:, None]
    if rest:
        others = stack([f"f_rest_{i}" for i in range(rest)]).unflatten(1, (3, -1))
        harmonics = torch.cat([harmonics, others.transpose(1, 2)], dim=1)
    return GaussianScene(
        stack(["x", "y", "z"]),
        stack([f"scale_{i}" for i in range(3)]),
        stack([f"rot_{i}" for i in range(4)]),
        stack(["opacity"])[:, 0],
        harmonics,
        torch.ones(3),
        "classic",
    )


def read_ply_vertices(data: bytes, path: Path) -> dict[str, np.ndarray]:
    """Columns of the first element, `vertex`, of a binary little-endian PLY file."""
    end = data.find(b"end_header", 0, MAX_HEADER)
    start = data.find(b"\n", end) + 1
    if not data.startswith(b"ply") or end < 0 or start == 0:
        raise UserError(f"{path} is no PLY file: name another one.")
    text = data[:end].decode("ascii", "replace")
    lines = [line.split() for line in text.splitlines()]
    if ["format", "binary_little_endian", "1.0"] not in lines:
        raise UserError(
            f"{path} is no binary little-endian PLY file: convert it to that format."
        )
    elements = [i for i, line in enumerate(lines) if line[:1] == ["element"]]
    first = lines[elements[0]] if elements else []
    if len(first) != 3 or first[1] != "vertex" or not first[2].isdigit():
        raise UserError(f"{path} does not begin with vertices: name another file.")
    last = elements[1] if len(elements) > 1 else len(lines)
    properties = [x for x in lines[elements[0] : last] if x[:1] == ["property"]]
    if any(len(x) != 3 or x[1] not in PLY_TYPES for x in properties):
        raise UserError(f"{path} has vertices with lists, which Gaussians have not.")
    if len({x[2] for x in properties}) != len(properties) or not properties:
        raise UserError(
            f"{path} is damaged: names of its columns are missing or twice."
        )
    kind = np.dtype([(x[2], PLY_TYPES[x[1]]) for x in properties])
    count = int(first[2])
    if count < 1 or len(data) - start < count * kind.itemsize:
        raise UserError(
            f"{path} was cut short or is empty: it announces {count} vertices; fetch "
            "or write it again."
        )
    table = np.frombuffer(data, kind, count, start)
    return {name: table[name] for name in kind.names or ()}
