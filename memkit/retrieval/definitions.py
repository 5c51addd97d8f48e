"""Definition injection (Onoe, Zhang, Padmanabhan, Durrett, Choi, ACL 2023, arXiv:2305.01651).

Idea. A sentence or two that say what an entity is, put before the question, teach a model more of
a new entity than training on them does. Which definition is wanted needs no ranking model: the
question names its subject.

Departures from the paper: there the entity of a probe is given; here it is found in the text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from memkit.mentions import Mentions
from memkit.retrieval.base import check_corpus, check_search, ranked
from memkit.types import Hit, Passage

__all__ = ["Definitions"]


class Definitions:
    """A retriever that finds the definitions of the subjects that a query names.

    A subject is found as `memkit.mentions` finds names: whole words, whatever their case, and the
    longest match where several overlap. A query that names several subjects gets a hit for each,
    one that names none gets none. The score is the length of the mention in characters: the longer
    a name, the less likely it is there by chance. A hit's passage has the subject as its id and
    its title.

    Raises `BadInput` if there are no definitions, or a subject or its definition is empty.
    """

    def __init__(self, definitions: Mapping[str, str]) -> None:
        passages = check_corpus(
            Passage(subject, definition, title=subject)
            for subject, definition in definitions.items()
        )
        self._passages = {passage.id: passage for passage in passages}
        self._mentions = Mentions(self._passages)

    def __len__(self) -> int:
        """Number of definitions."""
        return len(self._passages)

    def search(self, queries: Sequence[str], k: int = 10) -> list[list[Hit]]:
        """At most `k` definitions for each query, the longest mention first, ties by subject.

        Raises `BadInput` for an empty query or k < 1.
        """
        check_search(queries, k)
        return [self._search(query, k) for query in queries]

    def _search(self, query: str, k: int) -> list[Hit]:
        longest: dict[str, int] = {}
        for mention in self._mentions.find(query):  # the longest comes first
            longest.setdefault(mention.name, mention.end - mention.start)
        return ranked(((self._passages[name], float(n)) for name, n in longest.items()), k)
