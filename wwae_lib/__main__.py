"""The command line: ``wwae {train,evaluate,reproduce,export,data} ...``, or ``python -m wwae_lib``."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import os
import shlex
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

try:
    from . import __version__, data, experiments, files, methods, own_images, processes, runs, training
    from .book.commands import add_accelerator, add_to, path
    from .measures import evaluation
except KeyboardInterrupt:  # torch takes its time to load
    print("interrupted before anything began", file=sys.stderr)
    sys.exit(128 + signal.SIGINT)

EXAMPLES = """\
examples:
  python -m wwae_lib data mnist                      fetch and check the images
  python -m wwae_lib train mnist --method wwae       train on 55,000 images (minutes on a GPU or a fast CPU)
  python -m wwae_lib train mnist --method wwae --embedded --epochs 2 --variant try
                                                     the same in seconds, on digits that need no download
  .venv/bin/torchrun --nproc-per-node 2 -m wwae_lib train mnist
                                                     the same as one process, on two GPUs or processors
  python -m wwae_lib reproduce --profile quick       every method in minutes, on the embedded digits
  python -m wwae_lib train --images FOLDER           on your own pictures
  python -m wwae_lib evaluate mnist/wwae/seed-0 --protocol brief
                                                     measure a recorded run as the book does, FID included

WWAE_DATA names the data folder, WWAE_RESULTS the results folder."""

TRAIN = """\
Train one experiment and record it as a run: weights, history, pictures, cheap metrics. A checkpoint is
written after every epoch; --resume continues from the last. A finished run of the same name is replaced
once the new one is complete; if its configuration differs, only with --restart. --variant keeps both. Runs
on the embedded digits are kept in the data folder, apart from the book's."""

EVALUATE = """\
Measure recorded runs from their stored weights: reconstruction, structure of codes, sharpness; and sets of
made images against held-out ones by Inception features: FID, for prior samples also KID, precision, recall,
density and coverage. Metrics are added to a run's record, set by set; what the record holds by the same
protocol is not measured again."""
PROTOCOLS = """\
full: 10,000 images against all held-out ones; extrapolated: the FID of 10,000 from 2,500, in a third of the
time; brief: 2,500 against every second one, whose numbers compare only with each other; selection: 2,500
against all, for choosing settings (default: %(default)s)"""
SETS = """\
made images to compare, separated by commas: prior, reconstruction, interpolation, gaussian, mixture (of ten),
mixture_100; training for training images, the floor; all; or none (default: %(default)s)"""
DUMP = """\
measure nothing; write the made images of one run and the real images as PNGs into FOLDER, for another tool
to compare"""

FIELDS = {
    "seed": "decides initial weights, order of images and noise",
    "variant": "suffix of the run's folder, to keep it apart from the method's default run",
    "network": f"size of encoder and decoder: {', '.join(experiments.NETWORKS)}",
    "latent": "dimension of the codes",
    "initial_std": "standard deviation of the codes before training",
    "penalty_weight": "weight of the penalty on the squared error summed over pixels: lambda of the WWAE, "
    "twice the decoder's variance for the VAE",
    "estimator": f"of the aggregated posterior's moments, WWAE only: {', '.join(experiments.ESTIMATORS)}",
    "epochs": "passes over the training images",
    "batch_size": "images a step",
    "learning_rate": "Adam's rate at the start; it falls to 0 along a cosine",
    "warm_up": "steps in which the rate rises to that",
}


# What to say of an interrupted command that says nothing itself.
INTERRUPTED = {
    "evaluate": "what was measured is in the record, and the same command goes on from there",
    "reproduce": "what was finished is kept, and the same command goes on from there",
}


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    whole = argparse.ArgumentParser(
        prog="wwae" if Path(sys.argv[0]).stem == "wwae" else "python -m wwae_lib",
        description="Train and measure Wasserstein-Wasserstein auto-encoders and their competitors.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    whole.add_argument("--version", action="version", version=f"wwae_lib {__version__}")
    commands = whole.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_train(commands)
    _add_evaluate(commands)
    add_to(commands)
    return whole


def _add_train(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser(
        "train", help="train one experiment and record it as a run", description=TRAIN
    )
    _add_images(command)
    command.add_argument(
        "--method", choices=tuple(methods.METHODS), default="wwae", help="default: %(default)s"
    )
    _add_fields(command)
    command.add_argument(
        "--embedded", action="store_true", help="MNIST only: 5,000 digits that need no download"
    )
    command.add_argument(
        "--held-out",
        choices=("test", "valid"),
        default="test",
        help="the split to measure on; valid is for choosing settings (default: %(default)s)",
    )
    add_accelerator(command)
    command.add_argument(
        "--precision",
        default="auto",
        choices=("auto", "32-true", "bf16-mixed"),
        help="auto: bfloat16 where the hardware computes in it (default: %(default)s)",
    )
    _add_record(command)
    command.set_defaults(run=run_train)


def _add_images(command: argparse.ArgumentParser) -> None:
    source = command.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "dataset", nargs="?", choices=tuple(data.DATASETS), help="which images, unless --images names yours"
    )
    source.add_argument(
        "--images", type=path, metavar="PATH", help="a folder of your own pictures, or an .npy file of them"
    )
    command.add_argument(
        "--side",
        type=int,
        choices=(28, 32, 64),
        help="with --images: the side in pixels that pictures are resized to (default: 32)",
    )
    command.add_argument("--grey", action="store_true", help="with --images: convert the pictures to grey")


def _add_fields(command: argparse.ArgumentParser) -> None:
    """An option for each field of an experiment."""
    ours = experiments.experiment("mnist", "wwae")
    for field in dataclasses.fields(experiments.Experiment):
        if field.name in FIELDS:
            command.add_argument(
                f"--{field.name.replace('_', '-')}",
                type={"int": int, "float": float, "str": str}[str(field.type)],
                help=f"{FIELDS[field.name]} (default: the book's; for the WWAE on MNIST "
                f"{getattr(ours, field.name)!r})",
            )


def _add_record(command: argparse.ArgumentParser) -> None:
    """Where the run is recorded, and what becomes of an earlier one."""
    again = command.add_mutually_exclusive_group()
    again.add_argument(
        "--resume", action="store_true", help="continue from the last checkpoint, if there is one"
    )
    again.add_argument(
        "--restart",
        action="store_true",
        help="throw away the checkpoint of an interrupted run; replace a finished run of other settings",
    )
    command.add_argument(
        "--results", type=path, help="results folder (default: the book's; for embedded digits the data's)"
    )


def _add_evaluate(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser(
        "evaluate", help="measure recorded runs: FID and more", description=EVALUATE
    )
    command.add_argument(
        "paths", nargs="+", metavar="RUN", help="a run's folder, or its name, such as mnist/wwae/seed-0"
    )
    protocols = tuple(evaluation.PROTOCOLS)
    command.add_argument("--protocol", choices=protocols, default="full", help=PROTOCOLS)
    command.add_argument("--sets", default="prior", metavar="NAMES", help=SETS)
    command.add_argument("--dump", type=path, metavar="FOLDER", help=DUMP)
    command.add_argument(
        "--images", type=path, metavar="PATH", help="where your pictures are, for a run on your own pictures"
    )
    command.add_argument("--redo", action="store_true", help="measure again what the record holds")
    add_accelerator(command)
    command.set_defaults(run=run_evaluate)


def run_train(arguments: argparse.Namespace) -> None:
    changes = {name: value for name in FIELDS if (value := getattr(arguments, name)) is not None}
    if arguments.dataset:  # a mistake is told before images are fetched
        experiments.experiment(arguments.dataset, arguments.method, **changes)
    images, test_images = _images_to_train(arguments)
    experiment = experiments.experiment(images.dataset, arguments.method, **changes)
    # for the little work of a tiny network one thread is as fast as several
    _choose_threads(1 if experiment.network == "tiny" else processes.free_cores())
    if first := processes.rank() == 0:
        print(f"{len(images):,} training images: {images.source}")
    results = arguments.results or _trials(images) or runs.results_root()
    draft = runs.Draft(results.expanduser() / experiment.name)
    if first and arguments.resume and not (draft.checkpoint.exists() or runs.exists(draft.path)):
        print(f"there is nothing to resume in {draft.path}: training from the start", file=sys.stderr)
    run = training.train(
        experiment,
        images,
        test_images,
        results=results,
        resume=arguments.resume,
        restart=arguments.restart,
        fabric=training.choose_fabric(arguments.accelerator, arguments.precision),
    )
    if first:
        show(run)
        if images.source.startswith("embedded") and not arguments.embedded:
            print("MNIST was not there: this run is of the 5,000 embedded digits, and none of the book's")
        print(f"to measure it: {_measuring(run, arguments.images, len(test_images))}")


def _measuring(run: runs.Run, own: Path | None, held_out: int) -> str:
    """The command that measures a run as far as so many held-out images allow."""
    words = ["python", "-m", "wwae_lib", "evaluate", str(run.path)]
    words += ["--images", str(own)] * bool(own)
    brief = evaluation.PROTOCOLS["brief"]
    if held_out // brief.step >= evaluation.MINIMUM_FID_IMAGES:
        words += ["--protocol", "brief"]
    elif held_out < evaluation.MINIMUM_FID_IMAGES:
        words += ["--sets", "none"]  # too few for an FID
    return shlex.join(words)


def _choose_threads(most: int) -> None:
    """Use at most so many threads, unless the user chose their number; say so if torch would use more."""
    import torch

    if "OMP_NUM_THREADS" in os.environ or most >= (usual := torch.get_num_threads()):
        return
    torch.set_num_threads(most)
    if processes.rank() == 0:
        print(
            f"using {most} of {usual} threads, which is faster for a small network or on a busy machine "
            "(set OMP_NUM_THREADS to choose another number)",
            file=sys.stderr,
        )


def _images_to_train(arguments: argparse.Namespace) -> tuple[data.Images, data.Images]:
    """The training images of the command line, and those held out."""
    if arguments.embedded and arguments.dataset != "mnist":
        raise ValueError("--embedded: only mnist has embedded digits")
    if arguments.images:
        parts = ("train", arguments.held_out)
        train, held_out = own_images.load_parts(arguments.images, parts, arguments.side or 32, arguments.grey)
        return train, held_out
    if arguments.side or arguments.grey:
        raise ValueError("--side and --grey are for your own pictures: name them by --images")
    load = data.embedded_digits if arguments.embedded else functools.partial(data.load, arguments.dataset)
    return load("train"), load(arguments.held_out)


def _trials(images: data.Images) -> Path | None:
    """Where runs on embedded digits or on own images are kept, apart from the book's; None: the default."""
    if "WWAE_RESULTS" in os.environ:
        return None
    if images.source.startswith("embedded"):
        return data.data_root() / "quick"  # with those of reproduce --profile quick
    return data.data_root() / "own" if images.dataset in data.OWN and runs.checkout() else None  # runs.APART


def run_evaluate(arguments: argparse.Namespace) -> None:
    sets = {"all": evaluation.SETS, "none": ()}.get(arguments.sets, arguments.sets.split(","))
    if arguments.dump and len(arguments.paths) > 1:
        raise ValueError(f"--dump writes the images of one run; got {len(arguments.paths)}")
    _choose_threads(processes.free_cores())
    device = training.choose_fabric(arguments.accelerator, "32-true").device
    for name in arguments.paths:
        run = runs.load(name)
        images, test_images = (_images_of(run, part, arguments.images) for part in ("train", "test"))
        options = {"protocol": arguments.protocol, "sets": sets, "device": device}
        if arguments.dump:
            for folder in evaluation.dump(run, images, test_images, arguments.dump, **options):
                print(f"{sum(1 for _ in folder.iterdir()):6,} images in {folder}")
            continue
        run = evaluation.evaluate(run, images, test_images, redo=arguments.redo, **options)
        if processes.rank() == 0:
            show(run)


def _images_of(run: runs.Run, part: str, own_folder: Path | None) -> data.Images:
    """The images that a run recorded as its ``train`` or its ``test`` images; ``own``: where own ones are."""
    split = run.record["data"][part]["split"]
    if own_folder:
        channels, _, side = data.get_dataset(run.experiment.dataset).shape
        return own_images.load(own_folder, split, side, grey=channels == 1)
    if run.record["data"]["source"].startswith("embedded"):
        return data.embedded_digits(split)
    return data.load(run.experiment.dataset, split, fall_back=False)


def show(run: runs.Run) -> None:
    print(f"run: {run.path}")
    for name, value in sorted(run.metrics.items()):
        print(f"  {name:22} {value:.4g}")


def main(words: list[str] | None = None) -> int:
    arguments = parser().parse_args(words)
    try:
        with _terminable():
            return arguments.run(arguments) or 0
    except BrokenPipeError:  # whoever reads, such as head, has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (data.DataError, files.RunError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        remedy = "pip install 'wwae_lib[data,measures]' brings what data and evaluate need"
        print(f"error: the package {error.name} is not installed; {remedy}", file=sys.stderr)
        return 1
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and "memory" not in str(error):
            raise
        remedy = "a smaller --batch-size, --latent or --network needs less"
        said = (str(error) or "no more is free").splitlines()[0]
        print(f"error: the memory does not suffice ({said}); {remedy}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as stopped:
        said = getattr(stopped, "__notes__", None) or [INTERRUPTED.get(arguments.command, "nothing was kept")]
        print(f"interrupted; {said[0]}", file=sys.stderr)
        return 128 + (signal.SIGTERM if isinstance(stopped, _Terminated) else signal.SIGINT)


class _Terminated(KeyboardInterrupt):
    """SIGTERM, which schedulers send before they kill, ends a command as Ctrl-C does."""


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    def stop(number: int, frame: object) -> None:
        raise _Terminated

    if threading.current_thread() is not threading.main_thread():  # where signals cannot be received
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


if __name__ == "__main__":
    sys.exit(main())
