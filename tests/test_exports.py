"""The public surface, and what importing it costs."""

from __future__ import annotations

import subprocess
import sys

import pytest

import memkit


def test_all_is_sorted_and_every_name_loads():
    assert memkit.__all__ == sorted(memkit.__all__)
    for name in memkit.__all__:
        assert getattr(memkit, name) is not None
    assert set(memkit.__all__) <= set(dir(memkit))


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="Nonsense"):
        _ = memkit.Nonsense


def test_import_is_free_of_torch_and_other_weights():
    code = (
        "import sys, memkit; memkit.Fact; "
        "heavy = {'torch', 'transformers', 'numpy', 'jnius', 'datasets', 'sentence_transformers'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
