"""Settings of the whole suite: threads, markers, the folder of real data."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

REPOSITORY = Path(__file__).resolve().parent.parent


def _shared_folder() -> Path:
    """The folder with data that the project does not ship (it need not exist)."""
    return Path(os.environ.get("UNSEEN_SHARED_DIR", REPOSITORY.parent / "shared"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--run-slow", action="store_true", help="Also run the tests marked slow."
    )


def pytest_configure(config: pytest.Config) -> None:
    # A set number of threads makes sums, and with them results, repeatable.
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(min(2, os.cpu_count() or 1))


def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    if not config.getoption("--run-slow"):
        slow = [item for item in items if item.get_closest_marker("slow")]
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if not item.get_closest_marker("slow")]
    for item in items:
        if item.get_closest_marker("shared") and not _shared_folder().is_dir():
            item.add_marker(
                pytest.mark.skip(reason=f"no shared data in {_shared_folder()}")
            )
        if item.get_closest_marker("gpu") and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of shared data; tests that use it are marked `shared`."""
    if not _shared_folder().is_dir():
        pytest.skip(f"no shared data in {_shared_folder()}")
    return _shared_folder()


@pytest.fixture
def generator() -> torch.Generator:
    """A fresh generator with a set seed."""
    return torch.Generator().manual_seed(0)


@pytest.fixture(scope="session")
def stable_diffusion(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like Stable Diffusion's, 64 pixels square, with random small weights."""
    pytest.importorskip("diffusers")
    pytest.importorskip("transformers")
    from tests.tiny_stable_diffusion import save_stable_diffusion

    return save_stable_diffusion(tmp_path_factory.mktemp("stable-diffusion"))
