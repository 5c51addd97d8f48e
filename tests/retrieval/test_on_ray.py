from __future__ import annotations

import os
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from memkit import BadInput, MemkitError, MissingDependency
from memkit.retrieval.dense import Dense
from memkit.testing.retriever import CORPUS

pytest.importorskip("ray")


class Letters:
    """Counts of letters."""

    name, sha256, similarity, max_tokens = "letters", "1" * 64, "cosine", None

    def encode_queries(self, texts):
        return np.array([[t.count(c) for c in "abcdefghijklmnop"] for t in texts], np.float32)

    encode_passages = encode_queries


SCRIPT = """
import sys
from pathlib import Path

import numpy as np
import ray

from memkit.retrieval import on_ray
from memkit.retrieval.dense import Dense
from memkit.testing.retriever import CORPUS
from memkit.types import Passage


class Letters:
    name, sha256, similarity, max_tokens = "letters", "1" * 64, "cosine", None

    def encode_queries(self, texts):
        return np.array([[t.count(c) for c in "abcdefghijklmnop"] for t in texts], np.float32)

    encode_passages = encode_queries


class Broken(Letters):
    def encode_passages(self, texts):
        if any("chess" in text.lower() for text in texts):
            raise KeyboardInterrupt
        return self.encode_queries(texts)


folder, queries = Path(sys.argv[1]), ["a lighthouse", "green tea", "comet"]
passages = [*CORPUS, Passage("again", CORPUS[0].text)]
local = Dense.build(passages, folder / "local", encoder=Letters())
target = folder / "there" / "remote"
target.parent.mkdir()
try:
    Dense.build(passages, target, encoder=Broken(), shard_size=2)
except KeyboardInterrupt:
    (shards,) = target.parent.iterdir()
    assert len(list(shards.iterdir())) == 1
parts, real = [], on_ray.encode_on_ray
on_ray.encode_on_ray = lambda e, p, **options: (parts.extend(p), real(e, p, **options))[1]
# one machine, on 127.0.0.1, without a dashboard; what somebody else has started goes on
ray.init(
    num_cpus=2,
    include_dashboard=False,
    log_to_driver=False,
    object_store_memory=80 * 2**20,
    _node_ip_address="127.0.0.1",
)
remote = Dense.build(passages, target, encoder=Letters(), shard_size=2, on="ray", workers=2)
assert ray.is_initialized()
ray.shutdown()
assert len(parts) == 5, parts
assert remote.search(queries, 20) == local.search(queries, 20)
assert [path.name for path in target.parent.iterdir()] == ["remote"]
print("the same")
"""


def test_vectors_are_those_of_this_process_and_only_what_is_missing_is_encoded(tmp_path):
    """In a process of its own: Ray would take signals from a Java that runs in this one."""
    (tmp_path / "script.py").write_text(SCRIPT)
    paths = [str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "RAY_AUTH_MODE": "disabled", "PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run(
        [sys.executable, str(tmp_path / "script.py"), str(tmp_path)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout.endswith("the same\n"), done.stderr[-3000:]


def test_refuses_to_start_beside_a_java_that_runs(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "jnius_config", types.SimpleNamespace(vm_running=True))
    with pytest.raises(MemkitError, match="Lucene runs in this process"):
        Dense.build(CORPUS, tmp_path / "index", encoder=Letters(), on="ray")


def test_refuses_what_makes_no_sense(tmp_path):
    with pytest.raises(BadInput, match=r"on is 'spark'; allowed: local, ray"):
        Dense.build(CORPUS, tmp_path / "index", encoder=Letters(), on="spark")
    with pytest.raises(BadInput, match="workers is 0"):
        Dense.build(CORPUS, tmp_path / "index", encoder=Letters(), on="ray", workers=0)
    assert list(tmp_path.iterdir()) == []


def test_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingDependency, match=r"memkit\[ray\]"):
        Dense.build(CORPUS, tmp_path / "index", encoder=Letters(), on="ray")
