"""Many generated rows through `bothways classify`: memory against rows, and SIGKILL at random moments.

Prints how memory grows with rows, when each kill fell, and whether every row was written exactly once, in order; exit
status 1 if not, or if the work was done before the last kill.
"""

import argparse
import json
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from bothways.formats.hub import locate
from bothways.formats.writing import save_model
from bothways.model.bert import Bert
from bothways.model.config import BertConfig, EncoderConfig, OutputConfig
from bothways.tables.rows import read_rows
from bothways.tables.writing import format_named
from bothways.tokenizer import Tokenizer

LINE = "the film was good bad long short and yet we liked nothing of it 很好 不错 酒店 太 长 了"
WORDS = LINE.split()


def make_classifier(directory: Path) -> None:
    """A classifier of one narrow layer with random weights."""
    tokenizer = Tokenizer.load(locate("en-mini"))
    encoder = EncoderConfig(
        vocab_size=tokenizer.vocab_size, hidden_size=64, layers=1, heads=1, feed_forward_size=64, max_positions=64
    )
    torch.manual_seed(0)
    output = OutputConfig(name="label", kind="single", labels=("bad", "good"))
    save_model(directory, Bert(BertConfig(encoder=encoder, outputs=(output,))).eval(), tokenizer)


def generated(rows: int) -> Iterator[dict[str, object]]:
    """Rows of 3 to 40 words, numbered."""
    chance = random.Random(0)
    for row in range(rows):
        yield {"id": row, "text": " ".join(chance.choices(WORDS, k=chance.randint(3, 40)))}


def make_table(path: Path, rows: int) -> None:
    """The rows as the format that the name tells."""
    written_as = format_named(path, {"id": int, "text": str})
    parts, waiting = path.with_name("parts"), []
    with parts.open("wb") as stream:
        for row in generated(rows):
            waiting.append(row)
            if len(waiting) == 8192 or row["id"] == rows - 1:
                stream.write(written_as.part(waiting, first=stream.tell() == 0))
                waiting = []
    written_as.finish(parts).rename(path)


def resident(process: subprocess.Popen[bytes]) -> float:
    """Megabytes of a process that are in memory."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{process.pid}/status").read_text())
    return int(found[1]) / 1e3 if found else 0.0


def rows_done(out: Path) -> int:
    """Rows that are safe."""
    try:
        return json.loads((out.with_name(f"{out.name}.run") / "journal.json").read_text())["done"]["rows"]
    except (OSError, ValueError):
        return 0


def watch(process: subprocess.Popen[bytes], out: Path, until: float) -> list[tuple[int, float]]:
    """(rows done, megabytes) as they were until it ended, or until so many seconds after its first rows."""
    seen, begun, first = [], None, rows_done(out)
    while process.poll() is None and (begun is None or time.monotonic() - begun < until):
        time.sleep(0.2)
        done = rows_done(out)
        if done > first:
            begun = begun or time.monotonic()
            seen.append((done, resident(process)))
    return [(rows, megabytes) for rows, megabytes in seen if megabytes]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10.0, help="longest time from first rows to the next kill")
    parser.add_argument("--model", type=Path, help="a classifier; unless given, a tiny one with random weights")
    parser.add_argument("--input", default="in.jsonl", help="its name tells the form: in.csv, in.parquet, in.jsonl.gz")
    parser.add_argument("--output", default="out.jsonl")
    arguments = parser.parse_args()
    chance = random.Random(0)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        model = arguments.model or root / "model"
        if arguments.model is None:
            make_classifier(model)
        table, out = root / arguments.input, root / arguments.output
        make_table(table, arguments.rows)
        command = [sys.executable, "-m", "bothways.cli", "classify", str(model), str(table), "--out", str(out)]
        command += ["--keep", "id", "--resume"]
        for kill in range(1, arguments.kills + 1):
            process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
            watch(process, out, until=chance.uniform(0.1, arguments.seconds))
            if process.poll() is not None:
                sys.exit(f"The work was done before kill {kill}; ask for more --rows.")
            process.send_signal(signal.SIGKILL)
            process.wait()
            print(f"kill {kill}: {rows_done(out):,} rows were safe", flush=True)
        process = subprocess.Popen(command)
        seen = watch(process, out, until=float("inf"))
        if process.wait():
            sys.exit(f"It ended with exit status {process.returncode}.")
        report(seen)
        ids = [int(cells["id"] if "id" in cells else cells["kept"]["id"]) for _, cells in read_rows(out)]
        right = ids == list(range(arguments.rows))
        print(f"{len(ids):,} rows of {arguments.rows:,}, each exactly once and in order: {'yes' if right else 'NO'}")
        sys.exit(0 if right else 1)


def report(seen: list[tuple[int, float]]) -> None:
    """How memory grew in the last run, its first quarter left out."""
    settled = np.array(seen[len(seen) // 4 :], float).reshape(-1, 2)
    if len(np.unique(settled[:, 0])) < 3:
        print("too short a run to tell how memory grows")
        return
    slope, _ = np.polyfit(settled[:, 0] / 1e6, settled[:, 1], 1)
    low, high = settled[:, 1].min(), settled[:, 1].max()
    rows = f"{settled[0, 0]:,.0f} to {settled[-1, 0]:,.0f} rows"
    print(f"memory {low:,.0f} to {high:,.0f} MB from {rows}; {slope:+.1f} MB for a million rows")


if __name__ == "__main__":
    main()
