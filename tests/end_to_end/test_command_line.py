"""The command line from outside: what it prints where, its exit status, and what is left behind by a mistake."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import films

from bothways import TextClassifier, cli


class Shell:
    """Runs verbs in this process, as the `bothways` command would, and catches all they say."""

    def __init__(self, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self.capfd, self.monkeypatch = capfd, monkeypatch

    def __call__(self, *words: object, stdin: bytes = b"", status: int = 0) -> tuple[str, str]:
        """(standard output, standard error) of a verb that ends with `status`."""
        self.monkeypatch.setattr(sys, "argv", ["bothways", *map(str, words)])
        self.monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        self.capfd.readouterr()
        try:
            cli.main()
            ended = 0
        except SystemExit as stop:
            ended = int(stop.code or 0)
        out, err = self.capfd.readouterr()
        assert ended == status, err
        return out, err

    def refuses(self, *words: object, stdin: bytes = b"") -> str:
        """The one sentence with which a verb refuses, on standard error alone and with exit status 2."""
        out, err = self(*words, stdin=stdin, status=2)
        assert out == ""
        sentence = err.splitlines()[-1]
        assert sentence.startswith("bothways: ")
        assert "Traceback" not in err
        return sentence


@pytest.fixture
def shell(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Shell:
    monkeypatch.chdir(tmp_path)
    return Shell(capfd, monkeypatch)


@pytest.fixture
def model(encoder_directory: Path, tmp_path: Path) -> Path:
    texts, labels = films(100)
    TextClassifier(encoder_directory, epochs=1).fit(texts, labels).save(tmp_path / "model")
    return tmp_path / "model"


def test_classify_from_standard_input(shell: Shell, model: Path) -> None:
    texts = ["the film", "", "很好 " * 100]
    out, err = shell("classify", model, stdin="\n".join(texts).encode())
    answers = [json.loads(line) for line in out.splitlines()]
    assert [a["text"] for a in answers] == texts
    assert [a["truncated"] for a in answers] == [False, False, True]
    assert answers[1]["tokens"] == 2
    assert "1 of 3 texts were longer than 64 tokens and were truncated" in err
    assert "line 2: byte 1 is not UTF-8" in shell.refuses("classify", model, "-", stdin=b"good\n\xff\xfe\n")


def test_classify_writes_a_whole_file_or_none(shell: Shell, model: Path, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "a"}\n{"text": "\xff"}\n')
    assert "a.jsonl, line 2: byte 11 is not UTF-8" in shell.refuses(
        "classify", model, "a.jsonl", "--out", "answers.jsonl"
    )
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.jsonl", "encoder", "model"]
    (tmp_path / "a.jsonl").write_text('{"text": "a"}\n{"text": "b"}\n')
    shell("classify", model, "a.jsonl", "--out", "answers.jsonl")
    assert len((tmp_path / "answers.jsonl").read_text().splitlines()) == 2


def test_classify_tells_of_rows_that_it_cannot_use(shell: Shell, model: Path, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,text\n1,a\n2\n3,c\n")
    out, err = shell("classify", model, "a.csv", status=1)
    answers = [json.loads(line) for line in out.splitlines()]
    assert [answer.get("row") for answer in answers] == [None, 2, None]
    assert "a.csv, line 3: 1 cells where the header has 2" in answers[1]["error"]
    assert answers[1]["error"] in err
    assert "1 of 3 rows could not be classified" in err


def test_a_finished_classify_has_nothing_to_resume(shell: Shell, model: Path, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,text\n1,a\n2,b\n")
    use = ("classify", model, "a.csv", "--out", "out.csv", "--keep", "id", "--top", 1, "--resume")
    assert "out.csv: 2 rows; " in shell(*use)[1]
    written = (tmp_path / "out.csv").read_text()
    assert written.startswith("text,id,label.label,label.score,")
    assert shell(*use) == ("", "out.csv is finished; there is nothing to resume.\n")
    assert (tmp_path / "out.csv").read_text() == written
    assert sorted(p.name for p in tmp_path.glob("out*")) == ["out.csv"]


def test_export(shell: Shell, model: Path, tmp_path: Path) -> None:
    out, err = shell("export", model, "--to", "onnx", "--out", "exported")
    assert out == ""
    assert "logits differ by" in err
    assert "100.00% of labels are the same" in err
    assert "exported exists already" in shell.refuses("export", model, "--to", "onnx", "--out", "exported")
    assert "model-of-nobody" in shell.refuses("export", "model-of-nobody", "--to", "onnx", "--out", "other")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["encoder", "exported", "model"]


def test_evaluate(shell: Shell, model: Path, tmp_path: Path) -> None:
    texts, labels = films(30, seed=4)
    rows = "".join(json.dumps({"text": t, "label": y}) + "\n" for t, y in zip(texts, labels, strict=True))
    (tmp_path / "test.jsonl").write_text(rows)
    out, _ = shell("evaluate", model, "test.jsonl", "--json", "m.json")
    assert "accuracy" in out
    written = json.loads((tmp_path / "m.json").read_text())
    assert written["examples"] == 30
    assert {"kind", "accuracy", "macro_f1"} <= written["outputs"]["label"].keys()


def test_finetune_refuses_and_leaves_nothing(shell: Shell, encoder_directory: Path, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,label\na,x\nb,y\n")
    (tmp_path / "one.csv").write_text("text,label\na,x\nb,x\n")
    (tmp_path / "there").mkdir()
    before = sorted(tmp_path.rglob("*"))
    use = ("finetune", "--encoder", encoder_directory, "--train")
    assert "no column 'body'" in shell.refuses(*use, "a.csv", "--out", "out", "--text", "body")
    assert "only the one class 'x'" in shell.refuses(*use, "one.csv", "--out", "out")
    assert "there exists already" in shell.refuses(*use, "a.csv", "--out", "there")
    assert "there is no such file" in shell.refuses(*use, "b.csv", "--out", "out")
    assert "--output 'a=b:odd'" in shell.refuses(*use, "a.csv", "--out", "out", "--output", "a=b:odd")
    assert "no such directory" in shell.refuses("finetune", "--encoder", "./no", "--train", "a.csv", "--out", "out")
    assert sorted(tmp_path.rglob("*")) == before


def test_pretraining_refuses(shell: Shell, encoder_directory: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("\n\n")
    (tmp_path / "file.txt").write_text("some text. Another sentence.\n\nmore text")
    assert "Name one file" in shell.refuses("tokenizer", "train", "--vocab-size", "100", "--out", "tok")
    assert "too small" in shell.refuses("tokenizer", "train", "file.txt", "--vocab-size", "10", "--out", "tok")
    build = ("corpus", "build", "--out", "corpus", "--tokenizer", encoder_directory)
    assert "there is no text" in shell.refuses(*build, "empty.txt")
    assert "no corpus.json" in shell.refuses("pretrain", "--corpus", tmp_path, "--out", "out")
    assert "--processes is -1" in shell.refuses(*build, "file.txt", "--processes", "-1")
    long = ("corpus", "build", "--out", "x" * 300, "--tokenizer", encoder_directory)
    assert "this name is too long" in shell.refuses(*long, "file.txt")
    shell(*build, "file.txt")
    assert "corpus is finished; there is nothing to resume." in shell(*build, "file.txt", "--resume")[1]
    run = ("pretrain", "--corpus", "corpus", "--out", "out")
    assert shell.refuses(*run, "--learning-rate", "nan") == (
        "bothways: --learning-rate is nan; give a number above 0 and at most 1."
    )
    assert "--steps is 0; give 1 or more" in shell.refuses(*run, "--steps", "0")
    assert "not memory enough" in shell.refuses(
        *run, "--preset", "tiny", "--batch-tokens", 10**15, "--no-next-sentence", "--held-out", 0
    )
    assert "--batch-size is 0; give 1 or more" in shell.refuses(
        "finetune", "--train", "file.txt", "--out", "out", "--batch-size", "0"
    )
    assert "no preset 'huge'" in shell.refuses("pretrain", "--corpus", "corpus", "--preset", "huge", "--out", "out")
    assert not (tmp_path / "out").exists()


def test_distillation(shell: Shell, model: Path, encoder_directory: Path, tmp_path: Path) -> None:
    (tmp_path / "texts.csv").write_text("text\n" + "\n".join(films(250)[0]), "utf-8")
    run = ("distill", "texts.csv", "--encoder", encoder_directory, "--out", "out")
    assert "Name one file of texts" in shell.refuses("distill", "--teacher", model, "--out", "out")
    assert "there is no such directory" in shell.refuses(*run, "--teacher", "./no")
    assert "no.npy: there is no such file" in shell.refuses(*run, "--teacher", "no.npy")
    assert "--masked-texts is 2.0; give a share from 0 to 1" in shell.refuses(
        *run, "--teacher", model, "--masked-texts", 2
    )
    assert "--prompt is for an encoder" in shell.refuses(*run, "--teacher", "no.npy", "--prompt", "query: ")
    assert "no.csv: there is no such file" in shell.refuses(
        "distill", "no.csv", "--encoder", encoder_directory, "--out", "out", "--teacher", model
    )
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "out.run").exists()
    out, err = shell(*run, "--teacher", model, "--steps", 3)
    assert out == ""
    assert "out: 250 texts; agreement with the teacher on 2 texts held out: label " in err
    assert "out exists already" in shell.refuses(*run, "--teacher", model)
    assert "out is finished; there is nothing to resume." in shell(*run, "--teacher", model, "--resume")[1]
    answer = json.loads(shell("classify", "out", stdin=b"the film\n")[0])
    assert answer["outputs"]["label"]["label"] in ("positive", "negative")


def test_an_encoder_without_outputs_cannot_classify(shell: Shell, encoder_directory: Path) -> None:
    assert "no output layer that classifies" in shell.refuses("classify", encoder_directory, "-")


def test_a_wrong_flag_is_an_error(shell: Shell) -> None:
    _, err = shell("classify", "model", "--ouut", "x", status=2)
    assert "--ouut" in err


def test_a_full_disk(tmp_path: Path, model: Path) -> None:
    """A file size limit stands in for a full disk: the kernel refuses to write more. So does a device that is full."""
    script = f"ulimit -f 16; trap '' XFSZ; exec {sys.executable} -m bothways.cli classify {model} t.csv --out o.jsonl"
    (tmp_path / "t.csv").write_text("text\n" + "the film\n" * 2000)
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=os.environ, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 2
    assert "no space left" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.glob("*o.jsonl*"))
    script = f"exec {sys.executable} -m bothways.cli classify {model} t.csv > /dev/full"
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert (done.returncode, "Traceback" in done.stderr) == (2, False), done.stderr
    assert "standard output: no space left" in done.stderr


def test_public_names() -> None:
    import bothways

    assert set(bothways.__all__) == {"InputError", "TextClassifier", "Tokenizer", "__version__"}
    for name in bothways.__all__:
        assert getattr(bothways, name)


def test_names_in_brackets_are_names(shell: Shell, encoder_directory: Path, tmp_path: Path) -> None:
    texts, labels = films(40)
    rows = "".join(f"{t},{y}\n" for t, y in zip(texts, labels, strict=True))
    (tmp_path / "a.csv").write_text("text,rating[/5]\n" + rows)
    use = ("finetune", "--train", "a.csv", "--encoder", encoder_directory, "--out", "out", "--epochs", "1")
    out, _ = shell(*use, "--label", "rating[/5]")
    assert "rating[/5]" in out


def test_help_does_not_wait_for_torch() -> None:
    """Which takes seconds to import; what a verb needs is imported when it runs."""
    code = "import sys, bothways.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_explain_shows_words_to_a_person_and_writes_json(shell: Shell, model: Path, tmp_path: Path) -> None:
    shown, _ = shell("explain", model, "the film is [b]good[/b]", "--json", "why.json")
    assert "the film is [b]good[/b]" in shown
    assert "+" in shown
    said = json.loads((tmp_path / "why.json").read_text("utf-8"))
    assert said["explained"][0]["label"] in ("negative", "positive")
    assert len(said["words"]) == len(said["explained"][0]["contributions"]) == 11
    out, err = shell("explain", model, "-", "--json", "-", "--method", "gradients", stdin="书 worth".encode())
    assert [word["text"] for word in json.loads(out)["words"]] == ["书", "worth"]
    assert "Contributions add up to" in err
    out, _ = shell("explain", model, "the film", "--method", "attention", "--json", "-")
    assert len(json.loads(out)["attention"]) == 2
    out, _ = shell("explain", "zh-mini", "这家酒店很[MASK]。", "--method", "masked", "--top", 2, "--json", "-")
    assert [len(guess["tokens"]) for guess in json.loads(out)["guesses"]] == [2]


def test_explain_refuses(shell: Shell, model: Path, encoder_directory: Path, tmp_path: Path) -> None:
    assert "no label 'sad'" in shell.refuses("explain", model, "the film", "--label", "sad")
    assert "single texts" in shell.refuses("explain", model, "the film", "--pair", "the plot")
    assert "fine-tune it first" in shell.refuses("explain", encoder_directory, "the film")
    assert "masked words" in shell.refuses("explain", model, "the [MASK]", "--method", "masked")
    assert "--label belongs" in shell.refuses("explain", model, "the", "--method", "attention", "--label", "positive")
    assert "--nearest belongs" in shell.refuses("explain", model, "the", "--method", "masked", "--nearest", 2)
    assert "--top is 0" in shell.refuses("explain", model, "the", "--top", 0)
    assert "in use" in shell.refuses("explain", model, "the film", "--json", model / "config.json")


def test_finetune_keeps_examples_only_if_asked(shell: Shell, encoder_directory: Path, tmp_path: Path) -> None:
    rows = "".join(f"{text},{label}\n" for text, label in zip(*films(60), strict=True))
    (tmp_path / "train.csv").write_text("text,label\n" + rows, "utf-8")
    for out, flags in (("plain", ()), ("kept", ("--keep-examples",))):
        shell("finetune", "--train", "train.csv", "--encoder", encoder_directory, "--epochs", 1, "--out", out, *flags)
    assert not (tmp_path / "plain" / "examples.parquet").exists()
    (text, *_), (label, *_) = films(60)
    shown, _ = shell("explain", "kept", text, "--json", "-")
    assert len(json.loads(shown)["nearest"]) == 3
    assert "nearest" not in json.loads(shell("explain", "plain", text, "--json", "-")[0])
    assert "finetune --keep-examples keeps them" in shell("explain", "plain", text, "--nearest", 2)[1]
    assert {row["outputs"]["label"] for row in json.loads(shown)["nearest"]} <= {"negative", "positive"}
    assert label in ("negative", "positive")
