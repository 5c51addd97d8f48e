"""SIGKILL at random moments: no record is lost, none is there twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

KILLS = 50


def test_no_record_is_lost_or_doubled(small_world, tmp_path):
    script = Path(__file__).with_name("kills.py")
    command = [sys.executable, str(script), str(small_world), str(tmp_path), str(KILLS)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["killed"] == KILLS
    assert found["records"] > 200
