"""Write what the recorded trials chose into ``CHOSEN`` of ``wwae_lib/book/selection.py``.

    python tools/choose_settings.py [--results R]

A method is in it once all its trials on a data set are recorded and measured; those that are not yet complete
are named, with the trials that are missing.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from pathlib import Path

from wwae_lib import data
from wwae_lib.book import selection

MODULE = Path(__file__).resolve().parents[1] / "wwae_lib" / "book" / "selection.py"
TABLE = re.compile(r"(?<=^CHOSEN: dict\[str, dict\[str, Any\]\] = \{\n).*?(?=^\}$)", re.MULTILINE | re.DOTALL)


def entry(dataset: str, method: str) -> str:
    """A row of the table, as it is written there; empty where trials are missing, which is said."""
    wanted = selection.factors(dataset, method)
    there = [run for run in selection.recorded_trials(dataset, method) if "fid" in run.metrics]
    if len(there) < len(wanted):
        print(f"{dataset}/{method}: {len(there)} of {len(wanted)} trials", file=sys.stderr)
        return ""
    best, field = selection.best_trial(dataset, method), selection.setting(dataset, method).field
    warm_up = ', "warm_up": WARM_UP' if best.experiment.warm_up else ""
    return f'    "{dataset}/{method}": {{"{field}": {getattr(best.experiment, field)!r}{warm_up}}},\n'


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--results", type=Path, help="results folder (default: the book's)")
    if results := parser.parse_args().results:
        os.environ["WWAE_RESULTS"] = str(results.absolute())
    rows = [
        entry(dataset, method)
        for dataset in data.DATASETS
        for method in selection.compared_methods(dataset)
        if selection.setting(dataset, method).centre
    ]
    text = MODULE.read_text(encoding="utf-8")
    MODULE.write_text(TABLE.sub("".join(rows).replace("\\", r"\\"), text), encoding="utf-8")


if __name__ == "__main__":
    main()
