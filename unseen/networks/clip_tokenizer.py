"""CLIP's tokenizer: byte-pair encoding of lower-case text (Radford et al. 2021)."""

from __future__ import annotations

import html
import unicodedata
from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Int
from torch import Tensor, nn

from unseen.errors import UserError

_ENDINGS = ("'s", "'t", "'re", "'ve", "'m", "'ll", "'d")
_END_OF_WORD = "</w>"


def byte_symbols() -> list[str]:
    """The 256 characters that stand for bytes, in the order of their tokens.

    Bytes that are printable Latin-1 stand for themselves and come first; the others
    are the characters from 256 on.
    """
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return [chr(b) for b in printable] + [chr(256 + i) for i in range(68)]


def _byte_tokens() -> dict[int, int]:
    """The token of every byte (inside of a word)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = sorted(set(range(256)) - set(printable))
    return {byte: token for token, byte in enumerate([*printable, *others])}


class ClipTokenizer(nn.Module):
    """Texts to tokens; what it knows is a table that is kept with the weights.

    Tokens are: bytes inside of a word (256), bytes that end one (256), then one per
    pair of tokens that is merged, then beginning and end of a text.

    Args:
        vocabulary: Number of tokens.
        length: Tokens of a text.
        padding: The token that fills a text; by default that of its end.
    """

    merges: Int[Tensor, "merge 2"]

    def __init__(self, vocabulary: int, length: int, padding: int | None) -> None:
        super().__init__()
        self.length = length
        self.begin, self.end = vocabulary - 2, vocabulary - 1
        self.padding = self.end if padding is None else padding
        table = torch.zeros(vocabulary - 514, 2, dtype=torch.int32)
        self.register_buffer("merges", table)
        self._bytes = _byte_tokens()
        self._ranks: dict[tuple[int, int], int] = {}

    def forward(self, texts: Sequence[str]) -> Int[Tensor, "text token"]:
        """Tokens of texts; what is too long is cut off."""
        if not self._ranks:
            pairs = enumerate(self.merges.tolist())
            self._ranks = {(left, right): rank for rank, (left, right) in pairs}
        rows = []
        for text in texts:
            tokens = [t for word in split_words(text) for t in self._encode(word)]
            row = [self.begin, *tokens[: self.length - 2], self.end]
            rows.append(row + [self.padding] * (self.length - len(row)))
        return torch.tensor(rows, device=self.merges.device)

    def _encode(self, word: str) -> list[int]:
        """Merge neighbours, always those whose pair comes first in the table."""
        tokens = [self._bytes[byte] for byte in word.encode()]
        tokens[-1] += 256
        while len(tokens) > 1:
            pairs = [(tokens[i], tokens[i + 1]) for i in range(len(tokens) - 1)]
            best = min(pairs, key=lambda pair: self._ranks.get(pair, len(self._ranks)))
            if best not in self._ranks:
                break
            merged, i = [], 0
            while i < len(tokens):
                if tuple(tokens[i : i + 2]) == best:
                    merged.append(512 + self._ranks[best])
                    i += 2
                else:
                    merged.append(tokens[i])
                    i += 1
            tokens = merged
        return tokens


def parse_merges(lines: Sequence[str], count: int) -> Int[Tensor, "merge 2"]:
    """The table of a tokenizer from the lines of a `merges.txt`: pairs of symbols.

    Raises:
        UserError: there are fewer than `count`, or a symbol is not yet known.
    """
    symbols = byte_symbols()
    symbols += [f"{symbol}{_END_OF_WORD}" for symbol in symbols]
    known = {symbol: token for token, symbol in enumerate(symbols)}
    rows: list[list[int]] = []
    for line in lines:
        parts = line.split()
        if len(rows) == count:
            break
        if line.startswith(("#version", '"bpe_simple')) or not parts:
            continue
        if len(parts) != 2 or not known.keys() >= set(parts):
            raise UserError(
                f"'{line.strip()}' is no pair of known symbols: give a merges.txt of "
                "CLIP's tokenizer."
            )
        known["".join(parts)] = 512 + len(rows)
        rows.append([known[part] for part in parts])
    if len(rows) < count:
        raise UserError(
            f"the tokenizer's list has {len(rows)} pairs where the text encoder needs "
            f"{count}: give the merges.txt of its own tokenizer."
        )
    return torch.tensor(rows, dtype=torch.int32).reshape(-1, 2)


def split_words(text: str) -> Iterator[str]:
    """Runs of letters, of other signs, single digits, and English endings."""
    text = html.unescape(html.unescape(unicodedata.normalize("NFC", text))).lower()
    start = 0
    while start < len(text):
        kind, end = _kind(text[start]), start + 1
        ending = next((e for e in _ENDINGS if text.startswith(e, start)), None)
        if ending:
            end = start + len(ending)
        elif kind != "digit":
            while end < len(text) and _kind(text[end]) == kind:
                end += 1
        if kind != "space":
            yield text[start:end]
        start = end


def _kind(sign: str) -> str:
    if sign.isspace():
        return "space"
    names = {"L": "letter", "N": "digit"}
    return names.get(unicodedata.category(sign)[0], "other")
