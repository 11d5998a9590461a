"""Randomness that depends on nothing but the seed and the place where it is used."""

from __future__ import annotations

import hashlib

import torch


def derive_seed(*numbers: int) -> int:
    """A seed in [0, 2^63) from a tuple of integers, e.g. (seed, step, rank).

    Unlike a running generator it needs no state: step 1000 of a resumed run draws
    what step 1000 of an uninterrupted one draws. The hash keeps neighbouring tuples
    independent.
    """
    text = ",".join(str(int(number)) for number in numbers).encode()
    digest = hashlib.blake2b(text, digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def derive_generator(*numbers: int) -> torch.Generator:
    """A CPU generator that is seeded with `derive_seed(*numbers)`.

    On the CPU whatever the training device is, so that every device sees one noise.
    """
    return torch.Generator().manual_seed(derive_seed(*numbers))
