"""Write the results of the recorded runs into README.md, between the two marks that enclose them.

python tools/render_readme.py [--check]      (--check changes nothing, and fails where README is behind)
"""

import argparse
import sys
from pathlib import Path

from wwae_lib import runs
from wwae_lib.book import dimensions, reproduce, tables
from wwae_lib.data import DATASETS

README = Path(__file__).resolve().parents[1] / "README.md"
START, END = "<!-- results:start -->", "<!-- results:end -->"


def rendered(text: str, recorded: list[runs.Run]) -> str:
    """The text, its results replaced by those of the runs.

    Raises:
        ValueError: the text has not each mark once, in their order.
    """
    if (text.count(START), text.count(END)) != (1, 1) or text.index(START) > text.index(END):
        raise ValueError(f"{README.name} needs {START!r} once and then {END!r} once")
    results = "\n\nNothing is measured yet.\n\n"
    if any("fid" in run.metrics for run in recorded):
        results = (
            f"\n\n{tables.metric_across_datasets(recorded, 'fid')}\n\n{tables.LEGEND}\n\n{beyond(recorded)}"
        )
    return text[: text.index(START)] + START + results + text[text.index(END) :]


def beyond(recorded: list[runs.Run]) -> str:
    """What other laws of codes than the prior bring.

    Where the chapter beyond two moments has no run of its own, a mixture that is fitted to the codes of the
    table's runs stands in.
    """
    parts = [
        f"**Beyond the prior.** On test images of {row.title}, after {reproduce.LONG[dataset]} epochs, the "
        "FID being extrapolated to 10,000 images ([how](book/beyond.ipynb)): "
        f"{dimensions.tested_summary(dataset)}\n\n"
        for dataset, row in DATASETS.items()
        if dimensions.tested(dataset)
    ]
    parts += [
        f"On {contest.title}, by the same protocol, of the runs of the table: {shown}\n\n"
        for contest in tables.contests(recorded)
        if not dimensions.tested(contest.dataset) and (shown := dimensions.fitted_summary(contest))
    ]
    return "".join(parts)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    before = README.read_text(encoding="utf-8")
    after = rendered(before, runs.recorded())
    if check and after != before:
        print("README.md is behind the records: run python tools/render_readme.py", file=sys.stderr)
        return 1
    if not check:
        README.write_text(after, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
