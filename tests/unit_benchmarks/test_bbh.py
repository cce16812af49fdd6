import json
import shutil
import threading
from functools import cache
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from llmlab.benchmarks import bbh
from llmlab.benchmarks.registry import benchmark
from llmlab.errors import DataError, UnknownName
from tests.unit_benchmarks.replies import OWN, first, real_rows, said

TASKS = ["navigate", "word_sorting"]


def own(name: str = "bbh", **settings: object) -> bbh.BBH:
    made = benchmark(name, source=OWN, tasks=TASKS, **settings)
    assert isinstance(made, bbh.BBH)
    return made


def test_items_of_a_task_are_a_cluster() -> None:
    samples = own().samples()
    assert [s.cluster for s in samples] == ["navigate"] * 3 + ["word_sorting"] * 3
    assert samples[0].tags == ("navigate",)
    assert len({s.id for s in samples}) == 6  # though two items are the same


def test_name_says_what_was_chosen_and_reads_back() -> None:
    made = own(shots=1)
    assert made.name == "bbh[shots=1,tasks=navigate+word_sorting]"
    again = benchmark(made.name, source=OWN)
    assert [s.id for s in again.samples()] == [s.id for s in made.samples()]


def test_prompt_is_description_examples_question() -> None:
    request = own(shots=1).query(own().samples()[4], "generate").request
    assert request is not None
    assert request.template is False
    assert request.prompt == (
        "Sort a list of words by the alphabet.\n\n"
        "Q: Sort these words: List: cow bee\nA: Let's think step by step.\n"
        '"b" is before "c". So the answer is bee cow.\n\n'
        "Q: Sort these words: List: oak elm ash yew\nA: Let's think step by step.\n"
    )


@pytest.mark.parametrize(
    ("text", "value", "answer"),
    [
        ("It turns. So the answer is Yes.", 1.0, "Yes"),
        ("So the answer is yes.", 0.0, "yes"),
        ("So the answer is Yes", 0.0, "Ye"),  # the last character is taken for a full stop
        ("the answer is Yes. the answer is No.", 0.0, "Yes. the answer is No"),
        ("the answer is Yes.\n\nQ: more? the answer is No.", 1.0, "Yes"),
        ("Quite. the answer is Yes.", 0.0, None),  # a capital Q stops the answer
        ("", 0.0, None),
    ],
)
def test_answer_is_read_as_defined(text: str, value: float, answer: str | None) -> None:
    made = own()
    score = made.score(first(made), said(text))
    assert (score.value, score.answer, score.parsed) == (value, answer, answer is not None)


def test_direct_form_shows_answers_only() -> None:
    made = own("bbh_direct", shots=2)
    request = made.query(first(made), "generate").request
    assert request is not None
    assert "Options:\n- Yes\n- No\nA: Yes\n\n" in request.prompt
    assert "step by step" not in request.prompt
    assert made.score(first(made), said(" Yes")).value == 1.0
    assert not made.score(first(made), said(" \n\n")).parsed


def test_unknown_task_names_the_known_ones() -> None:
    with pytest.raises(UnknownName, match=r"No task of bbh 'navigat'\. Did you mean 'navigate'"):
        benchmark("bbh", tasks="navigat")


def test_missing_examples_say_where_they_are_to_be_had(tmp_path: Path) -> None:
    shutil.copytree(OWN / "bbh" / "navigate", tmp_path / "bbh" / "navigate")
    made = benchmark("bbh", source=tmp_path, tasks="navigate")
    with pytest.raises(DataError, match=r"no file .*cot_prompts/navigate.txt: .*suzgunmirac/BIG-Bench-Hard"):
        made.query(first(made), "generate")


def test_file_of_another_form_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "navigate.txt"
    path.write_text("canary\n-----\nWalk.\n\nQ: Where?\nA: Here.\n")
    with pytest.raises(DataError, match=r"navigate.txt is not a prompt of BIG-Bench Hard"):
        bbh.read_prompt(path)


def test_examples_for_rows_of_the_hub_are_fetched_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[str] = []

    class Files(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            found = OWN / "bbh" / "cot_prompts" / Path(self.path).name
            self.send_response(200 if found.is_file() else 404)
            self.end_headers()
            if found.is_file():
                self.wfile.write(found.read_bytes())

        def log_message(self, *_: object) -> None:
            pass

    monkeypatch.setenv("LLMLAB_HOME", str(tmp_path / "new home"))
    with HTTPServer(("127.0.0.1", 0), Files) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(bbh, "_PROMPTS", f"http://127.0.0.1:{server.server_port}/cot-prompts")
        for _ in range(2):
            monkeypatch.setattr(bbh, "_fetched", cache(bbh._fetched.__wrapped__))
            made = benchmark("bbh", source="hub", tasks="navigate")
            assert isinstance(made, bbh.BBH)
            assert made._prompts["navigate"][1][1].reasoning == "It goes 4 steps away. So the answer is No."
        with pytest.raises(DataError, match=r"could not be fetched from .*/snarks\.txt.*404.*Use one of: a connection"):
            bbh._fetched("snarks")
        server.shutdown()
    assert asked == ["/cot-prompts/navigate.txt", "/cot-prompts/snarks.txt"]
    assert [p.name for p in (tmp_path / "new home").rglob("*.txt")] == ["navigate.txt"]


def test_malformed_row_names_file_line_and_field(tmp_path: Path) -> None:
    folder = tmp_path / "bbh" / "navigate"
    folder.mkdir(parents=True)
    (folder / "test.jsonl").write_text(json.dumps({"input": "?", "target": True}) + "\n")
    with pytest.raises(DataError, match=r"test.jsonl:1: field 'target' should be text, it is True"):
        benchmark("bbh", source=tmp_path, tasks="navigate").samples()


def test_published_set_is_complete() -> None:
    folder = real_rows()
    if not (folder / "bbh").is_dir():
        pytest.skip("no bbh in this folder")
    made = benchmark("bbh", source=folder)
    assert len(made) == made.card.n
