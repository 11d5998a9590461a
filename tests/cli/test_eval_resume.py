"""An evaluation that is killed and continued equals one that is not."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.evaluation.made_up import flat, skies, write_set
from tests.tiny_auto_decoder import SkyConfig, SkyDecoder
from unseen.checkpoints.model_folder import save_model
from unseen.cli import eval_results
from unseen.cli.main import main
from unseen.evaluation.journal import Journal
from unseen.methods import registry


def _die_at(number: int, function: Callable) -> Callable:
    """`function`, with a SIGKILL instead of its `number`-th call."""
    calls = 0

    def wrapped(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **named)

    return wrapped


def _evaluate(arguments: list[str], die_in: str, number: int) -> None:
    """`unseen eval`, in the child process."""
    torch.set_num_threads(1)
    if die_in == "scene":
        SkyDecoder.sample_scene = _die_at(number, SkyDecoder.sample_scene)
    if die_in == "record":
        Journal.add = _die_at(number, Journal.add)
    if die_in == "rename":
        os.replace = _die_at(number, os.replace)
    if die_in == "sync":
        # The line is written and not yet acknowledged.
        os.fsync = _die_at(number, os.fsync)
    if die_in == "interrupt":
        SkyDecoder.sample_scene = _interrupt  # type: ignore[assignment]
    sys.argv = ["unseen", "eval", *arguments]
    with open(os.devnull, "w") as nowhere:
        sys.stdout = sys.stderr = nowhere
        try:
            main()
        except SystemExit as stop:
            os._exit(int(stop.code or 0))
        finally:
            sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__


def _interrupt(*arguments: Any, **named: Any) -> Any:
    raise KeyboardInterrupt


def _run(arguments: list[str], die_in: str = "", number: int = 0) -> int | None:
    # A fork need not import torch again, which takes seconds.
    context = multiprocessing.get_context("fork")
    process = context.Process(target=_evaluate, args=(arguments, die_in, number))
    process.start()
    process.join()
    return process.exitcode


@pytest.fixture
def arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setitem(registry.METHODS, "Sky", (SkyDecoder, SkyConfig))
    torch.manual_seed(0)
    save_model(SkyDecoder(SkyConfig(num_objects=2)), tmp_path / "sky", {})
    objects = {f"o{i}": ("test", skies(4, seed=i)) for i in range(3)}
    data = write_set(tmp_path / "set", {"t": ("train", flat(100, 2)), **objects})
    model = tmp_path / "sky"
    return [str(model), f"again={model}", "--data", str(data), "--steps", "2"]


def _numbers(out: Path) -> Any:
    """Everything but times and the command, which names the folder."""
    found = json.loads((out / eval_results.RESULTS).read_text())
    for scene in found["scenes"]:
        del scene["numbers"]["cost"]
    return {k: v for k, v in found.items() if k not in ("cost", "command")}


def _quality(out: Path) -> str:
    return (out / eval_results.TABLE).read_text().split("## cost")[0]


def test_killed_anywhere_and_continued(arguments: list[str], tmp_path: Path) -> None:
    whole, out = tmp_path / "whole", tmp_path / "out"
    assert _run([*arguments, "--out", str(whole)]) == 0
    given = [*arguments, "--out", str(out)]
    # Before the first scene, between files and their line, within a file, after it.
    for die_in, number in (
        ("rename", 1),
        ("scene", 1),
        ("record", 2),
        ("rename", 3),
        ("sync", 4),
        ("record", 3),
        ("scene", 2),
    ):
        assert _run(given, die_in, number) == -signal.SIGKILL
    assert not (out / eval_results.RESULTS).exists()
    # A line that a kill tore: its scene is measured again.
    journal = out / "scenes.jsonl"
    kept = journal.read_bytes()
    assert len(kept.splitlines()) >= 4
    journal.write_bytes(kept[:-20])
    assert _run(given, "interrupt") == 130
    assert _run(given) == 0
    assert _numbers(out) == _numbers(whole)
    assert _quality(out) == _quality(whole)
    assert len(journal.read_text().splitlines()) == 3 * 4
    # Nothing half-written stays, and another setting is refused.
    assert not list(out.rglob(".partial*"))
    assert _run([*given, "--seed", "1"]) == 2
