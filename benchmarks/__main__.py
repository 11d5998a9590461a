"""`python -m benchmarks`: the benchmarks that need no data."""

from __future__ import annotations

from benchmarks.sampling import Benchmark
from benchmarks.systems import Benchmark as Systems
from benchmarks.training import Benchmark as Training

if __name__ == "__main__":
    Benchmark().run()
    Training().run()
    Systems().run()
