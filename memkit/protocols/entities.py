"""Entity knowledge propagation: can a model use a definition that was put into its weights?

Onoe, Zhang, Padmanabhan, Durrett, Choi (ACL 2023, arXiv:2305.01651), Entity Inferences and ECBD. A
model is given the definition of an entity that is newer than it, and nothing else; then it is asked
what follows. Each method, an editor or a text before the probe (`Prompting`), is one row.

Probes with candidates (Entity Inferences)

    P(c) = softmax over candidates of LL(c),   LL(c) = sum over its tokens of log p, no mean

    accuracy       share of probes whose gold candidate has the largest P
    gain           mean of P(gold) after less before
    improved       share of probes whose P(gold) is larger than before, by more than 1e-6
    specificity    after each edit, accuracy on the other entities' probes of the same category and
                   kind; mean over edits. Without an edit this is the base accuracy, where every
                   entity has one such probe

Probes without (ECBD)

    perplexity     exp of the mean over probes of the mean negative log-likelihood of a token
    macro          the same with the mean over entities of their probes' mean
    specificity    perplexity on the other entities' probes

`popular` are probes of entities that the model knows: their accuracy or perplexity after each edit;
by a method that puts a text before a probe they are asked like all others.

One edit for each definition (its masked span counts: `per="definition"`), or for each entity with
its first probe's (`per="entity"`, ECBD), then rollback: after each the bytes of all weights are
hashed and compared with those from before. What an editor writes is `fact_of`'s, and the whole
definition where it trains on that (`FineTune(text="definition")`, the paper's fine-tuning of
decoders). What is None in an editor is chosen once, on the first eight definitions.

Departures from the paper's code (yasumasaonoe/entity_knowledge_propagation):
- Specificity scores every candidate on its own logits. There the model runs once a probe, on
  candidate 0, and all are read off that run.
- A definition that several probes share is written once, which gives the same.
- Random definitions are those given: upstream's file of popular ones is not in its repository.

Intervals are 95 %, by resampling entities. Differences are to the unedited model, on the same
probes and resamples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from memkit.benchmarks.probes import EntityProbe
from memkit.errors import BadInput
from memkit.lm.checks import check_count
from memkit.protocols.entities_methods import Prompting
from memkit.protocols.entities_result import BASE, EntitiesResult, summarised
from memkit.protocols.entities_spans import Asker
from memkit.protocols.entities_study import Per, Study

if TYPE_CHECKING:
    from memkit.editors.base import Editor
    from memkit.lm.model import LM

__all__ = ["entities"]


def entities(
    lm: LM,
    probes: Sequence[EntityProbe],
    methods: Mapping[str, Editor | Prompting],
    *,
    popular: Sequence[EntityProbe] = (),
    per: Per | None = None,
    others: int | None = None,
    samples: int = 1000,
    seed: int = 0,
    batch_size: int = 32,
) -> EntitiesResult:
    """One row for each method, as the module says; the model is afterwards as it was.

    `per` None is "definition" for probes with candidates, "entity" for others. `others` limits the
    probes of other entities, and the popular ones, that are asked after an edit (drawn anew for
    each, from `seed`); None asks all of them. The first row, "base", is the unedited model.

    Raises `BadInput` for probes that do not go together, or do not fit into the window;
    `UnsupportedModel` for a model that cannot be asked, or that an editor does not serve;
    `FingerprintMismatch` if an edit was not taken back to the byte.
    """
    _check(probes, popular, methods, per)
    for name, count in {"samples": samples, "others": 1 if others is None else others}.items():
        check_count(name, count)
    per = per or ("definition" if probes[0].candidates else "entity")
    study = Study(Asker(lm, batch_size), tuple(probes), tuple(popular), others, seed)
    rows = [study.base()]
    for name, method in methods.items():
        if isinstance(method, Prompting):
            rows.append(study.prompted(name, method))
        else:
            rows.append(study.edited(name, method, per))
    return EntitiesResult(
        model=repr(lm),
        settings={"per": per, "others": others, "samples": samples, "seed": seed},
        probes=tuple(probes),
        popular=len(popular),
        rows={row.name: summarised(row, probes, samples, seed) for row in rows},
    )


def _check(
    probes: Sequence[EntityProbe],
    popular: Sequence[EntityProbe],
    methods: Mapping[str, Editor | Prompting],
    per: Per | None,
) -> None:
    """Raise `BadInput` for probes or methods that do not go together."""
    if not probes:
        raise BadInput("there are no probes; allowed: at least one. Load some.")
    if len({bool(probe.candidates) for probe in (*probes, *popular)}) > 1:
        raise BadInput(
            "some probes have candidates and some have none; allowed: one sort in a call, since "
            "accuracy and perplexity are no one score. Call it twice."
        )
    if per not in (None, "definition", "entity"):
        raise BadInput(
            f"per is {per!r}; allowed: 'definition', 'entity' or None. Choose one of these."
        )
    if BASE in methods:
        raise BadInput(
            f"a method is named {BASE!r}; allowed: any other name, since the unedited model is "
            "always the first row. Rename it."
        )
    for name, method in methods.items():
        if not (isinstance(method, Prompting) or hasattr(method, "apply")):
            raise BadInput(
                f"the method {name!r} is {method!r:.80}; allowed: an editor, or something with "
                "`before`, such as Definition(). Make it one."
            )
