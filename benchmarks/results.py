"""What a benchmark measured, as a file of docs/results: with the processor, the date and the command."""

import argparse
import json
import sys
from datetime import datetime, timezone
from itertools import pairwise
from pathlib import Path
from typing import Any

from bothways.files.writing import write_atomically
from bothways.hardware import described

RESULTS = Path(__file__).parents[1] / "docs" / "results"


def add_save(parser: argparse.ArgumentParser) -> None:
    """The flag --save NAME."""
    parser.add_argument("--save", metavar="NAME", help="also write docs/results/NAME.json, from which the guide quotes")


def save(name: str | None, figures: dict[str, Any]) -> None:
    """Write `figures` (names → numbers, or the same again) under a name, if one was given."""
    if name is None:
        return
    words = ["DATA" if before == "--data" else word for before, word in pairwise(sys.argv)]
    command = " ".join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *words])
    written = {
        "command": command,
        "date": datetime.now(timezone.utc).date().isoformat(),
        "machine": described(),
        "figures": figures,
    }
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps(written, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write_atomically(RESULTS / f"{name}.json", text)
