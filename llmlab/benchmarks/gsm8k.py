"""GSM8K: grade-school word problems with a number as the answer.

Cobbe et al. (2021), https://arxiv.org/abs/2110.14168. Data: openai/gsm8k, MIT. Definition: lm-evaluation-harness
0.4.13, tasks/gsm8k (gsm8k and gsm8k_cot v3.0, gsm8k_cot_llama v4.0). That tool stops at 256 tokens, which cuts reasoned
answers off; here it is 1024, and cut answers are counted. `max_tokens=256` on the model gives its number.
"""

from __future__ import annotations

from typing import ClassVar

from llmlab.benchmarks.base import Card, Query, Reply, Source
from llmlab.benchmarks.rows import RowsBenchmark, completion
from llmlab.benchmarks.sources import Row
from llmlab.benchmarks.text import cut, exact_match, extract
from llmlab.settings import config
from llmlab.types import Message, Options, Protocol, Request, Sample, Score

_REVISION = "e53f048856ff4f594e959d75785d2c2d37b678ee"
_IGNORED = (",", r"\$", r"(?s).*#### ", r"\.$")
_ENDS = ("</s>", "<|im_end|>")
_NUMBER = r"(-?[$0-9.,]{2,})|(-?[0-9]+)"


def _card(metric: str, description: str) -> Card:
    return Card(
        title="GSM8K",
        paper="https://arxiv.org/abs/2110.14168",
        source=f"openai/gsm8k@{_REVISION}",
        licence="MIT",
        chance=0.0,
        metric=metric,
        description=description,
        n=1319,
    )


class GSM8K(RowsBenchmark):
    """Five worked examples from the training split, which end in `#### N`.

    strict_match reads the number after `####`, flexible_extract the last number of the answer.
    """

    card = _card("strict_match", "Word problems, five worked examples")
    source: ClassVar[Source] = Source("openai/gsm8k", "gsm8k", "main", _REVISION, "test")
    usual_shots = 5
    shot_splits: ClassVar[tuple[str, ...]] = ("train",)
    strict: ClassVar[tuple[str, int]] = (r"#### (\-?[0-9\.\,]+)", 0)
    """Pattern of the number, and which match of it counts: 0 the first, -1 the last."""
    stops: ClassVar[tuple[str, ...]] = ("Question:", *_ENDS)

    def sample(self, row: Row) -> Sample:
        answer = row.text("answer")
        if "#### " not in answer:
            raise row.wrong("answer", "a solution that ends in '#### ' and a number", answer)
        return Sample(row.text("question"), answer.rpartition("#### ")[2], metadata={"solution": answer})

    def shot(self, row: Row) -> str:
        # the <<a=b>> notes of the solutions stay in
        return f"{self.ask(row.text('question'))} {row.text('answer')}"

    def ask(self, question: str) -> str:
        """The question in this benchmark's words."""
        return f"Question: {question}\nAnswer:"

    def request(self, sample: Sample) -> Request:
        """The whole prompt: text to be continued."""
        return completion(self.prefix(sample) + self.ask(str(sample.input)))

    def query(self, sample: Sample, protocol: Protocol) -> Query:
        return Query(protocol, request=self.request(sample))

    def options(self, protocol: Protocol) -> Options:
        return Options(temperature=0.0, max_tokens=1024, stop=self.stops)

    def wording(self, protocol: Protocol) -> str:
        return f"{self.shots}-shot, generated (lm-eval {self.name.rpartition('/')[2].partition('[')[0]})"

    def score(self, sample: Sample, reply: Reply) -> Score:
        text = cut(reply.text, self.stops)
        read = {"strict_match": extract(self.strict[0], text, self.strict[1])}
        read["flexible_extract"] = extract(_NUMBER, text, -1)
        solution = str(sample.metadata["solution"])
        metrics = {
            name: float(answer is not None and exact_match(answer, solution, _IGNORED, ignore_case=True))
            for name, answer in read.items()
        }
        answer = read[self.card.metric]
        missing = answer is None
        explanation = f"no answer in the form asked for (last number: {read['flexible_extract']})" if missing else None
        return Score(metrics[self.card.metric], answer, explanation, metrics, parsed=not missing)


class GSM8KCoT(GSM8K):
    """Eight worked chains of thought of Wei et al. (2022), https://arxiv.org/abs/2201.11903."""

    card = _card("strict_match", "Word problems, eight chains of thought")
    usual_shots = 8
    shot_splits = ()
    most_shots = 8
    strict: ClassVar[tuple[str, int]] = (r"The answer is (\-?[0-9\.\,]+).", 0)
    stops: ClassVar[tuple[str, ...]] = ("Q:", *_ENDS)

    def ask(self, question: str) -> str:
        return f"Q: {question}\nA:"

    def examples(self) -> list[tuple[str, str]]:
        """The first `shots` examples: question and reasoned answer."""
        fixed = config("prompts/gsm8k_cot.yaml")["examples"][: self.shots]
        return [(e["question"], f"{e['reasoning']} The answer is {e['answer']}.") for e in fixed]

    def prefix(self, sample: Sample) -> str:
        return "".join(f"{self.ask(question)} {answer}\n\n" for question, answer in self.examples())


class GSM8KCoTZeroShot(GSM8K):
    """No examples, but "Let's think step by step"; nothing asks for a form, so the last number is the answer."""

    card = _card("flexible_extract", "Word problems, no example, step by step")
    usual_shots = 0
    shot_splits = ()
    most_shots = 0
    strict: ClassVar[tuple[str, int]] = GSM8KCoT.strict
    stops: ClassVar[tuple[str, ...]] = GSM8KCoT.stops

    def ask(self, question: str) -> str:
        return f"Q: {question}\nA: Let's think step by step."


class GSM8KCoTLlama(GSM8KCoT):
    """The chat form that Meta reports: examples as turns, and an answer line."""

    card = _card("strict_match", "Word problems for chat models, eight example turns")
    strict: ClassVar[tuple[str, int]] = (rf"The final answer is ({_NUMBER})", -1)
    stops: ClassVar[tuple[str, ...]] = ("<|eot_id|>", "<|start_header_id|>user<|end_header_id|>", "Q:", *_ENDS)

    def ask(self, question: str) -> str:
        return (
            "Given the following problem, reason and give a final answer to the problem.\n"
            f"Problem: {question}\n"
            'Your response should end with "The final answer is [answer]" where [answer] is the response to the '
            "problem.\n"
        )

    def examples(self) -> list[tuple[str, str]]:
        fixed = config("prompts/gsm8k_cot.yaml")["examples"][: self.shots]
        return [(e["question"], f"{e['reasoning']} The final answer is {e['answer']}") for e in fixed]

    def request(self, sample: Sample) -> Request:
        turns = [m for q, a in self.examples() for m in (Message("user", self.ask(q)), Message("assistant", a))]
        return Request((*turns, Message("user", self.ask(str(sample.input)))))
