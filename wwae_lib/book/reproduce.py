"""Which runs make up the comparison, and how are all of them made, even after interruptions?

A profile is a list of experiments, and of what is measured. Every run is made in a process of its own, so
that one that fails or is killed does not stop the others. The folder of a run tells how far it is: what is
finished is skipped, and what was interrupted is resumed.
"""

from __future__ import annotations

import collections
import contextlib
import functools
import itertools
import math
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import threadpoolctl
import torch
from tqdm import tqdm

from .. import data, files, processes, runs, training
from ..experiments import Experiment
from ..measures import evaluation
from ..methods import METHODS
from . import selection
from .ablations import ablations
from .selection import compared_methods

__all__ = [
    "LONG",
    "PROFILES",
    "Profile",
    "State",
    "records",
    "reproduce",
    "results_folder",
    "select",
    "state",
]

GREY = ("mnist", "fashion_mnist")
LONG = {"mnist": 30, "fashion_mnist": 30, "celeba": 40}  # epochs
FID_PASSES = 11  # what measuring an FID costs by 2,500 images, in epochs of a compact auto-encoder on MNIST


@dataclass(frozen=True)
class Profile:
    """Experiments, and how they are measured.

    Attributes:
        experiments: what to train, the most valuable first.
        embedded: whether the images are the embedded digits, which need no data folder.
        sets: the sets of images whose FID is measured, of :data:`wwae_lib.measures.evaluation.SETS`.
        protocol: a name in :data:`wwae_lib.measures.evaluation.PROTOCOLS`.
        held_out: the split to measure on: ``test``, or ``valid`` where settings are chosen.
        folder: where the runs are recorded, below the results folder.
        search: whether the recorded trials ask for more of them (:func:`wwae_lib.book.selection.further`).
    """

    experiments: tuple[Experiment, ...]
    embedded: bool = False
    sets: tuple[str, ...] = ("prior",)
    protocol: str = "full"
    held_out: str = "test"
    folder: str = ""
    search: bool = False


# What a run of the comparison is measured on: new images, and what separates them from real ones.
MEASURED = ("prior", "reconstruction", "gaussian", "mixture", "training")


def _all_methods(
    dataset: str,
    seeds: Iterable[int],
    epochs: int,
    most: int = 3,
    plan: Callable[..., Experiment] = selection.chosen,
    **changes: Any,
) -> Iterator[Experiment]:
    """Every method, seed after seed; some for more epochs, ``most`` times as many at most."""
    for seed in seeds:
        for method in compared_methods(dataset):
            times = min(METHODS[method].times_epochs, most)
            yield plan(dataset, method, **{"seed": seed, "epochs": epochs * times} | changes)


def _ablations(**changes: Any) -> tuple[Experiment, ...]:
    """Every experiment of the ablations, once."""
    return tuple(dict.fromkeys(itertools.chain(*ablations(**changes).values())))


def _long() -> tuple[Experiment, ...]:
    """Many epochs of the methods with the best settings that trials know, seed after seed.

    The WGAN-GP, which takes longest, has one seed; on CelebA there are methods of every kind.
    """
    faces = ("wwae", "vae_learned", "ae", "swae", "wae_mmd", "gan")
    planned = []
    for seed in range(3):
        for dataset, epochs in LONG.items():
            if dataset in GREY:
                made = _all_methods(dataset, (seed,), epochs, plan=selection.best_known)
                planned += [trained for trained in made if not seed or trained.method != "wgan_gp"]
            else:
                options = {"seed": seed, "epochs": epochs}
                planned += [selection.best_known(dataset, method, **options) for method in faces]
    return tuple(planned)


def _trials(*kinds: Callable[[str], Iterable[Experiment]], **options: Any) -> Profile:
    """Trials of these kinds on every data set, measured on validation images alone."""
    tried = (trial for kind in kinds for dataset in data.DATASETS for trial in kind(dataset))
    options |= {"protocol": "selection", "held_out": "valid", "folder": selection.FOLDER}
    return Profile(tuple(tried), **options)


REFERENCE = {"network": "reference", "variant": "reference"}
PROFILES = {
    "quick": Profile(tuple(_all_methods("mnist", (0,), 2, network="tiny")), embedded=True, sets=()),
    "long": Profile(_long(), sets=MEASURED, protocol="extrapolated"),
    "selection": _trials(selection.trials, selection.shared_choice_trials, search=True),
    "remedies": _trials(selection.remedies, search=True),
    "dimensions": _trials(
        selection.dimension_trials,
        sets=("prior", "reconstruction", "gaussian", "mixture", "mixture_100"),
    ),
    "convergence": _trials(selection.length_trials, selection.encoder_trials),
    # What the trials of dimensions chose, on test images, as long as the runs of long.
    "beyond": Profile(
        tuple(
            run
            for dataset in selection.REMEDY
            for run in selection.remedied(dataset, range(3), LONG[dataset])
        ),
        sets=MEASURED,
        protocol="extrapolated",
        folder="beyond",
    ),
    "ablations": Profile(_ablations(), sets=()),
    "full": Profile(
        (
            *(run for dataset in GREY for run in _all_methods(dataset, range(5), 50, **REFERENCE)),
            *_all_methods("celeba", range(3), 60, most=2, **REFERENCE),
            *_ablations(prefix="reference_", network="reference", epochs=15),
        ),
        sets=MEASURED,
    ),
}


class State(NamedTuple):
    """How far a run is: ``finished``, ``to measure``, ``to train``, ``interrupted`` or ``differs``."""

    name: str
    epochs: int
    words: str


def results_folder(profile: str) -> Path:
    """Where a profile's runs are recorded by default: those on embedded digits apart from the book's."""
    if PROFILES[profile].embedded:
        return data.data_root() / profile
    return runs.results_root() / PROFILES[profile].folder


def select(profile: Profile, *patterns: str) -> tuple[Experiment, ...]:
    """The experiments whose names match a pattern (:func:`wwae_lib.runs.name_matches`), in order.

    Without a pattern, all.

    Raises:
        ValueError: a pattern matches no name.
    """
    experiments = profile.experiments
    if profile.search:
        experiments = (*experiments, *selection.further(experiments))
    if profile.folder == selection.FOLDER:
        experiments = (*experiments, *selection.second_attempts(experiments))
    for pattern in patterns:
        if not any(runs.name_matches(known.name, [pattern]) for known in experiments):
            raise ValueError(f"no run's name is {pattern!r}; --dry-run without --only lists them")
    return tuple(known for known in experiments if runs.name_matches(known.name, patterns or ("*",)))


def state(experiment: Experiment, results: Path, profile: Profile) -> State:
    """How far a profile's run is, by what its folder holds.

    Raises:
        RunError: the run or its checkpoint is damaged.
    """
    path = results / experiment.name
    draft = runs.Draft(path)
    if draft.checkpoint.exists():
        epochs = epochs_done(draft)
        return State("interrupted", epochs, f"resumes after epoch {epochs} of {experiment.epochs}")
    if not runs.exists(path):
        return State("to train", 0, f"{experiment.epochs} epochs to train")
    run = runs.load(path)
    if changes := experiment.changes_from(run.experiment.as_dict()):
        return State("differs", 0, f"{'; '.join(changes)}: move {path} away, or choose other --results")
    if missing := unmeasured(run, profile):
        return State("to measure", experiment.epochs, f"trained, to measure: {', '.join(missing)}")
    return State("finished", experiment.epochs, "finished")


def epochs_done(draft: runs.Draft) -> int:
    """Finished epochs of a draft, by its history."""
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
        minutes: stop after so many, as if interrupted.
        progress: show a progress bar.

    Returns:
        Why runs failed, by name; runs that there was no time for have not failed.

    Raises:
        RunError: another ``reproduce`` is at work in that folder.
    """
    with locked(results):
        waiting, failures = _unfinished(experiments, results, profile)
        bar = _ProgressBar(profile, waiting, results, len(failures), progress)
        options = (profile, results, accelerator, _threads(jobs, experiments))
        running: dict[Experiment, _Worker] = {}
        end = time.monotonic() + 60 * minutes
        try:
            while (waiting or running) and time.monotonic() < end:
                while waiting and len(running) < jobs:
                    started = waiting.popleft()
                    running[started] = _Worker(started, *options)
                multiprocessing.connection.wait([worker.process.sentinel for worker in running.values()], 0.5)
                for ended in [known for known, worker in running.items() if not worker.process.is_alive()]:
                    if failure := running.pop(ended).failure():
                        failures[ended.name] = failure
                    bar.ended(ended, bool(failure))
                bar.show(running)
        finally:
            for worker in running.values():
                worker.process.terminate()  # a run survives that as it does any kill
            for worker in running.values():
                worker.process.join()
            bar.close()
    return failures


def _unfinished(
    experiments: Sequence[Experiment], results: Path, profile: Profile
) -> tuple[collections.deque[Experiment], dict[str, str]]:
    """The experiments that are to be trained or measured; and why others cannot be, by name."""
    waiting: collections.deque[Experiment] = collections.deque()
    failures: dict[str, str] = {}
    for wanted in experiments:
        try:
            runs.settle(results / wanted.name)
            now = state(wanted, results, profile)
        except files.RunError as error:
            failures[wanted.name] = str(error)
            continue
        if now.name == "differs":
            failures[wanted.name] = now.words
        elif now.name != "finished":
            waiting.append(wanted)
    return waiting, failures


def _threads(jobs: int, experiments: Sequence[Experiment]) -> int:
    """Threads of each run; 0 leaves their number to the environment."""
    if all(experiment.network == "tiny" for experiment in experiments):
        return 1  # which is as fast for so little work, and far faster beside other work
    if jobs > 1:
        return max(1, (os.cpu_count() or 1) // jobs)
    return 0 if "OMP_NUM_THREADS" in os.environ else processes.free_cores()


def locked(results: Path) -> contextlib.AbstractContextManager[None]:
    """Own the results folder (:func:`wwae_lib.files.owned`): two would train the same runs."""
    return files.owned(results / "reproduce", f"another reproduce is at work in {results}")


class _ProgressBar:
    """One progress bar for all runs, in epochs of a compact auto-encoder on MNIST that would take as long."""

    def __init__(self, profile: Profile, todo: Sequence[Experiment], results: Path, failed: int, shown: bool):
        self.profile, self.results = profile, results
        self.todo = {experiment: self.done(experiment) for experiment in todo}
        self.count, self.failed = len(todo), failed
        self.passed = 0.0  # of runs that ended
        self.bar = tqdm(
            total=sum(map(self.cost, todo)),
            initial=sum(self.todo.values()),
            bar_format="{percentage:3.0f}%|{bar}| {elapsed}, {remaining} left{postfix}",
            disable=not shown,
        )
        self.show(())

    def epoch(self, experiment: Experiment) -> float:
        """Cost of an epoch: pixels of a pass, once for each player."""
        row = data.DATASETS[experiment.dataset]
        images = 4_000 if self.profile.embedded else row.sizes["train"]
        return images * math.prod(row.shape) / (60_000 * 784) * len(METHODS[experiment.method].players)

    def measuring(self, sets: Iterable[str]) -> float:
        """Cost of measuring sets of images: the floor's features are computed once for all runs."""
        images = evaluation.PROTOCOLS[self.profile.protocol].images
        return FID_PASSES * images / 2_500 * sum(name != "training" for name in sets)

    def cost(self, experiment: Experiment) -> float:
        sets = evaluation.possible_sets(experiment, self.profile.sets)
        return experiment.epochs * self.epoch(experiment) + self.measuring(sets)

    def done(self, experiment: Experiment) -> float:
        draft = runs.Draft(self.results / experiment.name)
        if draft.folder.exists() or not runs.exists(draft.path):
            return epochs_done(draft) * self.epoch(experiment)
        missing = list(self.profile.sets)
        with contextlib.suppress(files.RunError):  # its worker will say what is wrong with it
            missing = evaluation.missing_sets(runs.load(draft.path), self.profile.protocol, missing)
        return self.cost(experiment) - self.measuring(evaluation.possible_sets(experiment, missing))

    def ended(self, experiment: Experiment, failed: bool) -> None:
        del self.todo[experiment]
        self.passed += self.cost(experiment)
        self.failed += failed

    def show(self, running: Iterable[Experiment]) -> None:
        self.todo |= {experiment: self.done(experiment) for experiment in running}
        self.bar.n = self.passed + sum(self.todo.values())
        words = [f"{self.count - len(self.todo)} of {self.count} runs"]
        words += [f"{self.failed} failed"] * bool(self.failed) + [experiment.name for experiment in running]
        self.bar.set_postfix_str(", ".join(words))

    def close(self) -> None:
        self.bar.close()


class _Worker:
    """A process that makes one run."""

    def __init__(self, *task: Any):
        forks = "forkserver" in multiprocessing.get_all_start_methods()
        context: Any = multiprocessing.get_context("forkserver" if forks else "spawn")
        if forks:  # a server that has imported all this once starts each process at once
            context.set_forkserver_preload(["wwae_lib.training", "lightning_fabric", "scipy.stats"])
        self.inbox, outbox = context.Pipe(duplex=False)
        self.process = context.Process(target=_train_and_report, args=(*task, outbox), daemon=True)
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
            return "its process ended without a report"


def _exit_in_words(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def _train_and_report(
    experiment: Experiment, profile: Profile, results: Path, accelerator: str, threads: int, outbox: Any
) -> None:
    """Train and measure a run; send why it failed, or an empty text."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent too, which ends this process
    threading.Thread(target=end_with_parent, daemon=True).start()
    if threads:
        torch.set_num_threads(threads)
        threadpoolctl.threadpool_limits(threads)  # NumPy's and scikit-learn's
    try:
        _train_and_measure(experiment, profile, results, accelerator)
    except Exception as error:
        known = (data.DataError, files.RunError, ValueError, OSError)
        outbox.send(f"{'' if isinstance(error, known) else f'{type(error).__name__}: '}{error}")
    else:
        outbox.send("")


def _train_and_measure(experiment: Experiment, profile: Profile, results: Path, accelerator: str) -> None:
    images, test_images = images_of(profile, experiment.dataset)
    fabric = training.choose_fabric(accelerator)
    options = {"results": results, "resume": True, "fabric": fabric, "progress": False}
    run = training.train(experiment, images, test_images, **options)
    if unmeasured(run, profile):
        measure(run, profile, images, test_images, fabric.device)


def images_of(profile: Profile, dataset: str) -> tuple[data.Images, data.Images]:
    """The images that the runs of a profile are trained on, and those that they are measured on."""
    if profile.embedded:
        return data.embedded_digits("train"), data.embedded_digits("test")
    load = functools.partial(data.load, dataset, fall_back=False)
    return load("train"), load(profile.held_out)


def unmeasured(run: runs.Run, profile: Profile) -> list[str]:
    """What the run's record lacks of what the profile measures: ``codes``, and sets of images.

    Codes are what needs no Inception network; the embedded digits are too few for their measures.
    """
    codes = profile.embedded or "codes" in run.record.get("evaluation", {})
    return ["codes"] * (not codes) + evaluation.missing_sets(run, profile.protocol, profile.sets)


def measure(run: runs.Run, profile: Profile, images: data.Images, test_images: data.Images, device) -> None:
    """Measure what the profile asks for and the run's record lacks."""
    options = {"protocol": profile.protocol, "sets": profile.sets, "device": device, "progress": False}
    evaluation.evaluate(run, images, test_images, **options)


def end_with_parent() -> None:
    """Wait for the parent's end, and end this process: it must not write what the next parent resumes."""
    if parent := multiprocessing.parent_process():
        parent.join()
    os.kill(os.getpid(), signal.SIGTERM)


def records(profile: str, *patterns: str) -> list[runs.Run]:
    """The runs that a notebook reads: the book's records, or the same experiments trained again.

    Args:
        profile: ``quick`` reads the records; ``full`` trains the same experiments on the real data, into the
            folder ``full`` of the data folder. Runs that this folder already holds are not trained again.
        patterns: of the runs' names (:func:`wwae_lib.runs.name_matches`), such as ``mnist/wwae/seed-*``.

    Returns:
        The runs by name, as :func:`wwae_lib.runs.recorded`.

    Raises:
        ValueError: there is no such profile, or a pattern matches no recorded run.
        RunError: runs could not be made; the message says which and why.
    """
    if profile not in ("quick", "full"):
        raise ValueError(f"there is no profile {profile!r}; known: quick, full")
    known = runs.recorded(*patterns)
    for pattern in patterns:
        if not any(runs.name_matches(run.experiment.name, [pattern]) for run in known):
            raise ValueError(f"no recorded run's name is {pattern!r} (in {runs.results_root()})")
    if profile == "quick":
        return known
    results = data.data_root() / "full"
    for protocol, measured in _by_protocol(known).items():
        entries = [run.record.get("evaluation", {}) for run in measured]
        sets = tuple(name for name in evaluation.SETS if any(name in entry for entry in entries))
        experiments = tuple(run.experiment for run in measured)
        again = Profile(experiments, sets=sets, protocol=protocol)
        if failures := reproduce(again, experiments, results):
            raise files.RunError("\n".join(f"{name}: {why}" for name, why in failures.items()))
    return [runs.load(results / run.experiment.name) for run in known]


def _by_protocol(known: Iterable[runs.Run]) -> dict[str, list[runs.Run]]:
    """Runs by the protocol of their images. Where codes alone were measured there is none, and any serves."""
    groups: dict[str, list[runs.Run]] = {}
    for run in known:
        entries = run.record.get("evaluation", {})
        used = [entries[name]["protocol"] for name in evaluation.SETS if name in entries]
        groups.setdefault(used[0] if used else "full", []).append(run)
    return groups
