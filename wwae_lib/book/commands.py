"""The commands that prepare, make and show what the book reports: data, reproduce and export."""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from .. import data, files, runs
from . import celeba, reproduce

__all__ = ["add_accelerator", "add_to", "path"]

TOLD = ("fid", "squared_error", "posterior_w2_squared", "train_minutes")  # at the end of reproduce
PROFILES = """\
quick: every method, embedded digits, minutes; long: what the book compares, compact networks, 30 to 40
epochs, three days; beyond: the dimensions that trials chose, 30 epochs, hours; full: all data sets, reference
networks, several seeds, and the ablations, on a GPU; ablations: the WWAE's choices, MNIST, an hour; the
others are measured on validation images, hours each: selection: five values of each method's setting;
remedies: the same for the WWAE's other estimators; dimensions: codes of several dimensions; convergence: the
main methods for 6 to 100 epochs (default: %(default)s)"""
ACCELERATORS = """\
auto (a CUDA GPU if there is one, else the processor), cpu, cuda, or mps, which we could not try (default:
%(default)s)"""


def path(text: str) -> Path:
    """A path of the command line; a shell leaves the ~ of --results=~/x as it is."""
    return Path(text).expanduser()


def add_accelerator(command: argparse.ArgumentParser) -> None:
    """The option --accelerator."""
    command.add_argument("--accelerator", default="auto", help=ACCELERATORS)


def add_to(commands: argparse._SubParsersAction) -> None:
    """Add the book's commands to the command line."""
    _add_reproduce(commands)
    command = commands.add_parser(
        "export",
        help="write what the book's explorers show of the recorded runs",
        description="Write the decoders and codes of the recorded runs as scripts that the book's explorers "
        "read, and the explorers' still figures. The same runs give the same bytes.",
    )
    command.add_argument("--results", type=path, help="results folder to read (default: the book's)")
    command.add_argument("--folder", type=path, help="folder to write to (default: the book's)")
    command.set_defaults(run=run_export)

    command = commands.add_parser(
        "data",
        help="fetch, check and prepare data sets",
        description="Make data sets ready in the data folder: download what is missing of MNIST and "
        "Fashion-MNIST where the network allows, check every file, and cut CelebA's faces into their cache. "
        "CelebA itself has to be put there by hand: whoever fetches it accepts its terms.",
    )
    command.add_argument("datasets", nargs="*", metavar="DATASET", help=f"any of {', '.join(data.DATASETS)}")
    command.set_defaults(run=run_data)


def _add_reproduce(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser(
        "reproduce",
        help="train and measure the whole comparison",
        description="Make all runs of a profile, each in a process of its own. What is finished is skipped, "
        "what was interrupted is resumed. A failure stops no other run; failures are listed at the end.",
    )
    command.add_argument("--profile", choices=tuple(reproduce.PROFILES), default="quick", help=PROFILES)
    command.add_argument(
        "--only", nargs="+", default=[], metavar="PATTERN", help="runs of these names, such as '*/vae/*'"
    )
    command.add_argument("--dry-run", action="store_true", help="list the runs and how far each is")
    command.add_argument(
        "--jobs", type=int, help="runs at a time (default: 1; for quick one a processor, 4 at most)"
    )
    command.add_argument(
        "--minutes",
        type=float,
        default=math.inf,
        help="stop after so many minutes; the same command continues from there",
    )
    add_accelerator(command)
    command.add_argument(
        "--results", type=path, help="results folder (default: the book's; for quick one in the data folder)"
    )
    command.set_defaults(run=run_reproduce)


def run_reproduce(arguments: argparse.Namespace) -> int:
    if arguments.jobs is None:
        arguments.jobs = min(4, os.cpu_count() or 1) if arguments.profile == "quick" else 1
    if arguments.jobs < 1:
        raise ValueError(f"--jobs is {arguments.jobs}; it must be at least 1")
    if not arguments.minutes > 0:
        raise ValueError(f"--minutes is {arguments.minutes}; it must be more than 0")
    profile = reproduce.PROFILES[arguments.profile]
    results = arguments.results or reproduce.results_folder(arguments.profile)
    selected = reproduce.select(profile, *arguments.only)
    print(f"{len(selected)} runs in {results}")
    if arguments.dry_run:
        for experiment in selected:
            print(f"  {experiment.name:40} {reproduce.state(experiment, results, profile).words}")
        return 0
    options = {name: getattr(arguments, name) for name in ("jobs", "accelerator", "minutes")}
    failures = reproduce.reproduce(profile, selected, results, **options)
    sound = [experiment for experiment in selected if experiment.name not in failures]
    finished = [
        results / experiment.name
        for experiment in sound
        if reproduce.state(experiment, results, profile).name == "finished"
    ]
    _show(finished)
    unfinished = f", {len(sound) - len(finished)} unfinished" * (len(sound) > len(finished))
    print(f"{len(finished)} finished, {len(failures)} failed{unfinished}")
    for name, why in failures.items():
        print(f"failed: {name}: {why}", file=sys.stderr)
    return 1 if failures else 0


def _show(folders: Sequence[Path]) -> None:
    """Print what was measured of runs."""
    from . import tables

    if folders:
        print(tables.table([runs.load(folder) for folder in folders], TOLD))
        print(f"images: {folders[0] / 'samples.png'}, and so on")


def run_export(arguments: argparse.Namespace) -> None:
    from . import explorers

    folder = arguments.folder or explorers.explorer_folder()
    results = arguments.results or runs.results_root()
    lacking = [name for name in (*explorers.SHOWN, "celeba") if not explorers.recorded(results, name)]
    if len(lacking) == len(explorers.SHOWN) + 1 or (lacking and not arguments.folder):
        raise files.RunError(
            f"{results} has no runs on {', '.join(lacking)} to show, and pictures of nothing would take the "
            "place of those there are; name another --results, or a --folder to write to"
        )
    for written in explorers.export(folder, results):
        print(f"{written.stat().st_size:9,} bytes  {written.name}")


def run_data(arguments: argparse.Namespace) -> None:
    if unknown := set(arguments.datasets) - set(data.DATASETS):
        raise data.DataError(f"there is no data set {', '.join(unknown)}; known: {', '.join(data.DATASETS)}")
    root = data.data_root()
    print(f"data folder: {root}")
    for dataset in arguments.datasets or data.DATASETS:
        if dataset == "celeba":
            celeba.prepare(root)
        for split in ("train", "valid", "test"):
            images = data.load(dataset, split, fall_back=False)
            print(f"{dataset} {split}: {len(images):,} images, checked ({images.source})")
        print(f"{dataset} terms: {data.DATASETS[dataset].licence}")
