from __future__ import annotations

import sys

import numpy as np
import pytest

from memkit import BadInput, MissingDependency, Passage
from memkit.retrieval.dense import Dense
from memkit.testing.retriever import CORPUS

ray = pytest.importorskip("ray")
pytestmark = pytest.mark.filterwarnings("ignore")  # Ray's own use of what it deprecates


class Letters:
    """Counts of letters; travels to the workers as an object."""

    name, sha256, similarity, max_tokens = "letters", "1" * 64, "cosine", None

    def encode_queries(self, texts):
        return np.array([[t.count(c) for c in "abcdefghijklmnop"] for t in texts], np.float32)

    encode_passages = encode_queries


@pytest.fixture(scope="module")
def cluster():
    """One machine for all tests, on 127.0.0.1, without its dashboard."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")
        ray.init(
            num_cpus=2,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
            object_store_memory=80 * 2**20,
            _node_ip_address="127.0.0.1",
        )
        yield
        ray.shutdown()


def test_vectors_are_those_of_this_process_and_only_what_is_missing_is_encoded(
    cluster, tmp_path, monkeypatch
):
    passages = [*CORPUS, Passage("again", CORPUS[0].text)]
    local = Dense.build(passages, tmp_path / "local", encoder=Letters())
    (tmp_path / "there").mkdir()

    class Broken(Letters):
        def encode_passages(self, texts):
            if any("chess" in text.lower() for text in texts):
                raise KeyboardInterrupt
            return self.encode_queries(texts)

    target = tmp_path / "there" / "remote"
    with pytest.raises(KeyboardInterrupt):
        Dense.build(passages, target, encoder=Broken(), shard_size=2)
    (shards,) = (tmp_path / "there").iterdir()
    there = {file: file.stat().st_mtime_ns for file in shards.iterdir()}
    assert len(there) == 1
    seen = []
    from memkit.retrieval import on_ray

    real = on_ray.encode_on_ray
    monkeypatch.setattr(
        on_ray,
        "encode_on_ray",
        lambda encoder, parts, **options: (
            seen.extend(parts),
            real(encoder, parts, **options),
        )[1],
    )
    remote = Dense.build(passages, target, encoder=Letters(), shard_size=2, on="ray", workers=2)
    assert len(seen) == 5
    queries = ["a lighthouse", "green tea", "comet"]
    assert remote.search(queries, 20) == local.search(queries, 20)
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["remote"]
    assert ray.is_initialized()  # what somebody else has started goes on


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
