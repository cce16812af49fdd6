"""`lab.ui.feedback(results)`: people judge answers without knowing who wrote them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from llmlab._module import callable_module
from llmlab.alignment.feedback import Feedback
from llmlab.ui.feedback_widget import FeedbackWidget, Mode, widget
from llmlab.ui.judging import judging

if TYPE_CHECKING:
    from llmlab.alignment.preference import PreferenceModel
    from llmlab.results import Results
    from llmlab.store import Store
    from llmlab.ui.pieces import Panel


def feedback(
    results: Results | Iterable[Mapping[str, Any]] | None = None,
    mode: Mode = "pair",
    *,
    annotator: str = "",
    name: str = "default",
    n: int | None = None,
    seed: int = 0,
    learner: PreferenceModel | None = None,
    store: str | Store | None = None,
) -> FeedbackWidget | Panel:
    """A widget to judge answers: pairs or thumbs, with words, by mouse or keys; the models are hidden.

    Who gave a name goes on where they stopped: what they judged is not asked again.

    Args:
        results: what `lab.evaluate` gave, with two or more models or repeats for pairs; or rows with prompt, sample,
            answers and models. None is a panel that lets people choose a run of the store, and shows how they agree.
        mode: "pair" (keys 1, 2, 0) or "thumb" (keys u, d); s skips.
        annotator: who judges; can be changed in the widget. Each annotator sees the answers in an order of their own,
            which is kept with the vote.
        name: of the collection in the store: `lab.alignment.Feedback(store, name)` reads it.
        n: questions at most.
        seed: draws questions and orders.
        learner: a `lab.alignment.preferences()` that learns from every vote at once and chooses the next pair.
        store: a Store or its SQLAlchemy URL; None is the default store.

    Raises:
        DataError: when there is nothing to judge, such as two models that always agree.
    """
    if results is None:
        return judging(store, annotator, name)
    return widget(results, mode, annotator, Feedback(store, name), n, seed, learner)


callable_module(__name__, "llmlab.ui.feedback:feedback")
