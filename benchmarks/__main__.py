"""`python -m benchmarks`: the benchmarks that need no data."""

from __future__ import annotations

from benchmarks.sampling import Benchmark
from benchmarks.systems import Benchmark as Systems

if __name__ == "__main__":
    Benchmark().run()
    Systems().run()
