"""The whole comparison on a GPU, in slices that fit into the minutes for which one is at hand.

    python tools/slices.py run grey:0 mnist:1                all of the following, on a machine of one's own

    python tools/slices.py smoke grey:0 mnist:1 --results R  is each kind of step right, and how fast?
    python tools/slices.py start --results R --minutes 10    train and measure, in processes that stay behind
    python tools/slices.py start grey:0 --results R --after S  another slice, once all in S is trained
    python tools/slices.py wait --results R --minutes 4      until all is done, or for so long
    python tools/slices.py collect --results R --to FOLDER   what is finished and not yet collected, in pieces
    python tools/slices.py receive FOLDER --results R        at home: the pieces back into a results folder

A slice is one word or several, in the order of their value: PART:SEED, or a pattern of runs' names. Its runs
are those of --profile. Within a part those that take longest begin first; none begins that could not end in
time, by the measured milliseconds a step. One process trains, several runs at once; others publish each run
as it ends, and measure it once the Inception network is there. Whatever is killed can be started again, and
goes on. A run that fails costs no other; one whose kind of step failed in smoke is left out.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import fnmatch
import functools
import hashlib
import io
import itertools
import json
import math
import multiprocessing
import os
import statistics
import subprocess
import sys
import tarfile
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from wwae_lib import data, runs, training
from wwae_lib.book import reproduce, together
from wwae_lib.experiments import Experiment
from wwae_lib.measures import evaluation, inception
from wwae_lib.methods import METHODS

ROOT = Path(__file__).resolve().parents[1]
PARTS = {
    "mnist": ["mnist/*-reference/seed-{}"],
    "fashion_mnist": ["fashion_mnist/*-reference/seed-{}"],
    "grey": ["*mnist/*-reference/seed-{}"],
    # a run on faces fills a GPU alone: best first
    "celeba": [f"celeba/{method}-reference/seed-{{}}" for method in METHODS if method != "wgan_gp"],
    "celeba_gp": ["celeba/wgan_gp-reference/seed-{}"],
    "ablations": ["mnist/wwae-reference_*/seed-{}"],
}
AGREE = 0.05  # share by which the mean loss of a recorded step's epoch may differ from the plain loop's
GO_ON = "WWAE_SMOKE_GOES_ON"  # set for a process that goes on with the smoke of one whose device broke
FINISHING = 30  # seconds that the last run's pictures and measures need
PIECE, PIECES = 15_000_000, 4  # bytes of a collected piece; pieces of a call, beside the logs
TRIES = 4  # times that a process which breaks down is started


# ---------------------------------------------------------------- which runs


@dataclasses.dataclass(frozen=True)
class Plan:
    """A slice, and what smoke found: milliseconds a step and failures, by kind of step; runs at once."""

    words: tuple[str, ...]
    profile: str
    rehearsal: bool
    milliseconds: dict[str, float]
    failed: dict[str, str]
    lanes: dict[str, float]

    def groups(self) -> list[list[Experiment]]:
        """The experiments of each pattern, none twice.

        Raises:
            ValueError: a word is no part, or holds no run.
        """
        left, groups = dict.fromkeys(reproduce.select(reproduce.PROFILES[self.profile])), []
        for word in self.words:
            part, _, seed = word.partition(":")
            if part not in PARTS and "/" not in part:
                raise ValueError(f"there is no part {part!r}; known: {', '.join(PARTS)}, patterns of names")
            patterns = [pattern.format(seed or 0) for pattern in PARTS.get(part, [word])]
            matching = [
                [experiment for experiment in left if fnmatch.fnmatch(experiment.name, pattern)]
                for pattern in patterns
            ]
            if not any(matching):
                raise ValueError(
                    f"the profile {self.profile} has no run {word!r} that is not in the slice already"
                )
            left = {
                experiment: None for experiment in left if not any(experiment in group for group in matching)
            }
            groups += filter(None, matching)
        return (
            [[_rehearsed(experiment) for experiment in group] for group in groups]
            if self.rehearsal
            else groups
        )

    def whole(self) -> reproduce.Profile:
        """The profile; where all is rehearsed, with one distance, of as few images as it may be of."""
        profile = reproduce.PROFILES[self.profile]
        if not self.rehearsal:
            return profile
        # a quarter of the test images, or half of the validation images, are just enough
        step = 2 if profile.held_out == "valid" else 4
        protocol = evaluation.Protocol(evaluation.MINIMUM_FID_IMAGES, step)
        evaluation.PROTOCOLS["rehearsal"] = protocol
        return dataclasses.replace(profile, protocol="rehearsal", sets=("prior",))

    def experiments(self) -> list[Experiment]:
        """Those that can be trained, in order."""
        return [
            experiment
            for group in self.groups()
            for experiment in sorted(group, key=lambda experiment: -self.seconds(experiment))
            if kind(experiment) not in self.failed
        ]

    def seconds(self, experiment: Experiment, done: int = 0) -> float:
        """That the remaining epochs would take alone; 0 where no step was timed."""
        if not (milliseconds := self.milliseconds.get(kind(experiment))):
            return 0.0
        steps = len(self.images(experiment.dataset)[0]) // experiment.batch_size * (experiment.epochs - done)
        return steps * milliseconds / 1000

    def images(self, dataset: str) -> tuple[data.Images, data.Images]:
        return _images(self.profile, dataset)

    def best(self) -> int:
        """How many runs at once: the fewest that are within a few per cent of the fastest."""
        enough = 1.03 * min(self.lanes.values(), default=math.inf)
        return min((int(count) for count, ms in self.lanes.items() if ms <= enough), default=1)

    def crowd(self, at_once: int) -> float:
        """How many times as long a run takes beside others as it takes alone."""
        if str(at_once) not in self.lanes:
            return at_once
        return at_once * self.lanes[str(at_once)] / self.lanes["1"]

    def write(self, results: Path) -> None:
        runs.write_json(folder_of(results) / "plan.json", dataclasses.asdict(self))


@functools.cache
def _images(profile: str, dataset: str) -> tuple[data.Images, data.Images]:
    return reproduce.images_of(reproduce.PROFILES[profile], dataset)


def _rehearsed(experiment: Experiment) -> Experiment:
    """A run's stand-in, which a CPU trains in seconds."""
    variant = f"rehearsal_{experiment.variant}".rstrip("_")
    return dataclasses.replace(experiment, network="tiny", epochs=2, variant=variant)


def kind(experiment: Experiment) -> str:
    """What decides how a step is computed and how long it takes."""
    shape = "x".join(map(str, data.get_dataset(experiment.dataset).shape))
    codes = f"{experiment.latent} {'' if experiment.initial_std else 'deterministic '}codes"
    method, network = f"{experiment.method} ({experiment.estimator})", f"{experiment.network} {shape}"
    return f"{method}, {network}, {codes}, batch {experiment.batch_size}"


def folder_of(results: Path) -> Path:
    return results / ".slice"


def read(results: Path) -> Plan:
    try:
        content = json.loads((folder_of(results) / "plan.json").read_text())
    except FileNotFoundError as error:
        raise ValueError(f"there is no slice in {results}; begin with smoke") from error
    return Plan(**content | {"words": tuple(content["words"])})


# ---------------------------------------------------------------- smoke


def smoke(plan: Plan, results: Path) -> Plan:
    """The plan with what is found: each kind of step one by one, and as the device takes it best."""
    fabric, kinds = training.choose_fabric(), {}
    steps, lanes = (8, (1, 2)) if fabric.device.type == "cpu" else (60, (1, 2, 4, 8))
    for experiment in itertools.chain(*plan.groups()):
        kinds.setdefault(kind(experiment), experiment)
    print(f"{fabric.device}, torch {torch.__version__}: {len(kinds)} kinds of step", flush=True)
    for name, experiment in kinds.items():
        if name in plan.milliseconds.keys() | plan.failed.keys():
            continue
        try:
            plain, best = (
                _epochs([experiment], steps, plan, fabric, capture)[0] for capture in (False, True)
            )
            plan.milliseconds[name] = best[-1]["seconds"] / steps * 1e3
            wrong = differing(plain[0], best[0])
            times = [line[-1]["seconds"] / steps * 1e3 for line in (best, plain)]
            print(f"{times[0]:8.3f} ms per step, {times[1]:8.3f} one by one: {name}", flush=True)
        except Exception as error:  # whatever a device that was never tried answers with
            wrong = f"{type(error).__name__}: {error}"
        if wrong:
            plan.failed[name] = wrong
            print(f"FAILED, left out: {name}: {wrong}", flush=True)
            if broken(fabric.device):  # for this process, which another one takes the place of
                plan.write(results)
                os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | {GO_ON: "1"})
    plan.write(results)
    if not (sound := [experiment for name, experiment in kinds.items() if name not in plan.failed]):
        return plan
    pixels = plan.images(sound[0].dataset)[1].pixels
    checks = [functools.partial(_lane, count, sound[0], steps, plan, fabric) for count in lanes]
    for check in (*checks, lambda: _penalty(fabric.device), lambda: _inception(fabric.device, pixels)):
        try:
            print(check(), flush=True)
        except Exception as error:  # is told, and stops nothing
            print(f"{type(error).__name__}: {error}", flush=True)
    plan.write(results)
    return plan


def _lane(count: int, experiment: Experiment, steps: int, plan: Plan, fabric) -> str:
    copies = [dataclasses.replace(experiment, seed=seed) for seed in range(count)]
    histories = _epochs(copies, steps, plan, fabric, True)
    seconds = sum(history[-1]["seconds"] for history in histories) / count  # in which each took its steps
    plan.lanes[str(count)] = seconds / steps / count * 1e3
    return f"{plan.lanes[str(count)]:8.3f} ms per step with {count} at once"


def _epochs(planned: list[Experiment], steps: int, plan: Plan, fabric, capture: bool) -> list[list[dict]]:
    """Histories of three short epochs of several runs at once; the last one's seconds hold no set-up."""
    images, count = plan.images(planned[0].dataset)[0], steps * planned[0].batch_size
    rows = torch.arange(count) % len(images)
    short = dataclasses.replace(images, pixels=images.pixels[rows], labels=images.labels[rows])
    trainings = [(dataclasses.replace(experiment, epochs=3), short, None) for experiment in planned]
    options = {"at_once": len(planned), "fabric": fabric, "capture": capture, "progress": False}
    histories = []
    for _, result in together.fit_together(trainings, **options):
        if isinstance(result, Exception):
            raise result
        histories.append(result[1])
    return histories


def differing(plain: dict[str, float], best: dict[str, float]) -> str:
    """Which mean terms of an epoch differ by more than they may, of their own size and the largest's."""
    terms = plain.keys() - {"epoch", "learning_rate", "seconds"}
    largest = max(abs(plain[name]) for name in terms)
    apart = {n: abs(plain[n] - best[n]) for n in terms}
    wrong = [n for n in sorted(terms) if not apart[n] <= AGREE * max(abs(plain[n]), 0.05 * largest)]
    return "; ".join(f"{name} is {best[name]:.6g}, in the plain loop {plain[name]:.6g}" for name in wrong)


def _penalty(device: torch.device) -> str:
    try:
        import benchmark_penalty
    except ImportError:
        return "w2_penalty: PythonOT, to compare it with, is not installed"
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sinkhorn did not converge")  # nor need it, to be timed
        times = benchmark_penalty.measure(256, 64, device.type, 10, 0.02)
    ours, theirs = (statistics.median(times[name]) for name in ("w2_penalty", "pythonot"))
    return f"w2_penalty: {theirs / ours:.2f} times as fast as PythonOT at (256, 64)"


def _inception(device: torch.device, pixels: torch.Tensor) -> str:
    if not inception_is_here():
        return "Inception: the network is not here yet"
    pixels, reports, exact = pixels[: 8 if device.type == "cpu" else 2048], [], None
    for precision in inception.PRECISIONS:
        network = inception.network(precision)
        inception.features(pixels[:8], network, device, False)
        begun = time.perf_counter()
        features = inception.features(pixels, network, device, False)
        rate = len(pixels) / (time.perf_counter() - begun)
        exact = features if exact is None else exact
        error = ((features - exact).norm() / (exact - exact.mean(0)).norm()).item()
        reports.append(f"{precision} {rate:.0f} images per second, {error:.1e} of the features' spread off")
    return "Inception: " + "; ".join(reports)


def inception_is_here() -> bool:
    return any((Path(torch.hub.get_dir()) / "checkpoints").glob("pt_inception-*.pth"))


# ---------------------------------------------------------------- the processes


def work(results: Path, until: float, at_once: int, finishers: int, after: Path | None = None) -> None:
    """Train and measure a slice, and what its finished trials then ask for, until all is there.

    Args:
        results: where the slice is.
        until: when to end.
        at_once: runs that train at once, 0 for the best.
        finishers: processes that publish and measure.
        after: the results folder of another slice, which is to be trained first.

    Raises:
        RunError: another is at work in that folder.
    """
    with reproduce.locked(results):
        plan, folder = read(results), folder_of(results)
        (folder / "failures.jsonl").unlink(missing_ok=True)  # what failed is tried again
        (folder / "trained").unlink(missing_ok=True)
        (folder / "begun").touch()
        while after and not (folder_of(after) / "trained").exists() and time.time() < until:
            time.sleep(0.1)
        known: list[Experiment] = []
        while (now := plan.experiments()) != known and time.time() < until:
            known = now
            say(f"{len(known)} runs, {at_once or plan.best()} at once")
            _work(plan, results, until, at_once or plan.best(), finishers)
        say("the end")


def _work(plan: Plan, results: Path, until: float, at_once: int, finishers: int) -> None:
    """One process trains, others finish; one that breaks begins again, the trainer with half the lanes."""
    context = multiprocessing.get_context("spawn")
    over, begun = context.Event(), collections.Counter()

    def begin(number: int) -> multiprocessing.Process:
        lanes = max(1, at_once >> begun[number])
        begun[number] += 1
        task, more = (finish, (number - 1, finishers, over)) if number else (train, (lanes,))
        threads = min(torch.get_num_threads(), max(1, (os.cpu_count() or 1) // (finishers + 1)))
        process = context.Process(
            target=_child, args=(threads, task, plan, results, until, *more), daemon=True
        )
        process.start()
        return process

    working = {number: begin(number) for number in range(1 + finishers)}
    while any(process.is_alive() for process in working.values()) and time.time() < until:
        time.sleep(0.1)
        for number, process in working.items():
            if process.exitcode and begun[number] < TRIES:
                say(f"process {number} broke down ({process.exitcode}) and is started again")
                working[number] = begin(number)
        if working[0].exitcode is not None and not over.is_set():
            over.set()
            (folder_of(results) / "trained").touch()
    for process in working.values():
        process.terminate()  # which a run survives
        process.join()


def _child(threads: int, task, *arguments) -> None:
    torch.set_num_threads(threads)
    threading.Thread(target=reproduce.end_with_parent, daemon=True).start()
    task(*arguments)


def train(plan: Plan, results: Path, until: float, lanes: int) -> None:
    """Every run of the slice to its last checkpoint, several at once."""
    fabric, begun, pace = training.choose_fabric(), {}, plan.crowd(lanes)

    def affordable() -> Iterator[tuple[Experiment, data.Images, runs.Draft]]:
        for experiment in plan.experiments():
            draft = runs.Draft(results / experiment.name)
            if stage(plan, results, experiment) != "to train" or (experiment.name, "to train") in failures(
                results
            ):
                continue
            alone = plan.seconds(experiment, reproduce.epochs_done(draft))
            if time.time() + alone * pace + FINISHING > until:
                say(f"no time is left for {experiment.name}, which takes {alone * pace:.0f} s")
                continue
            begun[experiment] = time.time(), alone
            yield experiment, plan.images(experiment.dataset)[0], draft

    for experiment, result in together.fit_together(
        affordable(), at_once=lanes, fabric=fabric, progress=False
    ):
        since, alone = begun[experiment]
        if isinstance(result, Exception):
            fail(results, experiment, "to train", result, fabric.device, lanes)
        else:
            took = time.time() - since
            say(f"trained {experiment.name}: {took:.1f} s, {alone * pace:.1f} expected")
            pace = took / alone if alone else pace


def finish(plan: Plan, results: Path, until: float, number: int, of: int, over) -> None:
    """Publish what is trained, and measure it: every so many-th run, until training is over."""
    fabric, mine = training.choose_fabric(), plan.experiments()[number::of]
    while time.time() < until:
        was_over, failed = over.is_set(), failures(results)
        stages = {
            experiment: now
            for experiment in mine
            if (experiment.name, now := stage(plan, results, experiment)) not in failed
        }
        waits = "to measure" in stages.values() and not inception_is_here() and until < math.inf
        due = [experiment for experiment in mine if stages.get(experiment) == "to publish"]
        due += [experiment for experiment in mine if stages.get(experiment) == "to measure" and not waits]
        if due:
            begun, (experiment, *_) = time.time(), due
            try:
                _finish(experiment, stages[experiment], plan, results, fabric)
                say(f"{stages[experiment]}, done: {experiment.name}: {time.time() - begun:.1f} s")
            except Exception as error:  # costs this run alone
                fail(results, experiment, stages[experiment], error, fabric.device)
        elif was_over and not waits:
            return
        else:
            time.sleep(0.2)


def _finish(experiment: Experiment, step: str, plan: Plan, results: Path, fabric) -> None:
    images, tests = plan.images(experiment.dataset)
    if step == "to publish":  # as a run that was interrupted after its last epoch
        training.train(experiment, images, tests, results=results, resume=True, fabric=fabric, progress=False)
        return
    reproduce.measure(runs.load(results / experiment.name), plan.whole(), images, tests, fabric.device)


def stage(plan: Plan, results: Path, experiment: Experiment) -> str:
    """How far a run is, by what its folder holds; nothing is changed there."""
    record = results / experiment.name / "run.json"
    if record.exists():
        run = runs.Run(record.parent, json.loads(record.read_text()))
        return "to measure" if reproduce.unmeasured(run, plan.whole()) else "finished"
    done = reproduce.epochs_done(runs.Draft(record.parent))
    return "to publish" if done == experiment.epochs else "to train"


def fail(results: Path, experiment: Experiment, step: str, error: Exception, device, lanes: int = 1) -> None:
    """Note a failure. If the device answers this process no more, end it: then any run may be to blame."""
    say(f"{experiment.name}, {step}: {type(error).__name__}: {error}")
    if lanes == 1 or not broken(device):
        with open(folder_of(results) / "failures.jsonl", "a") as file:
            file.write(json.dumps([experiment.name, step, str(error)]) + "\n")
    if broken(device):
        os._exit(1)


def broken(device: torch.device) -> bool:
    """Whether the device answers this process no more, as after an error in one of its kernels."""
    try:
        return torch.ones(1, device=device).item() != 1
    except RuntimeError:
        return True


def failures(results: Path) -> set[tuple[str, str]]:
    path = folder_of(results) / "failures.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return {(name, step) for name, step, _ in map(json.loads, lines)}


def say(words: str) -> None:
    print(time.strftime("%X"), words, flush=True)


def start(results: Path, minutes: float, *options: str, words: Sequence[str] = ()) -> None:
    """Leave :func:`work` behind, in a session of its own, and return once it is at work.

    With ``words``, at another slice than smoke tried: its kinds of step that are not among smoke's are
    trained unseen.

    Raises:
        RunError: another is at work there, or it ended at once; the message holds what it said.
    """
    plan = read(results)
    if at_work(results):  # whose process number is to stay known
        raise runs.RunError(f"the work in {results} has begun already; see wait")
    if words:
        plan = dataclasses.replace(plan, words=tuple(words))
        plan.groups()  # whose words are checked
        plan.write(results)
    path, begun = folder_of(results) / "log", folder_of(results) / "begun"
    begun.unlink(missing_ok=True)
    command = [sys.executable, __file__, "work", "--results", results, "--minutes", str(minutes), *options]
    with open(path, "a") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    # of the whole group: kill -- -PID ends it
    (folder_of(results) / "pid").write_text(str(process.pid))
    while not begun.exists():  # to try the lock would take it from the work for a moment
        if process.poll() is not None:
            raise runs.RunError(f"the work ended at once:\n{path.read_text()[-2000:]}")
        time.sleep(0.1)


def at_work(results: Path) -> bool:
    try:
        with reproduce.locked(results):
            return False
    except runs.RunError:
        return True


def wait(results: Path, minutes: float) -> None:
    """Return when the work has ended, or after so many minutes; say how far it is."""
    end = time.time() + 60 * minutes
    while time.time() < end and at_work(results):
        time.sleep(0.5)
    plan, path = read(results), folder_of(results) / "log"
    print("\n".join(path.read_text().splitlines()[-40:]) if path.exists() else "")
    print(dict(collections.Counter(stage(plan, results, experiment) for experiment in plan.experiments())))


# ---------------------------------------------------------------- what comes home


def collect(results: Path, out: Path, weights: list[str]) -> None:
    """Files of published runs that are new since the last call, in tar files of 15 MB; a run's are together.

    Weights come last, of runs whose name fits one of the patterns; a file that is larger than a piece is cut.
    Of seeds above 0 the pictures stay behind.
    """
    path = folder_of(results) / "sent.json"
    sent = json.loads(path.read_text()) if path.exists() else {}
    small, large = [], []
    for experiment in read(results).experiments():
        if not (results / experiment.name / "run.json").exists():
            continue
        wanted = ["run.json", *(name for name in runs.files_of(experiment) if name != runs.WEIGHTS)]
        kept = [name for name in wanted if not (experiment.seed and name.endswith(".png"))]
        small.append(
            [(f"{experiment.name}/{name}", (results / experiment.name / name).read_bytes()) for name in kept]
        )
        if any(fnmatch.fnmatch(experiment.name, pattern) for pattern in weights):
            content = (results / experiment.name / runs.WEIGHTS).read_bytes()
            cuts = range(0, len(content), PIECE)
            names = [f"{experiment.name}/{runs.WEIGHTS}.{i:02}of{len(cuts):02}" for i in range(len(cuts))]
            large += [[(name, content[cut : cut + PIECE])] for name, cut in zip(names, cuts, strict=True)]
    out.mkdir(parents=True, exist_ok=True)
    pieces: list[list[tuple[str, bytes]]] = [[]]
    for group in small + large:
        new = [(name, content) for name, content in group if sent.get(name) != sha256(content)]
        if sum(len(content) for _, content in pieces[-1] + new) > PIECE and pieces[-1]:
            pieces.append([])
        pieces[-1] += new
    for piece in filter(None, pieces[:PIECES]):
        with tarfile.open(out / f"runs-{time.time_ns()}.tar", "w") as tar:
            for name, content in piece:
                _add(tar, name, content)
                sent[name] = sha256(content)
    with tarfile.open(out / "logs.tar.gz", "w:gz") as tar:
        for file in folder_of(results).iterdir():
            _add(tar, file.name, file.read_bytes())
    runs.write_json(path, sent)
    left = sum(map(len, pieces[PIECES:]))
    print(f"{sum(map(len, pieces[:PIECES]))} files of {len(small)} runs; {left} are left for another call")


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(content), 0o644
    tar.addfile(member, io.BytesIO(content))


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def receive(folder: Path, results: Path) -> None:
    """Collected pieces, wherever they are in a folder, as runs of a results folder, each read and checked.

    Raises:
        RunError: there is no piece, or a piece or a run is damaged; all others have been received.
    """
    names, wrong = set(), []
    if not (pieces := sorted(folder.rglob("runs-*.tar"), key=lambda path: path.name)):  # as collected
        raise runs.RunError(f"no piece that was collected is in {folder}")
    for path in pieces:
        try:
            with tarfile.open(path) as tar:
                inside = tar.getnames()  # read to the end before anything is written
                tar.extractall(results, filter="data")
        except tarfile.TarError as error:
            wrong.append(f"{path} is damaged: {error}")
        else:
            names |= {name.rpartition("/")[0] for name in inside}
    for name in sorted(names):
        parts = sorted((results / name).glob(f"{runs.WEIGHTS}.*of*"))
        if parts and len(parts) == int(parts[0].name[-2:]):
            with runs.write_atomically(results / name / runs.WEIGHTS) as whole:
                whole.write_bytes(b"".join(part.read_bytes() for part in parts))
            for part in parts:
                part.unlink()
        try:
            print(f"{runs.load(results / name).path}")
        except runs.RunError as error:
            wrong.append(str(error))
    if wrong:
        raise runs.RunError("\n".join(wrong))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("run", "smoke", "start", "work", "wait", "collect", "receive"))
    parser.add_argument("words", nargs="*", metavar="SLICE", help=f"parts: {', '.join(PARTS)}; or patterns")
    parser.add_argument("--results", type=Path, help="results folder (default: the book's)")
    parser.add_argument("--profile", choices=sorted(reproduce.PROFILES), default="full")
    parser.add_argument("--rehearse", action="store_true", help="the same runs with tiny networks, 2 epochs")
    parser.add_argument("--minutes", type=float, default=math.inf, help="end, or wait no longer, than these")
    parser.add_argument("--at-once", type=int, default=0, help="runs that train at once (default: the best)")
    parser.add_argument("--finishers", type=int, default=2, help="processes that publish (default: 2)")
    parser.add_argument("--after", type=Path, help="results folder of a slice to be trained first")
    parser.add_argument("--to", type=Path, help="folder of the pieces")
    parser.add_argument("--weights", nargs="*", default=[], metavar="PATTERN", help="runs whose weights come")
    arguments = parser.parse_intermixed_args()
    if arguments.what in ("run", "smoke", "receive") and not arguments.words:
        parser.error(
            f"{arguments.what} what? It needs {'a folder' if arguments.what == 'receive' else 'a slice'}"
        )
    if arguments.what == "collect" and not arguments.to:
        parser.error("collect needs --to")
    results = (arguments.results or runs.results_root()).absolute()
    if (commit := ROOT / "WWAE_COMMIT").exists():  # in a tree that tools/pack.py packed
        os.environ.setdefault("WWAE_COMMIT", commit.read_text())
    until = time.time() + 60 * arguments.minutes
    try:
        if arguments.what == "run":
            inception.network()  # fetched now if it is missing
        if arguments.what in ("run", "smoke"):
            new = Plan(tuple(arguments.words), arguments.profile, arguments.rehearse, {}, {}, {})
            smoke(read(results) if os.environ.pop(GO_ON, "") else new, results)
        if arguments.what in ("run", "work"):
            work(results, until, arguments.at_once, arguments.finishers, arguments.after)
        if arguments.what == "start":
            options = [f"--at-once={arguments.at_once}", f"--finishers={arguments.finishers}"]
            options += [f"--after={arguments.after.absolute()}"] if arguments.after else []
            start(results, arguments.minutes, *options, words=arguments.words)
        if arguments.what in ("run", "wait"):
            wait(results, arguments.minutes)
        if arguments.what == "collect":
            collect(results, arguments.to, arguments.weights)
        if arguments.what == "receive":
            receive(Path(*arguments.words), results)
    except (data.DataError, runs.RunError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
