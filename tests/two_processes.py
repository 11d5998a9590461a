"""Work of two processes that torchrun would have started."""

from __future__ import annotations

import multiprocessing
import os
import socket
from collections.abc import Callable

from unseen.training import distributed


def _join(rank: int, port: int, work: Callable[[int], None]) -> None:
    os.environ |= {
        "TORCHELASTIC_RUN_ID": "test",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": "2",
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
    }
    assert distributed.start("cpu") == "cpu"
    assert (distributed.rank(), distributed.world_size()) == (rank, 2)
    work(rank)
    distributed.stop()


def run_in_two(work: Callable[[int], None]) -> None:
    """Call `work` with the rank in two processes of one group, and wait for both."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    context = multiprocessing.get_context("fork")
    processes = [
        context.Process(target=_join, args=(rank, port, work)) for rank in range(2)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
