"""The queue of sampling jobs."""

from __future__ import annotations

import threading

import pytest

from tests.viewer.balls import wait_until
from unseen.viewer.jobs import Job, Jobs, Stopped


def test_jobs_run_one_after_the_other_and_say_how_many_wait() -> None:
    jobs = Jobs()
    gate, order, waits = threading.Event(), [], []

    def first(job: Job) -> None:
        assert gate.wait(30)
        order.append("first")

    jobs.submit(Job(first, lambda n: waits.append(("1", n))))
    for name, work in (("2", "second"), ("3", "third")):
        jobs.submit(
            Job(
                lambda job, work=work: order.append(work),
                lambda n, name=name: waits.append((name, n)),
            )
        )
    assert order == [] and waits == [("2", 1), ("3", 2)]
    gate.set()
    wait_until(lambda: len(order) == 3)
    assert order == ["first", "second", "third"] and waits[2] == ("3", 1)
    jobs.close()


def test_a_job_that_fails_does_not_stop_the_queue() -> None:
    jobs, done = Jobs(), threading.Event()

    def fail(job: Job) -> None:
        raise RuntimeError("a bug")

    jobs.submit(Job(fail, lambda count: None))
    jobs.submit(Job(lambda job: done.set(), lambda count: None))
    assert done.wait(30)
    jobs.close()


def test_stopping_reaches_jobs_that_run_and_jobs_that_wait() -> None:
    jobs, started = Jobs(), threading.Event()
    ended: list[str] = []

    def work(job: Job) -> None:
        started.set()
        try:
            while True:
                job.check()
        except Stopped:
            ended.append("stopped")

    running, waiting, last = (Job(work, lambda count: None) for _ in range(3))
    jobs.submit(running)
    jobs.submit(waiting)
    assert started.wait(30)
    waiting.stop()
    running.stop()
    wait_until(lambda: ended == ["stopped"] * 2)
    with pytest.raises(Stopped):
        running.check()
    jobs.submit(last)
    jobs.close()
    with pytest.raises(Stopped):
        last.check()
