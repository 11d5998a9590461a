"""Shape annotations are checked while the tests run."""

import jaxtyping
import pytest
import torch

from unseen.geometry.rays import plucker


def test_wrong_shape_is_refused() -> None:
    with pytest.raises(jaxtyping.TypeCheckError):
        plucker(torch.zeros(5, 3), torch.zeros(5, 2))
