"""What `lab.ui.feedback` shows: answers to judge without knowing who wrote them."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import anywidget
import traitlets

from llmlab.alignment.feedback import Feedback, Vote, pairs_of
from llmlab.errors import DataError, UnknownName
from llmlab.results.frame import records

if TYPE_CHECKING:
    from llmlab.alignment.preference import PreferenceModel
    from llmlab.results import Results

Mode = Literal["pair", "thumb"]
_ASSETS = Path(__file__).parent / "assets"


class FeedbackWidget(anywidget.AnyWidget):
    """Made by `feedback`. `widget.feedback` has the votes."""

    _esm = _ASSETS / "feedback.js"
    _css = _ASSETS / "feedback.css"
    item = traitlets.Dict().tag(sync=True)
    mode = traitlets.Unicode("pair").tag(sync=True)
    status = traitlets.Unicode("").tag(sync=True)
    annotator = traitlets.Unicode("").tag(sync=True)

    def __init__(
        self,
        questions: Sequence[Mapping[str, Any]],
        feedback: Feedback,
        mode: Mode,
        annotator: str,
        seed: int,
        learner: PreferenceModel | None = None,
    ) -> None:
        super().__init__(mode=mode, annotator=annotator)
        self.feedback = feedback
        self.learner = learner
        self._rng = random.Random(f"{seed} {annotator}")  # another annotator, another order
        self._sort: Mode = mode
        self._left = list(questions)
        self._shown: dict[str, Any] = {}
        self._done = 0
        self.on_msg(self._received)
        self._next()

    def vote(self, value: int | None, text: str = "") -> None:
        """Judge what is shown, as the buttons do: for a pair 0, 1 or None (neither), for a thumb 1 or 0.

        Raises:
            DataError: when nothing is shown, or for another value.
        """
        if not self._shown:
            raise DataError("all answers are judged")
        shown = {name: self._shown[name] for name in ("prompt", "answers", "models", "sample", "propensity")}
        vote = Vote(self._sort, value=value, text=text, annotator=self.annotator, **shown)
        self.feedback.add(vote)
        if self.learner is not None and vote.sort == "pair":
            first, second = vote.answers if value != 1 else vote.answers[::-1]
            self.learner.learn({"prompt": vote.prompt, "chosen": first, "rejected": second, "tie": value is None})
        self._done += 1
        self._next()

    def skip(self) -> None:
        """Go on without a vote."""
        self._next()

    @property
    def shown(self) -> dict[str, Any]:
        """What the annotator sees: prompt and answers, in the order of the screen; empty at the end."""
        return {name: self._shown[name] for name in ("prompt", "answers")} if self._shown else {}

    def _received(self, _: Any, message: Mapping[str, Any], __: Any) -> None:
        """A message of the page. A click that comes twice, or too late, is about a question that is gone."""
        if not self._shown or message.get("number") != self._shown["number"]:
            return
        if message.get("skip"):
            self.skip()
            return
        self.vote(message.get("value"), str(message.get("text", "")))

    def _next(self) -> None:
        if not self._left:
            self._shown = {}
            self.item = {}
            self.status = f"Thank you: {self._done} judged, nothing is left."
            return
        question = self._left.pop(self._position())
        places = list(range(len(question["answers"])))
        self._rng.shuffle(places)
        self._shown = {
            "number": len(self._left),
            "prompt": question["prompt"],
            "sample": question["sample"],
            "answers": tuple(question["answers"][i] for i in places),
            "models": tuple(question["models"][i] for i in places),
            "propensity": 1 / len(places),
        }
        # the models stay here: what the page does not have, nobody can read in it
        self.item = {"number": self._shown["number"], "prompt": question["prompt"], "answers": self._shown["answers"]}
        self.status = f"{self._done} judged, {len(self._left) + 1} to go"

    def _position(self) -> int:
        """Which question comes next: the one that tells the learner most, else any."""
        if self.learner is None or self.mode != "pair":
            return 0
        return self.learner.choose([(q["prompt"], *q["answers"]) for q in self._left])


def widget(
    results: Results | Iterable[Mapping[str, Any]],
    mode: Mode,
    annotator: str,
    votes: Feedback,
    n: int | None = None,
    seed: int = 0,
    learner: PreferenceModel | None = None,
) -> FeedbackWidget:
    """The widget of `lab.ui.feedback`, which says what the arguments are."""
    if mode not in get_args(Mode):
        raise UnknownName.among("mode of feedback", mode, get_args(Mode))
    rows = records(results.samples) if hasattr(results, "samples") else [dict(row) for row in results]
    questions = rows if rows and "answers" in rows[0] else pairs_of(rows) if mode == "pair" else _single(rows)
    if not questions:
        raise DataError(
            "there is nothing to judge: pairs need two different answers to one prompt, from two models or repeats"
            if mode == "pair"
            else "there is nothing to judge: no answer came back"
        )
    random.Random(seed).shuffle(questions)
    return FeedbackWidget(_open(questions[:n], votes, mode, annotator), votes, mode, annotator, seed, learner)


def _open(
    questions: Sequence[Mapping[str, Any]], votes: Feedback, mode: Mode, annotator: str
) -> Sequence[Mapping[str, Any]]:
    """The questions on which this annotator has no vote yet; all for somebody without a name."""
    if not annotator:
        return questions
    given = {vote.question for vote in votes.votes() if vote.annotator == annotator}
    return [q for q in questions if Vote(mode, q["prompt"], tuple(q["answers"])).question not in given]


def _single(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [
        {"prompt": r["prompt"], "sample": r["sample"], "answers": (r["text"],), "models": (r["model"],)}
        for r in rows
        if not r["error"]
    ]
