"""What names a file in the cache, and that it is whole or absent."""

from __future__ import annotations

import pytest

from memkit.editors.cache import digest, tokenizer_hash, writing
from memkit.testing.models import tiny_tokenizer


def test_a_key_is_known_by_its_values_not_their_order():
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    assert digest({"a": 1, "b": 2}) != digest({"a": 2, "b": 1})


def test_a_tokenizer_is_known_by_what_it_does():
    plain = tiny_tokenizer()
    expected = tokenizer_hash(plain)
    assert tokenizer_hash(tiny_tokenizer("start")) != expected
    plain.pad_token = plain.eos_token
    plain(["One", "One, two"], padding=True, truncation=True, max_length=3)
    assert plain.backend_tokenizer.padding is not None
    assert tokenizer_hash(plain) == expected
    plain.add_tokens(["Erewhon"])
    assert tokenizer_hash(plain) != expected


@pytest.mark.parametrize("fault", [None, RuntimeError, KeyboardInterrupt])
def test_a_file_is_whole_or_as_before(tmp_path, fault):
    path = tmp_path / "deep" / "file"
    with writing(path) as temporary:
        temporary.write_text("old")
        assert not path.exists()
    assert path.read_text() == "old"
    try:
        with writing(path) as temporary:
            temporary.write_text("new")
            if fault:
                raise fault
    except (RuntimeError, KeyboardInterrupt):
        pass
    assert path.read_text() == ("old" if fault else "new")
    assert list(path.parent.iterdir()) == [path]
