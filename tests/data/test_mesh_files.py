"""Finding and choosing mesh files."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import pytest

from unseen.data.manifest import split_of
from unseen.data.mesh_files import (
    MeshFile,
    find_meshes,
    object_id,
    parse_shard,
    select_meshes,
    with_variants,
)
from unseen.errors import UserError


def _named(*names: str) -> list[MeshFile]:
    return [MeshFile(name, Path(name)) for name in names]


def test_finds_files_in_folders_and_archives(tmp_path: Path) -> None:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    for name in ("b.glb", "deep/a.GLTF", "deep/er/c.obj", "deep/note.txt"):
        (tmp_path / name).write_text("x")
    with zipfile.ZipFile(tmp_path / "deep" / "pack.zip", "w") as archive:
        archive.writestr("in/d.glb", "y")
        archive.writestr("__MACOSX/in/._d.glb", "z")
    found = find_meshes(tmp_path)
    names = ["b.glb", "deep/a.GLTF", "deep/er/c.obj", "deep/pack.zip/in/d.glb"]
    assert [mesh.name for mesh in found] == names
    with found[-1].open() as folder:
        assert folder.read() == b"y"
    # The archive itself and one file give the same names as seen from its folder.
    assert find_meshes(tmp_path / "deep" / "pack.zip")[0].name == "pack.zip/in/d.glb"
    assert find_meshes(tmp_path / "b.glb")[0].name == "b.glb"


def test_what_cannot_be_found(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        find_meshes(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"no \.glb, \.gltf or \.obj"):
        find_meshes(tmp_path)
    (tmp_path / "broken.zip").write_text("no archive")
    with pytest.raises(UserError, match="not a readable zip"):
        find_meshes(tmp_path)


def test_a_mesh_reads_its_neighbours_and_nothing_above(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "pack.zip", "w") as archive:
        archive.writestr("in/d.gltf", "y")
        archive.writestr("in/my texture.png", "t")
        archive.writestr("shared/e.png", "e")
    (tmp_path / "secret.png").write_text("s")
    (mesh,) = find_meshes(tmp_path / "pack.zip")
    with mesh.open() as folder:
        assert folder.get("my%20texture.png") == b"t"
        assert folder.get(".\\my texture.png") == b"t"
        assert folder.get("../shared/e.png") == b"e"
        assert folder.missing == []
        for name in ("../../secret.png", str(tmp_path / "secret.png"), "no.png"):
            with pytest.raises(FileNotFoundError):
                folder.get(name)
        assert len(folder.missing) == 3


def test_selection() -> None:
    meshes = _named("a/chair.glb", "a/table.glb", "b/chair_2.glb", "b/lamp.glb")

    def chosen(**options) -> list[str]:
        return [mesh.name for mesh in select_meshes(meshes, **options)]

    assert chosen(include=["*/chair*"]) == ["a/chair.glb", "b/chair_2.glb"]
    assert chosen(include=["chair*", "re:t.ble"]) == ["a/table.glb"]
    assert chosen(include=["a/*"], exclude=["re:chair"]) == ["a/table.glb"]
    assert chosen(limit=2) == ["a/chair.glb", "a/table.glb"]
    parts = [chosen(shard=(index, 3)) for index in range(3)]
    assert sorted(name for part in parts for name in part) == [
        mesh.name for mesh in meshes
    ]
    with pytest.raises(UserError, match="None of the 4 meshes"):
        chosen(include=["chair.glb"])
    with pytest.raises(UserError, match="not a regular expression"):
        chosen(include=["re:("])
    with pytest.raises(UserError, match="limit"):
        chosen(limit=0)


def test_shard_is_read() -> None:
    assert parse_shard("2/5") == (2, 5)
    for text in ("5/5", "1", "-1/2", "0/0", "a/b"):
        with pytest.raises(UserError, match="I/N"):
            parse_shard(text)


def test_object_ids_are_plain_and_apart() -> None:
    names = ["a/chair.glb", "b/chair.glb", "b/chair.obj", "ü/ .glb", "x" * 300 + ".glb"]
    meshes = [MeshFile(name, Path(name)) for name in names]
    ids = [object_id(mesh) for mesh in meshes]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[A-Za-z0-9_]{1,48}-[0-9a-f]{8}", x) for x in ids)
    assert object_id(MeshFile("a/chair.glb", Path("elsewhere"))) == ids[0]


def test_variants_are_apart_and_stay_on_their_side() -> None:
    meshes = [MeshFile(f"{i}/chair{i}.glb", Path("x")) for i in range(20)]
    varied = with_variants(meshes, 3)
    assert len({object_id(mesh) for mesh in varied}) == 60
    assert [mesh.label for mesh in varied[:2]] == ["0/chair0.glb", "0/chair0.glb~1"]
    assert [mesh for mesh in varied if mesh.variant == 0] == meshes
    test = select_meshes(meshes, split="test")
    train = select_meshes(meshes, split="train")
    assert test and train and {*test, *train} == {*meshes}
    assert all(split_of(mesh.name.split("/")[1]) == "test" for mesh in test)
    with pytest.raises(UserError, match="variants"):
        with_variants(meshes, 0)
    with pytest.raises(UserError, match="split"):
        select_meshes(test, split="train")
