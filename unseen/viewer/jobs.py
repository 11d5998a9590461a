"""Sampling jobs of all clients, one after the other."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor


class Stopped(Exception):
    """Raised inside a job that was asked to stop."""


class Job:
    """One piece of work that can be stopped, before or while it runs.

    `work` gets the job, which it has to `check` at its beginning and now and then.
    `on_wait` is told how many jobs come before this one, when that changes.
    """

    def __init__(
        self, work: Callable[[Job], None], on_wait: Callable[[int], None]
    ) -> None:
        self._work, self._on_wait = work, on_wait
        self._stop = threading.Event()

    def stop(self) -> None:
        """Ask the job to end; it does so at its next `check`."""
        self._stop.set()

    def check(self) -> None:
        """Called by the work itself: raises `Stopped` if it is to end."""
        if self._stop.is_set():
            raise Stopped

    def run(self) -> None:
        self._work(self)

    def wait_for(self, count: int) -> None:
        """Tell the owner how many jobs come first."""
        if not self._stop.is_set():
            self._on_wait(count)


class Jobs:
    """A queue that one thread works off.

    A model already uses all processors, so several jobs at once would only make each
    other slow.
    """

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="unseen-sampling")
        self._lock = threading.Lock()
        self._queue: list[Job] = []

    def submit(self, job: Job) -> None:
        """Run a job when it is its turn, also if it was stopped before."""
        with self._lock:
            self._queue.append(job)
            before = len(self._queue) - 1
        if before:
            job.wait_for(before)
        self._executor.submit(self._run, job)

    def _run(self, job: Job) -> None:
        try:
            job.run()
        finally:
            with self._lock:
                self._queue.remove(job)
                waiting = self._queue[1:]
            for before, other in enumerate(waiting, 1):
                other.wait_for(before)

    def close(self) -> None:
        """Stop everything, and wait for the job that runs."""
        with self._lock:
            for job in self._queue:
                job.stop()
        self._executor.shutdown(wait=True, cancel_futures=True)
