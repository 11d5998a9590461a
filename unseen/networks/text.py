"""Text encoders, from texts to tokens that a network attends to."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unseen.networks.clip import ClipTextConfig, ClipTextEncoder
from unseen.networks.clip_tokenizer import ClipTokenizer


@dataclasses.dataclass(frozen=True)
class WordConfig:
    """Settings of a text encoder that is a table of words."""

    rows: int = 1024
    """Of the table. A word's row is found by a hash, so that no list of words is
    needed; with few words, hardly any two of them share one."""
    length: int = 8
    """Words of a text; further ones are ignored."""
    width: int = 64


class WordEncoder(nn.Module):
    """Texts to a vector per word, from a table that is trained with the rest.

    Words that were never trained have vectors of zero, and say nothing.
    """

    def __init__(self, config: WordConfig) -> None:
        super().__init__()
        self.config = config
        self.words = nn.Embedding(config.rows, config.width)
        self.positions = nn.Parameter(torch.zeros(config.length, config.width))
        nn.init.zeros_(self.words.weight)
        nn.init.normal_(self.positions)

    def forward(self, texts: Sequence[str]) -> Float[Tensor, "text token width"]:
        """Vectors of the words of each text, and of its empty places."""
        rows = []
        for text in texts:
            words = text.lower().replace(",", " ").split()[: self.config.length]
            row = [1 + zlib.crc32(w.encode()) % (self.config.rows - 1) for w in words]
            rows.append(row + [0] * (self.config.length - len(row)))
        index = torch.tensor(rows, device=self.positions.device)
        return self.words(index) + self.positions


class ClipText(nn.Module):
    """Texts to the vectors of CLIP's text encoder."""

    def __init__(self, config: ClipTextConfig) -> None:
        super().__init__()
        self.config = config
        self.tokenizer = ClipTokenizer(config.vocabulary, config.length, config.padding)
        self.encoder = ClipTextEncoder(config)

    def forward(self, texts: Sequence[str]) -> Float[Tensor, "text token width"]:
        """The vectors of all tokens of each text."""
        return self.encoder(self.tokenizer(texts))


def build_text_encoder(config: ClipTextConfig | WordConfig) -> nn.Module:
    """The text encoder of a configuration."""
    if isinstance(config, WordConfig):
        return WordEncoder(config)
    return ClipText(config)
