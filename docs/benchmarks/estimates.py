"""How far a comparison's dry run is from the run: `python docs/benchmarks/estimates.py SPEC ...`.

Each of the two is a process of its own, so that neither finds what the other left in memory. Time
is that of `estimate`'s forecast beside the wall time of `run`; memory the forecast beside the most
that the run's process had resident.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import sys
import tempfile
import time
from pathlib import Path

from memkit.compare import run
from memkit.compare.estimate import estimate

MINIWORLD = Path(__file__).parents[1] / "comparisons" / "miniworld.toml"


def forecast(spec: Path) -> tuple[float, int]:
    """Seconds and bytes that the dry run says."""
    found = estimate(spec)
    return sum(found.seconds.values()), found.bytes


def measured(spec: Path) -> tuple[float, int]:
    """Seconds and bytes that the run takes."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        found = run(spec, Path(folder) / "run")
        seconds = time.perf_counter() - start
    if found.failures:
        sys.exit(f"{spec}: {len(found.failures)} cells failed.")
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return seconds, most if sys.platform == "darwin" else 1024 * most


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("specs", nargs="*", type=Path, default=[MINIWORLD])
    return parser


def main() -> None:
    """A line for each specification."""
    specs = arguments().parse_args().specs
    print("| specification | estimate, s | run, s | ratio | estimate, GB | run, GB | ratio |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for spec in specs:
        cells = [spec.stem]
        with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
            (said, least), (took, most) = (pool.apply(do, (spec,)) for do in (forecast, measured))
        cells += [f"{said:.0f}", f"{took:.0f}", f"{said / took:.2f}"]
        cells += [f"{least / 1e9:.2f}", f"{most / 1e9:.2f}", f"{least / most:.2f}"]
        print("|", " | ".join(cells), "|", flush=True)


if __name__ == "__main__":
    main()
