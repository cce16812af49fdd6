"""Two models side by side, answer by answer: verdicts that flipped come first, changed words are marked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmlab import stats
from llmlab.errors import DataError, UnknownName
from llmlab.results import display
from llmlab.results.frame import records
from llmlab.results.words import Piece, difference, marked

if TYPE_CHECKING:
    import pandas as pd
    from markupsafe import Markup

_SAME = ["benchmark", "protocol", "sample", "repeat"]
_TAKEN = ["text", "answer", "score", "error", "explanation", "cost"]
# what there is to see, most important first
ORDER = ("broke", "fixed", "lost", "changed, wrong", "changed, right", "changed", "same")
_MEANING = {
    "broke": "{a} passes, {b} does not",
    "fixed": "{b} passes, {a} does not",
    "lost": "one of the two has no verdict",
    "changed, wrong": "both fail, in other words",
    "changed, right": "both pass, in other words",
    "changed": "the same grade, in other words",
    "same": "the same words",
}
_SHOWN = 60
_CHUNK = 100


@dataclass(frozen=True, repr=False)
class Diff:
    """The answers of two models to the same questions.

    Shows the first 60 in a notebook, and prints the first 20; `save` writes a page with all of them.

    Attributes:
        a, b: the models; "broke" is what a passed and b does not.
        table: a line per item and repeat that both answered: status, benchmark, sample, repeat, prompt, target, and
            text, answer, score, error, explanation and cost of each, ending in _a or _b. Flipped verdicts come first.
        left_out: items that only one of the two was asked.
        whole: the table before `only` chose from it; None when it is all there.
    """

    a: str
    b: str
    table: pd.DataFrame
    left_out: int = 0
    whole: pd.DataFrame | None = None

    def counts(self) -> dict[str, int]:
        """How many lines of each status, most important first; those that do not occur are left out."""
        found = Counter(self.table["status"])
        return {status: found[status] for status in ORDER if found[status]}

    def finding(self) -> str:
        """One sentence: how many verdicts flipped each way, and what that shows."""
        everything = self.table if self.whole is None else self.whole
        scored = everything.dropna(subset=["score_a", "score_b"])
        per_item = scored.groupby(["benchmark", "sample"], sort=False)[["score_a", "score_b"]].mean()
        found = stats.paired(per_item["score_b"], per_item["score_a"])
        counts = Counter(everything["status"])
        said = f"From {self.a} to {self.b}, {counts['broke']} of {len(everything):,} broke and "
        said += f"{counts['fixed']} were fixed"
        if not found.n:
            return f"{said}."
        return (
            f"{said}: {display.points(found.value)} points {display.interval(found.low, found.high)}, "
            f"p {display.p_value(found.p)} (paired, n = {found.n:,})."
        )

    def only(self, *statuses: str) -> Diff:
        """The lines of some statuses: `only("broke", "fixed")`."""
        for status in statuses:
            if status not in ORDER:
                raise UnknownName.among("status of a difference", status, ORDER)
        chosen = self.table[self.table["status"].isin(statuses)]
        return Diff(self.a, self.b, chosen, self.left_out, self.table if self.whole is None else self.whole)

    def text(self, limit: int | None = 20) -> str:
        """The first `limit` lines (None: all) as text, changed words as [-gone-] {+came+}."""
        lines = [self.finding(), *self._legend()]
        for row in records(self.table.head(len(self.table) if limit is None else limit)):
            pieces = difference(_said(row, "a"), _said(row, "b"))
            lines += ["", f"{row['status']} · {row['benchmark']} · {display.visible(row['sample'])}{_repeat(row)}"]
            lines += [f"  {line}" for line in display.visible(marked(pieces)).split("\n")]
        if limit is not None and len(self.table) > limit:
            lines += ["", f"… and {len(self.table) - limit:,} more: .text(None), or .save('diff.html')"]
        return "\n".join(lines)

    def save(self, path: str | Path) -> Path:
        """Write a self-contained page with every line; gives the path."""
        from llmlab.results.pages import environment

        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        page = environment().get_template("diff_page.html.j2")
        with target.open("w", encoding="utf-8") as file:
            for part in page.stream(**self._heading(), chunks=self._chunks(self.table), more=0):
                file.write(part)
        return target

    def __len__(self) -> int:
        return len(self.table)

    def __repr__(self) -> str:
        return self.text()

    def _repr_html_(self) -> str:
        from llmlab.results.pages import fragment

        more = max(0, len(self.table) - _SHOWN)
        return fragment("diff", **self._heading(), chunks=self._chunks(self.table.head(_SHOWN)), more=more)

    def _heading(self) -> dict[str, Any]:
        return {"a": self.a, "b": self.b, "finding": self.finding(), "legend": self._legend()}

    def _legend(self) -> list[str]:
        said = [f"{n:,} {status}: {_MEANING[status].format(a=self.a, b=self.b)}" for status, n in self.counts().items()]
        left = f"{display.count(self.left_out, 'answer')} without a counterpart left out"
        return [*said, left] if self.left_out else said

    def _chunks(self, table: pd.DataFrame) -> Iterator[Markup]:
        from markupsafe import Markup

        # a browser lays out one chunk at a time, when it comes into view
        for start in range(0, len(table), _CHUNK):
            pairs = [_pair(self.a, self.b, row) for row in records(table.iloc[start : start + _CHUNK])]
            yield Markup('<section class="chunk">\n{}</section>\n').format(Markup("".join(pairs)))  # noqa: S704


def diff(frame: pd.DataFrame, a: str, b: str) -> Diff:
    """What `Results.diff` gives."""
    models = list(dict.fromkeys(frame["model"]))
    for model in (a, b):
        if model not in models:
            raise UnknownName.among("model in these results", model, models)
    if a == b:
        raise DataError(f"two models are compared; got {a!r} twice")
    first, second = (frame[frame["model"] == model] for model in (a, b))
    both = first[[*_SAME, "prompt", "target", *_TAKEN]].merge(
        second[[*_SAME, *_TAKEN]], on=_SAME, suffixes=("_a", "_b"), validate="one_to_one"
    )
    if both.empty:
        raise DataError(f"{a} and {b} were asked no item in common by the same protocol")
    judged = (both[f"{name}_{side}"] for name in ("score", "error", "text") for side in "ab")
    both.insert(0, "status", list(map(_status, *judged)))
    place = both["status"].map(ORDER.index)
    table = both.loc[place.sort_values(kind="stable").index].reset_index(drop=True)
    return Diff(a, b, table, len(first) + len(second) - 2 * len(both))


def _status(a: float, b: float, error_a: str, error_b: str, text_a: str, text_b: str) -> str:
    if a != a or b != b or error_a or error_b:
        return "lost"
    if a != b:
        return "broke" if a > b else "fixed"
    if text_a.split() == text_b.split():
        return "same"
    return {0.0: "changed, wrong", 1.0: "changed, right"}.get(a, "changed")


def _said(row: Mapping[str, Any], side: str) -> str:
    return str(row[f"error_{side}"] or row[f"text_{side}"] or row[f"answer_{side}"])


def _repeat(row: Mapping[str, Any]) -> str:
    return f" · repeat {row['repeat']}" if row["repeat"] else ""


def _pair(a: str, b: str, row: Mapping[str, Any]) -> str:
    """One line as HTML, by hand: a template would take three times as long, and there may be tens of thousands."""
    from llmlab.results.pages import escaped

    pieces = difference(_said(row, "a"), _said(row, "b"))
    where = escaped(f"{row['benchmark']} · {row['sample']}{_repeat(row)}")
    prompt = f'<div class="words" dir="auto">{escaped(row["prompt"])}</div>'
    target = f' · target: <span dir="auto">{escaped(row["target"])}</span>' if row["target"] else ""
    return (
        f'<article class="pair"><div><span class="status {row["status"]}">{row["status"]}</span> · {where}{target}'
        f'</div>\n<details><summary class="muted">prompt</summary>{prompt}'
        f'</details>\n<div class="sides">{_side(a, row, "a", pieces)}{_side(b, row, "b", pieces)}</div></article>\n'
    )


def _side(model: str, row: Mapping[str, Any], side: str, pieces: Sequence[Piece]) -> str:
    from llmlab.results.pages import escaped

    own, tag, place = ("gone", "del", 1) if side == "a" else ("came", "ins", 2)
    said = "".join(
        f"<{tag}>{escaped(piece[place])}</{tag}>" if piece.kind == own else escaped(piece[place])
        for piece in pieces
        if piece.kind in ("same", own)
    )
    score, why = row[f"score_{side}"], row[f"explanation_{side}"]
    judged = "not judged" if score != score else {0.0: "wrong", 1.0: "right"}.get(score, f"score {score:.3g}")
    verdict = "failed" if row[f"error_{side}"] else judged
    because = f'<div class="muted">{escaped(why)}</div>' if why else ""
    return (
        f'<div class="side"><span class="muted">{escaped(model)}: {verdict}</span>\n'
        f'<div class="words" dir="auto">{said}</div>{because}</div>\n'
    )
