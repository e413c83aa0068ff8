"""Which runs make the comparison, and how are they all made, killed and gone on with?

A profile is a matrix of data sets, methods and seeds. Every run is trained in a process of its own, so that
one that fails or is killed stops no other; what is finished is skipped, what was interrupted is resumed.
How far each is is read from its folder.
"""

from __future__ import annotations

import collections
import contextlib
import itertools
import math
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import filelock
import threadpoolctl
import torch
from tqdm import tqdm

from . import data, evaluation, processes, runs, selection, training
from .experiments import Experiment, ablations, experiment
from .methods import METHODS

__all__ = ["PROFILES", "Profile", "State", "records", "reproduce", "results_of", "select", "state"]

GREY = ("mnist", "fashion_mnist")
# What measuring a FID costs, next to training: in passes of MNIST's 60,000 images through a compact network.
FID_PASSES = 20


@dataclass(frozen=True)
class Profile:
    """Experiments, and how they are measured.

    Attributes:
        experiments: what to train, in the order of its value.
        embedded: on the embedded digits, which need no data folder.
        sets: images whose Frechet inception distance is measured, of :data:`wwae_lib.evaluation.SETS`.
        protocol: by which protocol (:data:`wwae_lib.evaluation.PROTOCOLS`).
        held_out: on which split: ``test``, or ``valid`` where settings are chosen.
        folder: where its runs are recorded, below the results folder.
        search: whether the recorded trials ask for more of them (:func:`wwae_lib.selection.further`).
    """

    experiments: tuple[Experiment, ...]
    embedded: bool = False
    sets: tuple[str, ...] = ("prior",)
    protocol: str = "full"
    held_out: str = "test"
    folder: str = ""
    search: bool = False


# A WGAN-GP's generator moves at every fifth batch, so that it gets so many times as many epochs.
LONGER = {"wgan_gp": 3}
# What a run of the comparison is measured on: new images, and what separates them from real ones.
MEASURED = ("prior", "reconstruction", "gaussian", "mixture", "training")


def _contenders(
    dataset: str, seeds: Iterable[int], epochs: int, longer: dict[str, int] = LONGER, **changes: Any
) -> Iterator[Experiment]:
    """Every method, seed after seed."""
    for seed in seeds:
        for method in METHODS:
            if (dataset, method) != ("celeba", "vae_bernoulli"):  # whose pixels are no shares of white
                made = {"seed": seed, "epochs": epochs * longer.get(method, 1)} | changes
                yield experiment(dataset, method, **made)


def _ablations(**changes: Any) -> tuple[Experiment, ...]:
    """Every experiment of the ablations, once."""
    return tuple(dict.fromkeys(itertools.chain(*ablations(**changes).values())))


def _grey(seeds: Iterable[int], epochs: int, **changes: Any) -> list[Experiment]:
    return [one for dataset in GREY for one in _contenders(dataset, seeds, epochs, **changes)]


def _faces(seeds: Iterable[int], epochs: int) -> list[Experiment]:
    """Methods of every kind on CelebA, where each takes long."""
    methods = ("wwae", "vae_learned", "ae", "swae", "wae_mmd", "gan")
    return [experiment("celeba", method, seed=seed, epochs=epochs) for seed in seeds for method in methods]


REFERENCE = {"network": "reference", "variant": "reference"}
PROFILES = {
    "quick": Profile(tuple(_contenders("mnist", (0,), 2, network="tiny")), embedded=True, sets=()),
    "cpu": Profile(
        (
            *_grey((0,), 6),
            *(
                experiment(dataset, method, seed=seed)
                for seed in (1, 2)
                for dataset in GREY
                for method in ("wwae", "vae", "gan")
            ),
            *(experiment("celeba", method, seed=seed) for seed in range(3) for method in ("wwae", "vae")),
        ),
        protocol="brief",
    ),
    # It takes the place of cpu, one data set after another, as soon as all of a data set is measured.
    "long": Profile(
        (
            *_faces((0,), 40),
            *_grey((0,), 30),
            *_faces((1, 2), 40),
            *(one for one in _grey((1, 2), 30) if one.method != "wgan_gp"),
        ),
        sets=MEASURED,
        folder="next",
    ),
    "selection": Profile(
        tuple(itertools.chain(*map(selection.trials, data.DATASETS), *map(selection.alike, data.DATASETS))),
        protocol="selection",
        held_out="valid",
        folder=selection.FOLDER,
        search=True,
    ),
    "remedies": Profile(
        tuple(itertools.chain(*map(selection.remedies, data.DATASETS))),
        protocol="selection",
        held_out="valid",
        folder=selection.FOLDER,
        search=True,
    ),
    "convergence": Profile(
        tuple(itertools.chain(*map(selection.lengths, data.DATASETS))),
        sets=("prior", "gaussian", "training"),
        protocol="selection",
        held_out="valid",
        folder=selection.FOLDER,
    ),
    "ablations": Profile(_ablations(), sets=()),
    "full": Profile(
        (
            *_grey(range(5), 50, **REFERENCE),
            *_contenders("celeba", range(3), 60, {"wgan_gp": 2}, **REFERENCE),
            *_ablations(prefix="reference_", network="reference", epochs=15),
        ),
        sets=MEASURED,
    ),
}


class State(NamedTuple):
    """How far a run is: one of ``finished``, ``to measure``, ``to train``, ``interrupted``, ``differs``."""

    name: str
    epochs: int
    words: str


def results_of(profile: str) -> Path:
    """Where a profile's runs are recorded by default: those on embedded digits are none of the book's."""
    chosen = PROFILES[profile]
    return data.data_root() / profile if chosen.embedded else runs.results_root() / chosen.folder


def select(profile: Profile, *patterns: str) -> tuple[Experiment, ...]:
    """The experiments of these names (:func:`wwae_lib.runs.fits`), in the profile's order; of none, all.

    Raises:
        ValueError: no experiment's name is one of the patterns.
    """
    experiments = profile.experiments
    if profile.search:
        experiments = (*experiments, *selection.further(experiments))
    for pattern in patterns:
        if not any(runs.fits(one.name, [pattern]) for one in experiments):
            raise ValueError(f"no run's name is {pattern!r}; --dry-run without --only lists them")
    return tuple(one for one in experiments if runs.fits(one.name, patterns or ("*",)))


def state(chosen: Experiment, results: Path, profile: Profile) -> State:
    """How far a profile's run is, read from its folder.

    Raises:
        RunError: what is there is damaged.
    """
    path = results / chosen.name
    draft = runs.Draft(path)
    if draft.checkpoint.exists():
        epochs = epochs_done(draft)
        return State("interrupted", epochs, f"resumes after epoch {epochs} of {chosen.epochs}")
    runs.settle(path)
    if not (path / "run.json").exists():
        return State("to train", 0, f"{chosen.epochs} epochs to train")
    run = runs.load(path)
    was, now = run.experiment.as_dict(), chosen.as_dict()
    if changed := [f"{key} was {was[key]!r}, is now {now[key]!r}" for key in now if was[key] != now[key]]:
        words = f"{'; '.join(changed)}: move {path} away, or choose other --results"
        return State("differs", 0, words)
    if left := unmeasured(run, profile):
        return State("to measure", chosen.epochs, f"trained, FID to measure: {', '.join(left)}")
    return State("finished", chosen.epochs, "finished")


def epochs_done(draft: runs.Draft) -> int:
    """Finished epochs of a draft, as its history tells."""
    try:
        return (draft.folder / "metrics.jsonl").read_text().count("\n")
    except OSError:  # none yet, or being replaced
        return 0


def reproduce(
    profile: Profile,
    experiments: Sequence[Experiment],
    results: Path,
    *,
    jobs: int = 1,
    accelerator: str = "auto",
    minutes: float = math.inf,
    progress: bool = True,
) -> dict[str, str]:
    """Make every run that is not finished, ``jobs`` at a time.

    Args:
        profile: where images come from and whether the FID is measured.
        experiments: what to run, in this order.
        results: the results folder.
        jobs: runs at a time, which share the processor's cores.
        accelerator: as :func:`wwae_lib.training.choose_fabric`.
        minutes: stop after as many, as if interrupted: for machines that are lent by the slice.
        progress: show a progress bar.

    Returns:
        What went wrong, by the run's name; what there was no time for is no failure.

    Raises:
        RunError: another ``reproduce`` is at work in that folder.
    """
    with alone(results):
        return _reproduce(profile, experiments, results, jobs, accelerator, minutes, progress)


@contextlib.contextmanager
def alone(results: Path) -> Iterator[None]:
    """Hold the folder's lock, which a killed process gives back by itself: two would train the same runs."""
    results.mkdir(parents=True, exist_ok=True)
    try:
        held = filelock.FileLock(results / ".reproduce.lock").acquire(timeout=0)
    except filelock.Timeout as error:
        raise runs.RunError(f"another reproduce is at work in {results}; wait for it, or end it") from error
    with held:
        yield


def _reproduce(
    profile: Profile,
    experiments: Sequence[Experiment],
    results: Path,
    jobs: int,
    accelerator: str,
    minutes: float,
    progress: bool,
) -> dict[str, str]:
    failures: dict[str, str] = {}
    waiting: collections.deque[Experiment] = collections.deque()
    for chosen in experiments:
        try:
            found = state(chosen, results, profile)
        except runs.RunError as error:
            failures[chosen.name] = str(error)
            continue
        if found.name == "differs":
            failures[chosen.name] = found.words
        elif found.name != "finished":
            waiting.append(chosen)
    view = _View(profile, waiting, results, len(failures), progress)
    running: dict[Experiment, _Worker] = {}
    cores = (os.cpu_count() or 1) if jobs > 1 else processes.free_cores()
    threads = 0 if jobs == 1 and "OMP_NUM_THREADS" in os.environ else max(1, cores // jobs)
    if all(one.network == "tiny" for one in experiments):
        threads = 1  # which is as fast for so little work, and far faster beside other work
    end = time.monotonic() + 60 * minutes
    try:
        while (waiting or running) and time.monotonic() < end:
            while waiting and len(running) < jobs:
                chosen = waiting.popleft()
                running[chosen] = _Worker(chosen, profile, results, accelerator, threads)
            multiprocessing.connection.wait([worker.process.sentinel for worker in running.values()], 0.5)
            for chosen in [one for one, worker in running.items() if not worker.process.is_alive()]:
                if failure := running.pop(chosen).failure():
                    failures[chosen.name] = failure
                view.ended(chosen, bool(failure))
            view.show(running)
    finally:
        for worker in running.values():
            worker.process.terminate()  # a run survives that as it does any kill
        for worker in running.values():
            worker.process.join()
        view.bar.close()
    return failures


class _View:
    """One progress bar for all runs, in passes of images weighted by their pixels."""

    def __init__(self, profile: Profile, todo: Sequence[Experiment], results: Path, failed: int, shown: bool):
        self.profile, self.results = profile, results
        self.todo = set(todo)
        self.count, self.failed = len(todo), failed
        self.passed = 0.0  # of runs that ended
        total = sum(map(self.cost, todo))
        self.bar = tqdm(
            total=total,
            initial=sum(map(self.done, todo)),
            bar_format="{percentage:3.0f}%|{bar}| {elapsed}, {remaining} left{postfix}",
            disable=not shown,
        )
        self.show(())

    def epoch(self, chosen: Experiment) -> float:
        """Cost of an epoch: pixels of a pass, in those of one over MNIST."""
        channels, height, width = data.DATASETS[chosen.dataset].shape
        images = 4_000 if self.profile.embedded else data.DATASETS[chosen.dataset].sizes["train"]
        return images * channels * height * width / (60_000 * 784)

    def cost(self, chosen: Experiment) -> float:
        return chosen.epochs * self.epoch(chosen) + FID_PASSES * len(self.profile.sets)

    def done(self, chosen: Experiment) -> float:
        path = self.results / chosen.name
        draft = runs.Draft(path)
        trained = chosen.epochs if (path / "run.json").exists() and not draft.folder.exists() else None
        return (epochs_done(draft) if trained is None else trained) * self.epoch(chosen)

    def ended(self, chosen: Experiment, failed: bool) -> None:
        self.todo.discard(chosen)
        self.passed += self.cost(chosen)
        self.failed += failed

    def show(self, running: Sequence[Experiment]) -> None:
        self.bar.n = self.passed + sum(map(self.done, self.todo))
        words = [f"{self.count - len(self.todo)} of {self.count} runs"]
        words += [f"{self.failed} failed"] * bool(self.failed) + [one.name for one in running]
        self.bar.set_postfix_str(", ".join(words))


class _Worker:
    """A process that makes one run."""

    def __init__(self, chosen: Experiment, profile: Profile, results: Path, accelerator: str, threads: int):
        ways = multiprocessing.get_all_start_methods()
        context = multiprocessing.get_context("forkserver" if "forkserver" in ways else "spawn")
        if "forkserver" in ways:  # a server that has imported all this once starts each process at once
            context.set_forkserver_preload(["wwae_lib.training", "lightning_fabric", "scipy.stats"])
        self.inbox, outbox = context.Pipe(duplex=False)
        options = (profile, results, accelerator, threads)
        self.process = context.Process(target=_make, args=(chosen, *options, outbox), daemon=True)
        self.process.start()
        outbox.close()

    def failure(self) -> str:
        """Why the process failed, empty if it did not."""
        self.process.join()
        if self.process.exitcode:
            return f"its process ended with {_exit_in_words(self.process.exitcode)}; it can be resumed"
        try:
            return self.inbox.recv()
        except EOFError:
            return "its process said nothing"


def _exit_in_words(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def _make(
    chosen: Experiment, profile: Profile, results: Path, accelerator: str, threads: int, outbox: Any
) -> None:
    """Train and measure a run; send why it failed, or nothing."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent too, which ends this process
    threading.Thread(target=end_with_parent, daemon=True).start()
    if threads:
        torch.set_num_threads(threads)
        threadpoolctl.threadpool_limits(threads)  # NumPy's and scikit-learn's
    try:
        _train_and_measure(chosen, profile, results, accelerator)
    except Exception as error:
        known = (data.DataError, runs.RunError, ValueError, OSError)
        outbox.send(f"{'' if isinstance(error, known) else f'{type(error).__name__}: '}{error}")
    else:
        outbox.send("")


def _train_and_measure(chosen: Experiment, profile: Profile, results: Path, accelerator: str) -> None:
    images, test_images = images_of(profile, chosen.dataset)
    fabric = training.choose_fabric(accelerator)
    options = {"results": results, "resume": True, "fabric": fabric, "progress": False}
    run = training.train(chosen, images, test_images, **options)
    if unmeasured(run, profile):
        measure(run, profile, images, test_images, fabric.device)


def images_of(profile: Profile, dataset: str) -> tuple[data.Images, data.Images]:
    """What the runs of a profile are trained on, and what they are measured on."""
    if profile.embedded:
        return data.embedded_digits("train"), data.embedded_digits("test")
    return tuple(data.load(dataset, split, fall_back=False) for split in ("train", profile.held_out))


def unmeasured(run: runs.Run, profile: Profile) -> list[str]:
    """Sets of images whose distance the profile wants and the run's record lacks."""
    return evaluation.missing(run, profile.protocol, profile.sets)


def measure(run: runs.Run, profile: Profile, images: data.Images, test_images: data.Images, device) -> None:
    """Add to a run's record what the profile wants and the record lacks."""
    options = {"protocol": profile.protocol, "sets": profile.sets, "device": device, "progress": False}
    evaluation.evaluate(run, images, test_images, **options)


def end_with_parent() -> None:
    """A process whose parent was killed must not write into what the next parent resumes."""
    multiprocessing.parent_process().join()
    os.kill(os.getpid(), signal.SIGTERM)


def records(profile: str, *patterns: str) -> list[runs.Run]:
    """The runs that a notebook reads: the book's records, or the same experiments trained again.

    Args:
        profile: ``quick`` reads what is recorded; ``full`` trains it again from the real data, into the
            folder ``full`` of the data folder. What that folder already holds is not trained twice.
        patterns: names of the runs (:func:`wwae_lib.runs.fits`), such as ``mnist/wwae/seed-*``.

    Returns:
        The runs by name, as :func:`wwae_lib.runs.recorded`.

    Raises:
        ValueError: there is no such profile, or no run has such a name.
        RunError: a run could not be made; the message lists each with the reason.
    """
    if profile not in ("quick", "full"):
        raise ValueError(f"there is no profile {profile!r}; known: quick, full")
    known = runs.recorded(*patterns)
    for pattern in patterns:
        if not any(runs.fits(run.experiment.name, [pattern]) for run in known):
            raise ValueError(f"no recorded run's name is {pattern!r} (in {runs.results_root()})")
    if profile == "quick":
        return known
    entries = [run.record.get("evaluation", {}) for run in known]
    sets = tuple(name for name in evaluation.SETS if any(name in entry for entry in entries))
    protocols = {entry[name]["protocol"] for entry in entries for name in sets if name in entry}
    experiments = tuple(run.experiment for run in known)
    whole = Profile(experiments, sets=sets, protocol=min(protocols, default="full"))
    results = data.data_root() / "full"
    if failures := reproduce(whole, whole.experiments, results):
        raise runs.RunError("\n".join(f"{name}: {why}" for name, why in failures.items()))
    return [runs.load(results / experiment.name) for experiment in experiments]
