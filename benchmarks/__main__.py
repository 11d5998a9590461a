"""`python -m benchmarks`: the benchmarks that need no data."""

from __future__ import annotations

from benchmarks.sampling import Benchmark

if __name__ == "__main__":
    Benchmark().run()
