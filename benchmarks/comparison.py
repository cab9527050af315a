"""Every method of `bothways compare` on the same rows of an English and a Chinese table, from counted words to BERT.

`--data` names a folder with a folder for each table (train, dev and test as .csv.xz, columns `text` and `label`). All
methods have the package's defaults; `--rows` are drawn at random from the training table.
"""

import argparse
import shutil
import tempfile
from pathlib import Path
from typing import Any

from bothways.comparison.measure import Measured
from bothways.comparison.methods import contenders
from bothways.comparison.run import compare, named
from results import add_save, save
from tables import TABLES


def figures_of(found: Measured) -> dict[str, Any]:
    """What is told of a method; nothing if it failed."""
    if found.accuracy is None:
        return {}
    return {
        "accuracy": round(found.accuracy, 4),
        "percent": round(100 * found.accuracy, 2),
        "fit_seconds": round(found.fit_seconds or 0, 2),
        "texts_per_second": round(found.texts_per_second or 0),
        "bytes": found.bytes or 0,
        "megabytes": round((found.bytes or 0) / 1e6, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--tables", nargs="+", default=["sst2", "thucnews"], choices=list(TABLES))
    parser.add_argument("--rows", type=int, default=1000, help="training rows")
    parser.add_argument("--seeds", type=int, default=1, help="runs of each method that depends on chance")
    parser.add_argument("--methods", help="a,b,c; all that need no file of vectors, if not given")
    parser.add_argument("--pages", type=Path, help="also keep the page of each table here, as compare-TABLE.html")
    add_save(parser)
    arguments = parser.parse_args()
    chosen = named(arguments.methods, contenders())
    figures: dict[str, Any] = {"train_rows": arguments.rows}
    print("| table | method | accuracy | training s | texts/s | MB |\n|---|---|---|---|---|---|", flush=True)
    for table in arguments.tables:
        folder = arguments.data / table
        with tempfile.TemporaryDirectory() as scratch:
            found = compare(
                chosen,
                folder / "train.csv.xz",
                folder / f"{TABLES[table].evaluated_on}.csv.xz",
                Path(scratch) / "comparison",
                rows=arguments.rows,
                seeds=arguments.seeds,
            )
            if arguments.pages is not None:
                shutil.copy(Path(scratch) / "comparison" / "report.html", arguments.pages / f"compare-{table}.html")
        figures[table] = {"test_rows": found.test_rows}
        for one in found.results:
            told = figures_of(one)
            figures[table][one.method] = told
            cells = (
                f"{told['accuracy']:.1%} | {told['fit_seconds']:.1f} | {told['texts_per_second']:,} "
                f"| {told['megabytes']:.1f}"
                if told
                else f"{one.error} | | |"
            )
            print(f"| {table} | {one.title.en} | {cells} |", flush=True)
    save(arguments.save, figures)


if __name__ == "__main__":
    main()
