"""What the importers of SRN and LFN share: the names of fully connected blocks."""

from __future__ import annotations

import re

from torch import Tensor

from unseen.errors import UserError

_BLOCK_KEY = re.compile(r"net\.(\d+)(?:\.net\.([01]))?\.(weight|bias)")


def block_name(key: str) -> str | None:
    """Our name, inside of a `fc_block`, of a tensor in the authors' block.

    Theirs holds blocks of (linear, normalisation, ReLU) and then a linear layer; ours
    is flat. None for another key.
    """
    match = _BLOCK_KEY.fullmatch(key)
    if match is None:
        return None
    return f"{3 * int(match[1]) + int(match[2] or 0)}.{match[3]}"


def num_hidden(official: dict[str, Tensor], prefix: str) -> int:
    """Hidden layers of the block whose keys start with `prefix`."""
    pattern = re.compile(re.escape(prefix) + r"net\.(\d+)\.net\.0\.weight")
    return sum(pattern.fullmatch(key) is not None for key in official)


def width_of(official: dict[str, Tensor], key: str, axis: int, owner: str) -> int:
    """A size that a tensor tells.

    Raises:
        UserError: the tensor is missing, or has no such axis.
    """
    if key not in official or official[key].dim() <= axis:
        raise UserError(
            f"The checkpoint lacks '{key}' in its right shape: give a complete file "
            f"of {owner}."
        )
    return official[key].shape[axis]
