"""`python -m benchmarks.janus`: do distilled objects have several fronts?

    python -m benchmarks.janus --out janus

Renders trucks, trains one small network behind three priors and a classifier of sides,
distils scenes, samples others with DFM, and writes index.html, janus.png, table.md and
results.json. See docs/methods/janus.md.
"""

import sys

import tyro

from benchmarks.janus.experiment import Janus
from unseen.errors import UserError

if __name__ == "__main__":
    try:
        tyro.cli(Janus).run()
    except UserError as error:
        print(f"janus: {error}", file=sys.stderr)
        sys.exit(2)
