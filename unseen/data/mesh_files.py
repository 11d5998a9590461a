"""Find mesh files in folders and zip archives, and read what they refer to."""

from __future__ import annotations

import dataclasses
import fnmatch
import hashlib
import posixpath
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn
from urllib.parse import unquote

from trimesh.resolvers import Resolver

from unseen.data.manifest import Split, split_of
from unseen.errors import UserError

SUFFIXES = (".glb", ".gltf", ".obj")


@dataclasses.dataclass(frozen=True)
class MeshFile:
    """One mesh on disk, or inside of a zip archive.

    `name` is its path below the folder that the user gave, an archive counting as a
    folder: unique, and the same on every machine.
    `path` is the file, or the archive if `member` names a file inside of it.
    `variant` counts versions of one mesh with other proportions and colours; 0 is the
    mesh itself.
    """

    name: str
    path: Path
    member: str | None = None
    variant: int = 0

    @property
    def label(self) -> str:
        """`name`, and which variant where it is one: unique too."""
        return f"{self.name}~{self.variant}" if self.variant else self.name

    @property
    def suffix(self) -> str:
        return posixpath.splitext(self.name)[1].lower()

    def sha256(self) -> str:
        """Hash of the file's bytes, without the files that it refers to."""
        with self.open() as folder:
            return hashlib.sha256(folder.read()).hexdigest()

    def open(self) -> MeshFolder:
        """The folder that the mesh lies in, to read it and what it refers to."""
        if self.member is None:
            return MeshFolder(self.path.parent, None, "", self.path.name)
        folder, base = posixpath.split(self.member)
        return MeshFolder(self.path, zipfile.ZipFile(self.path), folder, base)


class MeshFolder(Resolver):
    """Reads a mesh file and its neighbours, and notes which neighbours are missing.

    Closes the archive, if there is one, as a context manager. Has the `get` by which
    trimesh asks for buffers, material libraries and textures.
    """

    def __init__(
        self, path: Path, archive: zipfile.ZipFile | None, folder: str, base: str
    ) -> None:
        self.path = path
        self.archive = archive
        self.folder = folder
        self.base = base
        self.missing: list[str] = []

    def __enter__(self) -> MeshFolder:
        return self

    def __exit__(self, *_: object) -> None:
        if self.archive is not None:
            self.archive.close()

    def read(self) -> bytes:
        """The bytes of the mesh file itself."""
        return self._read(self.base)

    def get(self, name: str) -> bytes:
        """The bytes of a file that the mesh refers to, by its relative path."""
        # OBJ files from Windows hold back slashes, glTF URIs percent escapes.
        tidy = posixpath.normpath(name.strip().replace("\\", "/"))
        for candidate in (tidy, unquote(tidy)):
            try:
                return self._read(candidate)
            except (OSError, KeyError, ValueError):
                continue
        self.missing.append(tidy)
        raise FileNotFoundError(name)

    def keys(self) -> list[str]:
        return [self.base]

    def namespaced(self, namespace: str) -> MeshFolder:
        folder = posixpath.join(self.folder, namespace)
        return MeshFolder(self.path, self.archive, folder, self.base)

    def write(self, name: str, data: bytes) -> NoReturn:
        raise PermissionError(f"{name} is not written: meshes are only read")

    def _read(self, name: str) -> bytes:
        # A mesh may not reach outside of what the user gave.
        path = posixpath.normpath(posixpath.join(self.folder, name))
        if posixpath.isabs(path) or (self.archive and path.startswith("..")):
            raise FileNotFoundError(name)
        if self.archive is not None:
            return self.archive.read(path)
        return (self.path / path).read_bytes()


def find_meshes(source: Path) -> list[MeshFile]:
    """All GLB, glTF and OBJ files of `source`: a file, a folder or a zip archive.

    Folders are searched to any depth, and so are the archives that they hold. Sorted
    by name. Raises `UserError` where the source does not exist, an archive cannot be
    read, or there is no mesh at all.
    """
    if not source.exists():
        raise UserError(f"{source} does not exist: give a mesh, a folder or a zip.")
    found = _find(source)
    if not found:
        raise UserError(f"There is no {_listed(SUFFIXES)} file in {source}.")
    return sorted(found, key=lambda mesh: mesh.name)


def _find(source: Path) -> list[MeshFile]:
    if source.is_dir():
        return [
            dataclasses.replace(
                mesh,
                name=posixpath.join(
                    path.parent.relative_to(source).as_posix(), mesh.name
                ).removeprefix("./"),
            )
            for path in sorted(source.rglob("*"))
            if path.is_file()
            for mesh in _find(path)
        ]
    if source.suffix.lower() == ".zip":
        return _find_in_archive(source)
    if source.suffix.lower() in SUFFIXES:
        return [MeshFile(source.name, source)]
    return []


def _find_in_archive(path: Path) -> list[MeshFile]:
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.namelist()
    except (zipfile.BadZipFile, OSError) as error:
        raise UserError(f"{path} is not a readable zip archive ({error}).") from error
    return [
        MeshFile(f"{path.name}/{member}", path, member)
        for member in members
        if posixpath.splitext(member)[1].lower() in SUFFIXES
        and not member.startswith("__MACOSX/")
    ]


def select_meshes(
    meshes: Sequence[MeshFile],
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    limit: int | None = None,
    shard: tuple[int, int] = (0, 1),
    split: Split | None = None,
) -> list[MeshFile]:
    """Meshes whose name fits a pattern of `include` (if any) and none of `exclude`.

    A pattern is a glob over the whole name ("*/chair*.glb"), or, after "re:", a
    regular expression that is searched for in it. `shard` (index, count) keeps every
    count-th mesh, for several machines; `split` keeps one side (see
    `manifest.split_of`, of the file's own name); `limit` comes last. Raises `UserError`
    where nothing fits.
    """
    if limit is not None and limit < 1:
        raise UserError(f"The limit must be at least 1, not {limit}.")
    wanted, unwanted = _compile(include), _compile(exclude)
    kept = [
        mesh
        for mesh in meshes
        if (not wanted or any(pattern.search(mesh.name) for pattern in wanted))
        and not any(pattern.search(mesh.name) for pattern in unwanted)
    ]
    if not kept:
        raise UserError(
            f"None of the {len(meshes)} meshes fits the patterns; a glob must fit the "
            f"whole name, such as {meshes[0].name if meshes else 'chair.glb'}."
        )
    if split is not None:
        kept = [m for m in kept if split_of(posixpath.basename(m.name)) == split]
        if not kept:
            raise UserError(f"None of these meshes is of the split {split}.")
    return kept[shard[0] :: shard[1]][:limit]


def with_variants(meshes: Sequence[MeshFile], count: int) -> list[MeshFile]:
    """Every mesh and its variants, `count` in all of each.

    Raises `UserError` for fewer than one.
    """
    if count < 1:
        raise UserError(f"The number of variants must be at least 1, not {count}.")
    return [
        dataclasses.replace(mesh, variant=variant)
        for mesh in meshes
        for variant in range(count)
    ]


def parse_shard(text: str) -> tuple[int, int]:
    """Read "I/N" with 0 <= I < N."""
    fit = re.fullmatch(r"(\d+)/(\d+)", text)
    if fit is None or not int(fit[1]) < int(fit[2]):
        raise UserError(f"The shard must be I/N with 0 <= I < N, it is {text!r}.")
    return int(fit[1]), int(fit[2])


def _compile(patterns: Sequence[str]) -> list[re.Pattern[str]]:
    compiled = []
    for pattern in patterns:
        expression = pattern.removeprefix("re:")
        if expression == pattern:
            expression = rf"\A{fnmatch.translate(pattern)}"
        try:
            compiled.append(re.compile(expression))
        except re.error as error:
            raise UserError(
                f"{pattern!r} is not a regular expression ({error})."
            ) from error
    return compiled


def object_id(mesh: MeshFile) -> str:
    """A folder name for the mesh: readable, unique, always the same.

    The hash of the full name keeps files of one name in different folders apart.
    """
    stem = posixpath.splitext(posixpath.basename(mesh.name))[0]
    readable = re.sub(r"[^A-Za-z0-9]+", "_", stem).strip("_")[:48] or "mesh"
    digest = hashlib.sha256(mesh.name.encode()).hexdigest()[:8]
    return f"{readable}-{digest}" + (f"-{mesh.variant}" if mesh.variant else "")


def _listed(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"
