"""The command line: one function per verb. What a verb does lives in its room; here are only its words.

Nothing that is imported here may import torch: all of it is there before `bothways --help` says a word.
"""

from __future__ import annotations

import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import tyro

from bothways.cli.classifiers import check, compare, evaluate, finetune
from bothways.cli.encoders import corpus_build, distill, pretrain, tokenizer_train
from bothways.cli.use import classify, explain, export, push, serve
from bothways.errors import InputError, Stopped
from bothways.terminal import in_one_sentence, say, stopped_by_signals, usable_streams


def demo(out: Path = Path("bothways-demo"), overwrite: bool = False) -> None:
    """Pre-train, fine-tune and compare on real reviews, Chinese and English, in a few minutes.

    Args:
        out: Directory for the models.
        overwrite: Replace the directory if it exists.
    """
    from bothways.demo import run

    run(out, overwrite=overwrite)


def info() -> None:
    """What this machine and this installation can do, and what was chosen."""
    from bothways.info import sections

    with in_one_sentence():
        told = sections()
    for section, rows in told.items():
        print(section)
        width = max(map(len, rows), default=0)
        for name, what in rows.items():
            print(f"  {name:{width}}  {what}")


VERBS: dict[str, Callable[..., None]] = {
    "tokenizer train": tokenizer_train,
    "corpus build": corpus_build,
    "pretrain": pretrain,
    "distill": distill,
    "finetune": finetune,
    "evaluate": evaluate,
    "classify": classify,
    "explain": explain,
    "export": export,
    "push": push,
    "check": check,
    "compare": compare,
    "serve": serve,
    "demo": demo,
    "info": info,
}


def require_flags_once(words: Sequence[str]) -> None:
    """Raise InputError for a flag that is given twice, of which the last would win; --output may be repeated."""
    flags = [word.split("=")[0].replace("_", "-") for word in words if re.match("--[a-z]", word)]
    for flag, count in Counter(flags).items():
        if count > 1 and flag != "--output":
            raise InputError(f"{flag} is given {count} times; give it once.")


def main() -> None:
    """Run the verb named on the command line; a mistake of the user ends in one sentence and exit status 2."""
    app = tyro.extras.SubcommandApp()
    for name, verb in VERBS.items():
        app.command(name=name)(verb)
    words = sys.argv[1:]
    if " ".join(words[:2]) in VERBS:  # tyro takes a verb of two words as one argument
        words[:2] = [" ".join(words[:2])]
    try:
        with usable_streams(), stopped_by_signals(), in_one_sentence():
            require_flags_once(words)
            app.cli(prog="bothways", description="All of BERT for people who classify text.", args=words)
    except MemoryError:
        say("bothways: there is not memory enough for this; ask for less at a time, or use a larger machine.")
        sys.exit(2)
    except Stopped as stopped:
        if os.environ.get("RANK", "0") == "0":
            say(f"bothways: {stopped} The same command with --resume goes on.")
        sys.exit(143)
    except KeyboardInterrupt:
        say("bothways: stopped.")
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
