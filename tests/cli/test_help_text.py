"""`--help`: paragraphs fill the terminal's lines."""

from __future__ import annotations

import dataclasses
import inspect
import typing

import pytest

from unseen.cli import main
from unseen.cli.help_text import fill_lines
from unseen.methods.registry import METHODS


def _help(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit):
        main.parse(arguments)
    return capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["sample"], "By default 4, or 1 of a model that is deterministic."),
        (["train"], "(DiffRF fits a grid to every object), to share it"),
        (["train", "holodiffusion-small"], "once more before it is rendered"),
    ],
)
def test_sentences_are_not_broken(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str], monkeypatch
):
    monkeypatch.setenv("COLUMNS", "300")
    lines = _help([*arguments, "--help"], capsys).splitlines()
    assert any(sentence in line for line in lines)


def test_paragraphs_stay_apart():
    assert fill_lines("One\n    two\nthree.\n\n    Four\n    5.") == (
        "One two three.\n\nFour 5."
    )


def _described() -> list[type]:
    """All classes whose docstring stands in some `--help`."""
    found: list[type] = []
    waiting = [typing.get_args(c)[0] for c in typing.get_args(main.Command)]
    waiting += [config for _, config in METHODS.values()]
    while waiting:
        one = waiting.pop()
        if one in found or not (
            isinstance(one, type) and dataclasses.is_dataclass(one)
        ):
            continue
        found.append(one)
        try:
            hints = typing.get_type_hints(one)
        except NameError:
            continue  # Names that only the type checker sees: those of commands.
        for hint in hints.values():
            waiting += [hint, *typing.get_args(hint)]
    return found


def _lines(cls: type) -> list[str]:
    text = inspect.cleandoc(cls.__doc__ or "")
    return text.split("\n\nRaises:")[0].splitlines()


def test_descriptions_have_no_line_that_tyro_would_break():
    """It joins lines only where the second one starts with a letter."""
    broken = [
        f"{cls.__name__}: {line}"
        for cls in _described()
        for line in _lines(cls)
        if line and not line[0].isalpha()
    ]
    assert not broken
