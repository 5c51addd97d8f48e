"""Run a small grid again and again, and kill it at random moments: `kills.py WORLD FOLDER N`.

Everything is imported once; each run is a fork of this process. Prints what was seen as JSON.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections import Counter
from pathlib import Path

from memkit.compare import run
from memkit.compare.log import RECORDS, stored
from memkit.compare.records import CellRecord


def main(world: str, folder: str, kills: int) -> None:
    spec = {
        "name": "kills",
        "models": {"tiny": {"path": f"{world}/model"}},
        "benchmarks": {"w": {"name": "miniworld", "path": world, "questions": 40, "fit": 4}},
        "edits": {"facts": 2, "counts": [1, 2]},
        "editors": {"ft": {"epochs": 1, "on_guard": "warn"}},
        "memories": {"plain": {}, "def": {"retriever": "definitions"}, "ft": {"editor": "ft"}},
    }
    done(spec, Path(folder) / "reference")  # the first run imports what later ones have
    start = time.perf_counter()
    done(spec, Path(folder) / "timed")
    whole = time.perf_counter() - start
    reference = seen(Path(folder) / "reference")
    rng, killed, rounds, torn = random.Random(0), 0, 0, 0
    while killed < kills:
        out = Path(folder) / f"round{rounds}"
        while killed < kills:
            child = os.fork()
            if child == 0:
                done(spec, out)
                os._exit(0)
            time.sleep(rng.uniform(0, whole))
            over, _ = os.waitpid(child, os.WNOHANG)
            if over:
                break
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            killed += 1
            file = out / RECORDS
            torn += file.is_file() and file.read_bytes()[-1:] not in (b"", b"\n")
        done(spec, out)
        found = seen(out)
        rounds += 1
        assert found == reference, (len(found), len(reference))
    print(json.dumps({"killed": killed, "rounds": rounds, "torn": torn, "records": len(reference)}))


def done(spec: dict, out: Path) -> None:
    found = run(spec, out)
    assert not found.failures, found.failures


def seen(out: Path) -> Counter:
    """Each record but for time and memory, and how often it is there."""
    rows = []
    for record in stored(out):
        if isinstance(record, CellRecord):
            continue
        what = getattr(record, "scored", None), getattr(record, "learnt", None)
        rows.append((record.cell, record.id, *what))
    counts = Counter(rows)
    assert max(Counter((cell, id) for cell, id, *_ in rows).values()) == 1
    return counts


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
