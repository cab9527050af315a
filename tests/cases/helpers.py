"""What the tests of this folder share: running verbs, refusals, tiny tables and tiny published directories."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import films
from safetensors.torch import load_file, save_file

from bothways import InputError, cli

SOURCE = Path(cli.__file__).parents[1]
"""The folder that holds the package, for processes of their own."""
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = ["good", "不错", "worth", "worse", "空洞", "thin", "the", "film", "scene", "酒店", "书", "is", "plot", "with"]
VOCABULARY = list(
    dict.fromkeys(
        [
            *SPECIAL,
            *WORDS,
            *"不错空洞酒店书很我爱北京上海人在！，。abcdefghijklmnopqrstuvwxyzäöéüMS0123456789[]",
            *(f"##{letter}" for letter in "abcdefghijklmnopqrstuvwxyzäöéü0123456789京爱北"),
        ]
    )
)
"""Enough of both languages that hardly a test meets [UNK]."""


# ── Running verbs ────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Ended:
    """How a verb ended and what it said."""

    status: int
    out: str
    err: str

    @property
    def answers(self) -> list[dict[str, Any]]:
        """The lines of standard output as JSON, which knows no NaN."""

        def refuse(constant: str) -> None:
            raise AssertionError(f"{constant} is not JSON")

        return [json.loads(line, parse_constant=refuse) for line in self.out.splitlines()]


def run(*words: object, stdin: bytes = b"") -> Ended:
    """A verb in this process, as the `bothways` command would run it."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["bothways", *map(str, words)])
        patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8"))
        status = 0
        with redirect_stdout(out), redirect_stderr(err):
            try:
                cli.main()
            except SystemExit as stop:
                status = int(stop.code or 0)
    texts = [stream.buffer.getvalue().decode("utf-8") for stream in (out, err)]  # type: ignore[attr-defined]
    return Ended(status, *texts)


def succeeds(*words: object, stdin: bytes = b"") -> Ended:
    """A verb that must end well."""
    ended = run(*words, stdin=stdin)
    assert ended.status == 0, ended.err
    return ended


def refuses(*words: object, says: Iterable[str], stdin: bytes = b"") -> str:
    """The one sentence with which a verb refuses: status 2, nothing on standard output, nothing written or destroyed
    in the working directory, nothing trained. `says` are patterns that the sentence must match."""
    before = contents(Path.cwd())
    ended = run(*words, stdin=stdin)
    after = contents(Path.cwd())
    sentence = check_refusal(ended, says)
    assert after == before, f"written or destroyed: {sorted(set(after.items()) ^ set(before.items()))}"
    return sentence


def check_refusal(ended: Ended, says: Iterable[str]) -> str:
    """The sentence of a verb that refused as it should."""
    assert ended.status == 2, f"status {ended.status}, not 2\n{ended.out}{ended.err}"
    assert ended.out == ""
    assert "Traceback" not in ended.err
    sentence = ended.err.rstrip("\n").splitlines()[-1]
    assert sentence.startswith("bothways: "), ended.err
    assert ended.err.count("bothways: ") == 1, ended.err
    assert "fine-tuning" not in ended.err.removesuffix(f"{sentence}\n"), f"training had begun:\n{ended.err}"
    check_sentence(sentence, says)
    return sentence


def check_sentence(sentence: str, says: Iterable[str]) -> None:
    """Patterns that a sentence must match, whatever their case."""
    assert "\n" not in sentence
    for pattern in says:
        assert re.search(pattern, sentence, re.IGNORECASE), f"{pattern!r} is not in: {sentence}"


def refuses_in_python(action: Callable[[], Any], says: Iterable[str]) -> str:
    """The one sentence of the InputError that a call raises."""
    with pytest.raises(InputError) as error:
        action()
    sentence = str(error.value)
    check_sentence(sentence, says)
    return sentence


def environment(**changes: str) -> dict[str, str]:
    """The environment of a process that runs this package and no hub."""
    return {**os.environ, "PYTHONPATH": str(SOURCE), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", **changes}


def process(*words: object, stdin: bytes = b"", env: Mapping[str, str] | None = None, redirected: str = "") -> Ended:
    """A verb in a process of its own; `redirected` is what a shell would do with its streams, such as `<&-`."""
    script = f'exec "$@" {redirected}'
    done = subprocess.run(
        ["bash", "-c", script, "bash", sys.executable, "-m", "bothways.cli", *map(str, words)],
        input=stdin,
        env=environment(**(env or {})),
        capture_output=True,
        timeout=120,
    )
    return Ended(done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace"))


def contents(folder: Path) -> dict[str, str]:
    """Every file and directory in a folder with a digest of what it holds."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        for path in sorted(folder.rglob("*"))
    }


# ── Tables ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def review_rows(count: int = 40, seed: int = 0) -> list[dict[str, str]]:
    """Made-up reviews as rows of a table."""
    texts, labels = films(count, seed)
    return [{"text": text, "label": label} for text, label in zip(texts, labels, strict=True)]


def write_csv(path: Path | str, rows: Sequence[Sequence[object]], separator: str = ",") -> Path:
    """Rows, the header first, as CSV or TSV in UTF-8."""
    with Path(path).open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream, delimiter=separator, lineterminator="\n").writerows(rows)
    return Path(path)


def write_rows(path: Path | str, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Rows of equal columns as the format that the name tells."""
    path = Path(path)
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    elif path.suffix == ".parquet":
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(rows)), path)
    else:
        header = list(rows[0])
        cells = [header, *([row[name] for name in header] for row in rows)]
        write_csv(path, cells, "\t" if path.suffix == ".tsv" else ",")
    return path


def csv_of(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as the text of a CSV file."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerows([list(rows[0]), *(list(row.values()) for row in rows)])
    return stream.getvalue()


def metrics_of(directory: Path | str) -> dict[str, Any]:
    """What `finetune` wrote into its directory."""
    return json.loads((Path(directory) / "metrics.json").read_text("utf-8"))


def labels_of(directory: Path | str, output: int = 0) -> list[str]:
    """The labels of an output layer in a model directory."""
    return json.loads((Path(directory) / "config.json").read_text("utf-8"))["bothways"]["outputs"][output]["labels"]


# ── Published directories ────────────────────────────────────────────────────────────────────────────────────────────


def tiny_config(**changes: Any) -> Any:
    """The settings of a tiny BERT as `transformers` has them."""
    from transformers import BertConfig

    settings: dict[str, Any] = {
        "vocab_size": len(VOCABULARY),
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "max_position_embeddings": 64,
        "initializer_range": 0.2,
    }
    return BertConfig(**{**settings, **changes})


def publish(directory: Path, kind: str = "BertForSequenceClassification", seed: int = 0, **changes: Any) -> Path:
    """A tiny random model of a class of `transformers`, saved by it, with a tokenizer.json."""
    import transformers

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = getattr(transformers, kind)(tiny_config(**changes)).eval()
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                torch.nn.init.normal_(parameter, std=0.2)
        model.save_pretrained(directory)
    tokenizer = transformers.BertTokenizer(vocab={token: index for index, token in enumerate(VOCABULARY)})
    tokenizer.save_pretrained(directory)
    return directory


def write_vocabulary(directory: Path, tokens: Sequence[str] = VOCABULARY, **settings: Any) -> Path:
    """The tokenizer of a directory as the older files have it: vocab.txt and tokenizer_config.json."""
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        (directory / name).unlink(missing_ok=True)
    (directory / "vocab.txt").write_text("\n".join(tokens) + "\n", "utf-8")
    write_json(directory / "tokenizer_config.json", {"tokenizer_class": "BertTokenizer", **settings})
    return directory


def write_json(path: Path, content: Any) -> None:
    """A JSON file."""
    path.write_text(json.dumps(content, ensure_ascii=False), "utf-8")


def edit_json(path: Path, **changes: Any) -> None:
    """Change or add keys of a JSON file."""
    write_json(path, json.loads(path.read_text("utf-8")) | changes)


def edit_weights(path: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor] | None]) -> None:
    """Change the tensors of a safetensors file."""
    tensors = load_file(path)
    save_file(change(tensors) or tensors, path, metadata={"format": "pt"})


def reference(directory: Path, texts: Sequence[str]) -> np.ndarray:
    """Probabilities as `transformers` has them, one text at a time. (texts, labels)"""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(directory)
    model = AutoModelForSequenceClassification.from_pretrained(directory).eval()
    with torch.inference_mode():
        logits = [model(**tokenizer(text, return_tensors="pt")).logits[0] for text in texts]
    return torch.stack(logits).softmax(-1).numpy()
