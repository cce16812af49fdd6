from __future__ import annotations

import shutil

import pytest

from llmlab.errors import DataError, MissingPackage, UnknownName
from llmlab.finetune import gguf
from llmlab.models.local import gguf as reader
from llmlab.models.registry import model
from llmlab.types import Message, Options, Request

QUERY = ("Question: how many apples?\nAnswer:", [" two apples", " she has one"])


@pytest.fixture(scope="module")
def file(lm, tmp_path_factory):
    folder = tmp_path_factory.mktemp("gguf")

    def make(dtype):
        return gguf.write(lm("llama"), folder / f"{dtype}.gguf", dtype)

    return make


def test_a_file_in_full_precision_is_the_same_model(file, lm, capfd):
    read = model(f"gguf/{file('float32')}", device="cpu", threads=1, max_tokens=8)
    for a, b in zip(lm("llama").logprob(*QUERY), read.logprob(*QUERY), strict=True):
        assert b.logprob == pytest.approx(a.logprob, abs=1e-4)
    chat = Request((Message("system", "Be kind."), Message("user", "hi")), Options(max_tokens=8))
    assert read.generate(chat).text == lm("llama").generate(chat).text
    assert "GGUF" not in capfd.readouterr().err  # no bar


def test_fewer_bits_take_less_and_lose_more(file, lm):
    files = {dtype: file(dtype) for dtype in ("float16", "q8_0", "q5_0", "q4_0")}
    sizes = [path.stat().st_size for path in files.values()]
    assert sizes == sorted(sizes, reverse=True)
    exact = lm("llama").logprob(*QUERY)[0].logprob
    lost = [abs(model(f"gguf/{path}").logprob(*QUERY)[0].logprob - exact) for path in files.values()]
    assert lost[0] < 0.01 < lost[3] < 10
    assert lost[1] < lost[3]


def test_the_identity_is_the_content(file, tmp_path):
    here = model(f"gguf/{file('q8_0')}").identity()
    shutil.copy(file("q8_0"), tmp_path / "other.gguf")
    assert model(f"gguf/{tmp_path / 'other.gguf'}").identity()["weights"] == here["weights"]
    assert model(f"gguf/{file('q4_0')}").identity()["weights"] != here["weights"]


def test_a_path_may_be_text(file, lm, tmp_path):
    assert gguf.write(lm("llama"), f"{tmp_path}/own.gguf", "q8_0").read_bytes() == file("q8_0").read_bytes()


def test_a_missing_file_lists_those_beside_it(file):
    with pytest.raises(UnknownName, match=r"No file '.*none.gguf' \(GGUF files in its folder: .*q8_0.gguf"):
        model(f"gguf/{file('q8_0').parent}/none.gguf").generate("hi")


def test_a_file_is_not_taken_for_a_folder_nor_a_folder_for_a_file(file):
    path = file("q8_0")
    with pytest.raises(UnknownName, match=rf"is a GGUF file: 'gguf/{path}' reads it"):
        model(f"hf/{path}").generate("hi")
    with pytest.raises(UnknownName, match=r"GGUF files in this folder: .*q8_0.gguf"):
        model(f"gguf/{path.parent}").generate("hi")


def test_a_file_of_another_format_is_refused(tmp_path):
    (tmp_path / "m.gguf").write_bytes(b"PK\x03\x04" + b"\x00" * 100)
    with pytest.raises(DataError, match=r"is no GGUF file: it begins with b'PK"):
        model(f"gguf/{tmp_path / 'm.gguf'}").generate("hi")


@pytest.mark.parametrize("keep", [4, 100, 0.5, 0.98])
def test_a_file_that_was_cut_short_is_refused(file, tmp_path, keep):
    whole = file("q8_0").read_bytes()
    (tmp_path / "m.gguf").write_bytes(whole[: keep if isinstance(keep, int) else int(len(whole) * keep)])
    with pytest.raises(DataError, match=r"m.gguf.*(cut short)"):
        model(f"gguf/{tmp_path / 'm.gguf'}").generate("hi")


def test_quantisation_is_the_files_own(file):
    with pytest.raises(UnknownName, match=r"No option of gguf/.* 'quantize'"):
        model(f"gguf/{file('q8_0')}", quantize="nf4")


def test_without_the_package_it_says_what_to_install(monkeypatch):
    real = reader.importlib.util.find_spec
    monkeypatch.setattr(reader.importlib.util, "find_spec", lambda name: None if name == "gguf" else real(name))
    with pytest.raises(MissingPackage, match=r"pip install 'llmlab\[gguf\]'"):
        model("gguf/some.gguf")


def test_a_file_larger_than_memory_is_refused_before_it_is_read(file, monkeypatch):
    from llmlab.models.local import room

    needed = room.weights_bytes(file("q4_0").parent, 4, None, "q4_0.gguf")
    assert needed > 4 * file("q4_0").stat().st_size  # it is unpacked
    monkeypatch.setattr(room, "free_bytes", lambda device: needed - 1)
    with pytest.raises(DataError, match=r"GB are free on 'cpu'"):
        model(f"gguf/{file('q4_0')}", device="cpu").generate("hi")
