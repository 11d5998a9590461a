"""Fixed embeddings against their formulas and the published buffers."""

from __future__ import annotations

import math

import pytest
import torch

from tests.parity.synthetic import fixture_folder, load_arrays
from unseen.networks.embeddings import (
    harmonic_embedding,
    octave_encoding,
    sinusoidal_embedding,
    sinusoidal_grid,
)


def test_sinusoids_at_known_frequencies() -> None:
    t = torch.tensor([0.0, 7.0])
    for endpoint, last in ((True, 1e-4), (False, 1e-4 ** (3 / 4))):
        found = sinusoidal_embedding(t, 8, endpoint=endpoint)
        assert found[1, 0].item() == pytest.approx(math.sin(7), abs=1e-6)
        assert found[1, 3].item() == pytest.approx(math.sin(7 * last), rel=1e-5)
        torch.testing.assert_close(found[0], torch.tensor([0.0] * 4 + [1.0] * 4))
        swapped = sinusoidal_embedding(t, 8, endpoint=endpoint, cosine_first=True)
        torch.testing.assert_close(swapped, found.roll(4, dims=-1))


def test_grid_equals_the_published_buffer() -> None:
    outputs = load_arrays(fixture_folder("dfm_re10k") / "outputs.npz")
    grid = sinusoidal_grid((16, 16), 1152)
    torch.testing.assert_close(
        grid[::15, ::37], outputs["buffer/model.enc.pos_embed_slice"], rtol=0, atol=1e-6
    )


def test_grid_is_row_major_with_columns_first() -> None:
    grid = sinusoidal_grid((2, 3), 8).unflatten(0, (2, 3))
    # The first half changes along a row only, the second half along a column only.
    torch.testing.assert_close(grid[0, :, :4], grid[1, :, :4])
    torch.testing.assert_close(grid[:, 0, 4:], grid[:, 2, 4:])
    assert (grid[0, 0, :4] - grid[0, 1, :4]).abs().max() > 0.5


def test_octaves_equal_the_published_frequencies() -> None:
    outputs = load_arrays(fixture_folder("dfm_re10k") / "outputs.npz")
    buffers = "buffer/model.pixelNeRF_joint.pos_enc."
    x = torch.tensor([[0.1, -0.2, 0.7]])
    frequencies, phases = outputs[f"{buffers}_freqs"], outputs[f"{buffers}_phases"]
    expected = torch.sin(x[:, None] * frequencies + phases).flatten(1)
    torch.testing.assert_close(
        octave_encoding(x, 6, 1.5), torch.cat([x, expected], dim=-1)
    )


def test_harmonics_are_grouped_by_coordinate() -> None:
    found = harmonic_embedding(torch.tensor([0.3, 0.5]), 2)
    angles = [0.3, 0.6, 0.5, 1.0]
    expected = [*map(math.sin, angles), *map(math.cos, angles), 0.3, 0.5]
    torch.testing.assert_close(found, torch.tensor(expected))


def test_widths_that_cannot_be_halved() -> None:
    with pytest.raises(ValueError, match="even"):
        sinusoidal_embedding(torch.zeros(1), 7)
    with pytest.raises(ValueError, match="multiple of 4"):
        sinusoidal_grid((2, 2), 6)
