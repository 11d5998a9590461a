"""Files are whole or absent, and what stands in the way is said in one sentence."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

import pytest
import safetensors.torch
import torch

from unseen.errors import UserError
from unseen.files import atomic_file, check_tensors, read_tensors, write_tensors


def test_a_file_appears_at_the_end(tmp_path: Path):
    path = tmp_path / "new" / "a.txt"
    with atomic_file(path) as temporary:
        temporary.write_text("whole")
        assert not path.exists()
        assert temporary.suffix == ".txt" and temporary.parent == path.parent
    assert path.read_text() == "whole"
    assert os.listdir(path.parent) == ["a.txt"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_nothing_is_left_of_an_interrupted_file(
    tmp_path: Path, error: type[BaseException]
):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(error), atomic_file(path) as temporary:
        temporary.write_text("half")
        raise error
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.parametrize(
    "code, reason",
    [
        (errno.ENOSPC, "disk is full"),
        (errno.EACCES, "permission is denied"),
        (errno.EROFS, "read-only"),
        (errno.EIO, "input/output error"),
    ],
)
def test_refusals_of_the_system_are_user_errors(tmp_path: Path, code: int, reason: str):
    path = tmp_path / "a.txt"
    with pytest.raises(UserError, match=reason) as caught, atomic_file(path) as part:
        part.write_text("half")
        raise OSError(code, os.strerror(code))
    assert str(tmp_path / "a.txt") in str(caught.value)
    assert os.listdir(tmp_path) == []


def test_a_file_in_the_place_of_a_folder(tmp_path: Path):
    (tmp_path / "file").touch()
    for path in (tmp_path / "file" / "a.txt", tmp_path / "file" / "deep" / "a.txt"):
        with pytest.raises(UserError, match="cannot write"), atomic_file(path):
            pass


def test_tensors_come_back(tmp_path: Path):
    base = torch.arange(12.0).reshape(3, 4)
    tensors = {"view": base[:, 1:], "turned": base.T, "shared": base, "int": base.int()}
    write_tensors(tmp_path / "a.safetensors", tensors, {"key": "value"})
    found, metadata = read_tensors(tmp_path / "a.safetensors")
    assert metadata == {"key": "value"}
    for name, tensor in tensors.items():
        assert torch.equal(found[name], tensor)


@pytest.mark.parametrize("metadata", [{}, {"key": 'a "word" and ü'}])
def test_the_bytes_are_those_of_the_library(tmp_path: Path, metadata: dict[str, str]):
    tensors = {
        f"{kind} é".replace("torch.", ""): torch.arange(6).reshape(2, 3).to(kind)
        for kind in (
            torch.bool,
            torch.uint8,
            torch.int8,
            torch.int16,
            torch.float16,
            torch.bfloat16,
            torch.int32,
            torch.float32,
            torch.float64,
            torch.int64,
        )
    }
    tensors |= {"scalar": torch.tensor(2.0), "empty": torch.zeros(0, 3)}
    tensors |= {"b": torch.ones(3), "a": torch.zeros(5)}
    write_tensors(tmp_path / "a", tensors, metadata)
    expected = safetensors.torch.save(tensors, metadata or None)
    assert (tmp_path / "a").read_bytes() == expected


def test_bytes_depend_on_the_arguments_only(tmp_path: Path):
    digests = set()
    for i in range(8):
        order = "fgabcde" if i % 2 else "abcdefg"
        tensors = {name: torch.full((2,), ord(name)) for name in order}
        write_tensors(tmp_path / "a", tensors, {"key": "value"})
        digests.add(hashlib.sha256((tmp_path / "a").read_bytes()).hexdigest())
    assert len(digests) == 1


def test_broken_tensor_files(tmp_path: Path):
    path = tmp_path / "a.safetensors"
    write_tensors(path, {"a": torch.ones(1000)}, {})
    path.write_bytes(path.read_bytes()[:-100])
    for bad in (path, tmp_path / "missing", tmp_path):
        with pytest.raises(UserError):
            read_tensors(bad)


@pytest.mark.parametrize(
    "found, reason",
    [
        ({}, "lacks tensor 'a'"),
        ({"a": torch.ones(2), "b": torch.ones(1)}, "unknown tensor 'b'"),
        ({"a": torch.ones(3)}, r"\(3,\) where \(2,\)"),
        ({"a": torch.tensor([1.0, float("nan")])}, "not finite"),
        ({"a": torch.tensor([1.0, float("inf")])}, "not finite"),
    ],
)
def test_tensors_that_do_not_fit(found: dict[str, torch.Tensor], reason: str):
    expected = {"a": torch.zeros(2)}
    check_tensors(expected, {"a": torch.ones(2)}, "model")
    with pytest.raises(UserError, match=reason):
        check_tensors(expected, found, "model")
