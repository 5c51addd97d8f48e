from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture
def wanted(small_world) -> dict[str, Any]:
    """A small specification, of an untrained model: quick, and wrong about nearly everything."""
    return {
        "name": "small",
        "models": {"tiny": {"path": str(small_world / "model")}},
        "benchmarks": {
            "small": {
                "name": "miniworld",
                "path": str(small_world),
                "questions": 12,
                "fit": 10,
            }
        },
        "edits": {"facts": 2, "counts": [1, 2], "schedules": ["batch", "sequential"]},
        "editors": {
            "ft": {
                "epochs": 2,
                "on_guard": "warn",
                "guards": {"perplexity": float("inf"), "size": float("inf")},
            }
        },
        "retrievers": {"bm25": {"engine": "bm25s"}},
        "routers": {"popularity": {}},
        "memories": {
            "plain": {},
            "bm25": {"retriever": "bm25"},
            "ft": {"editor": "ft"},
            "routed": {"editor": "ft", "retriever": "bm25", "router": "popularity"},
        },
    }
