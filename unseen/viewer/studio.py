"""What all clients share: the samples to begin with, the model, and its queue."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from unseen.model import Model
from unseen.viewer.jobs import Jobs
from unseen.viewer.sample import Sample


@dataclasses.dataclass(frozen=True)
class Exhibition:
    """What a viewer is opened with: samples, or a model that makes some, or both.

    `example` is a picture to try a model with; `model_name` is what the command line
    calls the model, which is written into its scenes' files. `newer` is asked now and
    then for samples that take the place of all others; None where there are none.
    """

    title: str
    samples: Sequence[Sample] = ()
    model: Model | None = None
    example: Path | None = None
    model_name: str | None = None
    newer: Callable[[], Sequence[Sample] | None] | None = None


class Studio:
    """The exhibition, the samples that somebody kept, and threads for slow work."""

    def __init__(self, exhibition: Exhibition) -> None:
        self.exhibition = exhibition
        self.jobs = Jobs()
        self._kept: list[Sample] = list(exhibition.samples)
        self._lock = threading.Lock()
        self._closed = False
        self._refining = ThreadPoolExecutor(1, thread_name_prefix="unseen-refining")

    @property
    def samples(self) -> list[Sample]:
        """What a new client sees: the first samples, and those that were kept."""
        with self._lock:
            return list(self._kept)

    def keep(self, sample: Sample) -> None:
        """Show a sample to clients that come later, too."""
        with self._lock:
            if sample not in self._kept:
                self._kept.append(sample)

    def discard(self, sample: Sample) -> None:
        """The inverse of `keep`."""
        with self._lock:
            if sample in self._kept:
                self._kept.remove(sample)

    def replace(self, samples: Sequence[Sample]) -> None:
        """Show other samples to clients that come later."""
        with self._lock:
            self._kept = list(samples)

    def refine(self, sample: Sample, then: Callable[[], None]) -> None:
        """Make the fine Gaussians of a sample in the background, once."""

        def work() -> None:
            # A second request finds the work done.
            if sample.fine is not None:
                then()

        with self._lock:
            # A client may still draw while the server ends.
            if not self._closed:
                self._refining.submit(work)

    def close(self) -> None:
        with self._lock:
            self._closed = True
        self._refining.shutdown(wait=False, cancel_futures=True)
        self.jobs.close()
