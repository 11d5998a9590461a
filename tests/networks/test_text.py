"""Tokens of texts: as transformers makes them, and of words that are hashed."""

from __future__ import annotations

import random

import pytest
import torch

from unseen.errors import UserError
from unseen.networks.clip import ClipTextConfig
from unseen.networks.clip_tokenizer import ClipTokenizer, byte_symbols, parse_merges
from unseen.networks.text import ClipText, WordConfig, WordEncoder

PAIRS = (
    "t h|th e</w>|a n|an d</w>|i n|r e|c a|ca t</w>|c a t</w>|th e|o n|s t|st a</w>|"
    "1 0</w>|' s</w>|Ã ©</w>|d o|do g</w>|! !|!! !</w>|in g</w>|l l|e ll</w>|ca r</w>"
)


def merges() -> list[str]:
    """A small table: pairs of symbols that are known by then, each once."""
    lines, symbols = [], set(byte_symbols())
    symbols |= {f"{s}</w>" for s in symbols}
    for pair in PAIRS.split("|"):
        parts = pair.split(" ")
        if len(parts) == 2 and symbols >= set(parts) and "".join(parts) not in symbols:
            lines.append(pair)
            symbols.add("".join(parts))
    return lines


def tokenizer(padding: int | None = 0, length: int = 24) -> ClipTokenizer:
    lines = merges()
    found = ClipTokenizer(514 + len(lines), length, padding)
    found.merges.copy_(parse_merges(["#version: 0.2", *lines, ""], len(lines)))
    return found


TEXTS = [
    "",
    "The cat and the DOG",
    "  a photo\tof\n a  cat's car, 100 dogs!!!",
    "they'll re-string it: café, naïve, Ünïcode",
    "日本語 و עברית 𝔘𝔫 ²½ x² ٣٤ Ⅷ",
    "it's 'tis we'd i'm '' !'s ...?!",
    "end</w> <b>bold</b> 🙂🙂 snow☃man",
    "word " * 40,
]


def test_tokens_are_those_of_transformers() -> None:
    transformers = pytest.importorskip("transformers")
    lines = merges()
    symbols = byte_symbols()
    names = [*symbols, *(f"{s}</w>" for s in symbols)]
    names += [line.replace(" ", "") for line in lines]
    names += ["<|startoftext|>", "<|endoftext|>"]
    theirs = transformers.CLIPTokenizer(
        vocab={name: i for i, name in enumerate(names)},
        merges=[tuple(line.split()) for line in lines],
    )
    rng = random.Random(0)
    letters = "thecatdogansingl'! 10é.,-☃"
    texts = TEXTS + ["".join(rng.choices(letters, k=30)) for _ in range(200)]
    found = tokenizer(padding=None)(texts)
    expected = theirs(texts, padding="max_length", max_length=24, truncation=True)
    assert found.tolist() == expected["input_ids"]
    # Merges were used: there are far fewer tokens than bytes.
    assert len(lines) > 15 and (found[1] != found[1, -1]).sum() < 12


def test_texts_are_filled_and_unescaped() -> None:
    zero, end = tokenizer()(["cat"])[0], tokenizer(None)(["cat"])[0]
    assert zero[:3].tolist() == end[:3].tolist() and end[2] == end[-1]
    assert not zero[3:].any()
    same = tokenizer()(["cat &amp;amp; dog", "cat & dog"])
    assert torch.equal(same[0], same[1])


def test_lists_that_are_no_tokenizer() -> None:
    lines = merges()
    with pytest.raises(UserError, match="has 3 pairs where the text encoder needs 4"):
        parse_merges(lines[:3], 4)
    with pytest.raises(UserError, match="no pair of known symbols"):
        parse_merges(["qq zz", *lines], 4)
    with pytest.raises(UserError, match="no pair of known symbols"):
        parse_merges(["{", '"a": 1'], 4)


@torch.no_grad()
def test_clip_text_keeps_its_tokenizer_with_its_weights() -> None:
    count = len(merges())
    config = ClipTextConfig(514 + count, 24, 16, 1, 2, 16)
    torch.manual_seed(0)
    first, second = ClipText(config).eval(), ClipText(config).eval()
    first.tokenizer.merges.copy_(parse_merges(merges(), count))
    second.load_state_dict(first.state_dict())
    texts = ["the cat", "a dog"]
    assert torch.equal(first(texts), second(texts))
    assert first(texts).shape == (2, 24, 16)


@torch.no_grad()
def test_words() -> None:
    torch.manual_seed(0)
    encoder = WordEncoder(WordConfig(rows=100, length=3, width=4))
    # Words that were never trained say nothing.
    assert torch.equal(encoder(["crate"]), encoder([""]))
    torch.nn.init.normal_(encoder.words.weight)
    found = encoder(["Red crate", "red, crate  of wood", "crate red", "", "mug"])
    assert found.shape == (5, 3, 4)
    assert torch.equal(found[0, :2], found[1, :2])
    assert not torch.allclose(found[0], found[1])
    assert not torch.allclose(found[0], found[2])
    assert not torch.allclose(found[3], found[4])
