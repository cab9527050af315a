"""One pre-training run killed with SIGKILL at random moments and taken up again each time, against one left alone.

Prints when each kill fell, and whether the final weights of both are the same bit for bit; exit status 1 if not, or if
the run was over before the last kill.
"""

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from safetensors.torch import load_file

from bothways.corpus.build import build_corpus
from bothways.demo import english_reviews
from bothways.tokenizer import Tokenizer


def newest(run: Path) -> str:
    """The last checkpoint of a run."""
    return max((path.name for path in (run / "checkpoints").glob("update-*")), default="none")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=8.0, help="longest time from a start to the next kill")
    parser.add_argument("--steps", type=int, default=900)
    parser.add_argument("--preset", default="tiny")
    arguments = parser.parse_args()
    chance = random.Random(0)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        reviews = [[text] for text, _ in english_reviews()[:5_000]]
        tokenizer = Tokenizer.train((review[0] for review in reviews), 8_000)
        build_corpus(reviews, tokenizer, root / "corpus")
        command = [sys.executable, "-m", "bothways.cli", "pretrain", "--corpus", str(root / "corpus")]
        command += ["--preset", arguments.preset, "--steps", str(arguments.steps), "--batch-tokens", "4096"]
        command += ["--evaluate-every", "100", "--checkpoint-minutes", "0.02", "--out"]
        subprocess.run([*command, str(root / "alone")], check=True, stderr=subprocess.DEVNULL)
        kills = 0
        while True:
            process = subprocess.Popen([*command, str(root / "killed"), "--resume"], stderr=subprocess.DEVNULL)
            wait = chance.uniform(0.2, arguments.seconds) if kills < arguments.kills else None
            try:
                process.wait(wait)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.wait()
                kills += 1
                print(f"kill {kills:2} after {wait:4.1f} s, last checkpoint {newest(root / 'killed.run')}", flush=True)
                time.sleep(0.1)
                continue
            if process.returncode:
                sys.exit(f"The run ended with exit status {process.returncode} after {kills} kills.")
            break
        ours, others = (load_file(root / name / "model.safetensors") for name in ("killed", "alone"))
        same = ours.keys() == others.keys() and all(torch.equal(ours[name], others[name]) for name in ours)
        print(f"{kills} kills in {arguments.steps} updates; final weights bit-identical: {'yes' if same else 'NO'}")
        if kills < arguments.kills:
            sys.exit(f"The run was over before kill {kills + 1}; ask for more --steps.")
        sys.exit(0 if same else 1)


if __name__ == "__main__":
    main()
