"""How is a method trained, on which device, and how does an interrupted training go on?

Lightning Fabric chooses the device and wraps precision; the loop itself is written out here. Every random
number of an epoch follows from (seed, epoch) alone. So a checkpoint needs no generator's state, and a resumed
run repeats what the uninterrupted one would have done, bit for bit on a CPU.

Under ``torchrun`` the processes share each batch. ``batch_size`` is that of all processes together; each
draws the same order and noise and takes its part (:mod:`wwae_lib.processes`). The first one writes, into a
results folder that all can read. A checkpoint can be resumed by any number of processes.

On a GPU the steps are recorded once and replayed (:mod:`wwae_lib.steps`), and several trainings may share it.
Nothing is compiled: on a CPU (x86-64, torch 2.12, the compact networks) ``torch.compile`` took a minute and
its steps were no faster, 0.8 to 1.05 times in five interleaved pairs; on a GPU it has not been measured yet.
"""

from __future__ import annotations

import contextlib
import getpass
import logging
import math
import os
import time
import warnings
from collections.abc import Generator, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from . import files, processes, runs
from .checkpoints import Checkpoints, TrainingDiverged, trained_in
from .data import Images, get_dataset
from .experiments import Experiment, Plan, build
from .measures import evaluation, pictures
from .methods import METHODS, Method
from .precision import computes_bf16
from .steps import Lane, NotFinite, Steps, can_capture, rate_dtype

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = [
    "Fitted",
    "TrainingDiverged",
    "choose_fabric",
    "fit",
    "fit_experiment",
    "fitting",
    "reseed",
    "train",
]

# A run's record says which precision was used; Fabric need not say it on stderr as well.
logging.getLogger("lightning_fabric.utilities.rank_zero").setLevel(logging.WARNING)

# Fused Adam is called outside a graph, too: in the steps before one is recorded.
warnings.filterwarnings("ignore", "This instance was constructed with capturable=True")

LOOK_EVERY = 50  # steps between two looks at the running means, the only times the host waits


def choose_fabric(accelerator: str = "auto", precision: str = "auto") -> Fabric:
    """Fabric on one device: a GPU if there is one, with bfloat16 autocast if the hardware computes in it.

    In a process of ``torchrun`` it is on the process's own device, and connects the process to the others.

    Args:
        accelerator: ``auto``, which is ``cuda`` where there is such a device, else ``cpu``; or ``mps``, which
            we could not try.
        precision: ``auto``, ``32-true`` or ``bf16-mixed``.

    Raises:
        ValueError: there is no such accelerator, or not on this machine; or the user has no name here.
    """
    try:
        getpass.getuser()  # as torch's compiler does, to name a folder
    except (KeyError, OSError, ImportError) as error:
        raise ValueError(f"this user has no name here ({error}): set USER to any name") from error
    # imported here since it imports torch's compiler, which takes seconds
    from lightning_fabric import Fabric

    devices: dict[str, Any] = {"devices": 1}
    if "TORCHELASTIC_RUN_ID" in os.environ:
        local = int(os.environ["LOCAL_WORLD_SIZE"])
        # Where two players take turns, one's weights have no gradient in the other's turn.
        strategy = "ddp_find_unused_parameters_true"
        nodes = int(os.environ["WORLD_SIZE"]) // local
        devices = {"devices": local, "num_nodes": nodes, "strategy": strategy}
    if accelerator == "auto":  # MPS has neither float64 nor eigensolvers, and was never tried
        accelerator = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        fabric = Fabric(accelerator=accelerator, **devices)
    except (ImportError, RuntimeError, ValueError) as error:
        raise ValueError(f"there is no accelerator {accelerator!r} here ({error})") from error
    if precision == "auto":
        precision = "bf16-mixed" if computes_bf16(fabric.device) else "32-true"
    fabric = Fabric(accelerator=accelerator, precision=cast(Any, precision), **devices)
    fabric.launch()
    return fabric


def train(
    experiment: Experiment,
    images: Images,
    test_images: Images,
    *,
    results: Path | None = None,
    resume: bool = False,
    restart: bool = False,
    fabric: Fabric | None = None,
    progress: bool = True,
) -> runs.Run:
    """Train an experiment and record it as a run, with pictures and quick metrics.

    A finished run of that name is replaced once the new one is complete. A finished run of another
    configuration, or of other images, is replaced only if ``restart`` is set.

    Args:
        experiment: what to train.
        images, test_images: the training split, and the split for pictures and metrics.
        results: the results folder; default :func:`wwae_lib.runs.results_root`.
        resume: go on from the last checkpoint, if there is one; return a run that is finished.
        restart: throw away the checkpoint of an interrupted training, and replace another finished run.
        fabric: device and precision; default :func:`choose_fabric`.
        progress: show a progress bar.

    Raises:
        RunError: a run or checkpoint is in the way, damaged, or of another experiment or other images; or
            another process is training it, or nothing can be written there.
        TrainingDiverged: a term of the loss became NaN or infinite.
        ValueError: these images cannot train the experiment, or not test it: another data set's, of another
            shape, test images, or too few.
    """
    _check_images(experiment, images)
    if (of := _kind(test_images)) != (wanted := _kind(images)):
        raise ValueError(f"the training images are {wanted}, the test images {of}")
    if len(test_images) < (shown := pictures.GRID**2 // 2):
        raise ValueError(f"the pictures of a run show {shown} test images, there are {len(test_images)}")
    fabric = fabric or choose_fabric()
    draft = runs.Draft(Path(results or runs.results_root()).expanduser() / experiment.name)
    with files.owned(draft.path) if fabric.is_global_zero else contextlib.nullcontext(), _told(draft):
        if fabric.is_global_zero:
            runs.finish_swap(draft.path)  # an earlier process may have been killed while it published
            runs.check_ours(draft.path, draft.folder)
            if restart:
                draft.discard()
        fabric.barrier()
        if not restart and (run := _finished(draft, experiment, images, resume)):
            return run
        fitted = fit_experiment(experiment, images, draft=draft, fabric=fabric, progress=progress)
        first = fabric.is_global_zero
        run = _publish(draft, experiment, fitted, images, test_images) if first else None
        fabric.barrier()
    return run or runs.load(draft.path)


@contextlib.contextmanager
def _told(draft: runs.Draft) -> Iterator[None]:
    """Let an interruption say what it leaves."""
    try:
        yield
    except KeyboardInterrupt as stopped:
        stopped.add_note(
            f"the last checkpoint is kept in {draft.folder}, and train --resume goes on from it"
            if draft.checkpoint.exists()
            else "no epoch was finished, so that nothing is kept"
        )
        raise


def _publish(
    draft: runs.Draft, experiment: Experiment, fitted: Fitted, images: Images, test_images: Images
) -> runs.Run:
    """Make the draft of a trained method its run: weights, pictures, record. Its history is there already."""
    method = fitted.method
    stored = {
        name: value.half() if value.is_floating_point() else value for name, value in method.kept().items()
    }
    files.write_tensors(draft.folder / runs.WEIGHTS, stored)
    # what is shown and measured is what is stored: half precision
    method.load_state_dict(method.state_dict() | stored)
    pictures.write_pictures(method, images, test_images, draft.folder, experiment.seed)
    return draft.publish(
        {
            "config": experiment.as_dict(),
            "environment": trained_in(draft) | {"train_seconds": round(fitted.seconds, 1)},
            "data": {"source": images.source, "train": _identity(images), "test": _identity(test_images)},
            "metrics": evaluation.quick_metrics(method, test_images),
        }
    )


def _check_images(experiment: Experiment, images: Images) -> None:
    given, expected = _kind(images), (experiment.dataset, *get_dataset(experiment.dataset).shape)
    if given != expected:
        raise ValueError(f"the experiment is about {expected}, the images are {given}")
    if METHODS[experiment.method].grey_only and images.pixels.shape[1] > 1:
        raise ValueError(
            f"{experiment.method} is a model of grey images; those of {images.dataset} have colours"
        )
    _check_split(images)
    _steps_per_epoch(len(images), experiment.batch_size)


def _kind(images: Images) -> tuple[Any, ...]:
    """Of which data set images are, and of which shape."""
    return images.dataset, *images.pixels.shape[1:]


def _check_split(images: Images) -> None:
    if images.split == "test":
        raise ValueError("test images never train: use the split 'train'")


def _steps_per_epoch(images: int, batch_size: int) -> int:
    """A last, smaller batch is left out: its moments would be noisier than the others'."""
    if batch_size % processes.count():
        raise ValueError(f"a batch of {batch_size} cannot be shared equally by {processes.count()} processes")
    if images < batch_size:
        raise ValueError(
            f"a batch of {batch_size} is larger than the {images} images; choose a smaller batch_size"
        )
    return images // batch_size


def _finished(draft: runs.Draft, experiment: Experiment, images: Images, resume: bool) -> runs.Run | None:
    """The finished run if this is to be resumed; None where there is something to train.

    Raises:
        RunError: an interrupted training is in the way, or a run of another configuration or other images.
    """
    if draft.checkpoint.exists():
        if not resume:
            raise files.RunError(
                f"{draft.path} was interrupted: resume it, or restart to throw its checkpoint away"
            )
        return None
    if not (draft.path / runs.RECORD).exists():
        return None
    run = runs.load(draft.path)
    changes = experiment.changes_from(run.experiment.as_dict())
    if run.record["data"]["train"] != _identity(images):
        before, now = run.record["data"]["train"]["sha256"][:8], images.sha256[:8]
        changes.append(f"its images had SHA-256 {before}..., these have {now}... ({images.source})")
    if changes:
        raise files.RunError(
            f"{draft.path} is finished, and another run: {'; '.join(changes)}. A variant keeps both, restart "
            "replaces it"
        )
    return run if resume else None


def _identity(images: Images) -> dict[str, Any]:
    return {"split": images.split, "images": len(images), "sha256": images.sha256}


def fit(
    method: Method,
    images: Images | Tensor,
    *,
    epochs: int = 10,
    batch_size: int = 128,
    learning_rate: float = 1e-3,
    warm_up: int = 0,
    seed: int = 0,
    fabric: Fabric | None = None,
    capture: bool = True,
    progress: bool = True,
) -> list[dict[str, float]]:
    """Train a method on images, in place: Adam, its rate falling to 0 along a cosine, on shuffled batches.

    Method and images may be your own. Nothing is written; :func:`train` keeps a record.

    Args:
        method: trained in place; afterwards it is on the fabric's device, in evaluation mode.
        images: ``(n, ...)``, uint8 or numbers in [0, 1]; mixed precision keeps about eight bits of numbers.
        epochs: passes over the images; a last, smaller batch of each is left out.
        batch_size: images a step, those of all processes together.
        learning_rate: at the start.
        warm_up: steps in which the rate rises to it. Without batch normalisation the first steps at the full
            rate can leave a deterministic encoder with one code for all images, which it keeps.
        seed: decides the order of the images and the noise.
        fabric: device and precision; default :func:`choose_fabric`.
        capture: on a CUDA device, record steps as graphs and replay them (:mod:`wwae_lib.steps`).
        progress: show a progress bar.

    Returns:
        One dictionary an epoch: epoch, learning rate, mean of each term of the loss, seconds.

    Raises:
        TrainingDiverged: a term of the loss became NaN or infinite.
        ValueError: the images are fewer than a batch, neither uint8 nor finite numbers, or test images; or,
            of a method that :meth:`~wwae_lib.methods.Method.for_images` made, of another shape or beyond
            [0, 1].
    """
    pixels = images.pixels if isinstance(images, Images) else images
    if isinstance(images, Images):
        _check_split(images)
    if not isinstance(pixels, Tensor):
        raise ValueError(f"images are a tensor, or Images; got {type(pixels).__name__}")
    if pixels.dtype != torch.uint8 and not (pixels.is_floating_point() and pixels.isfinite().all()):
        raise ValueError(f"images are uint8 or finite numbers in [0, 1]; got {pixels.dtype}, or not finite")
    if method.shape:
        _check_fits(method.shape, pixels)
    plan = Plan(seed=seed, epochs=epochs, batch_size=batch_size, learning_rate=learning_rate, warm_up=warm_up)
    fabric = fabric or choose_fabric()
    loop = _loop(method, pixels, plan, Checkpoints(None, {}, fabric, 1), fabric, capture, progress)
    return _alone(loop, fabric.device).history


def _check_fits(shape: tuple[int, ...], pixels: Tensor) -> None:
    """Refuse images that the networks were not made for: theirs end in a sigmoid."""
    if pixels.shape[1:] != shape:
        raise ValueError(f"the method was made for images {shape}; got {tuple(pixels.shape[1:])}")
    if pixels.is_floating_point() and not (pixels.min() >= 0 and pixels.max() <= 1):
        raise ValueError(
            f"the numbers of images lie in [0, 1]; these go from {pixels.min():.3g} to {pixels.max():.3g}. "
            "Scale them, or pass uint8"
        )


class Fitted(NamedTuple):
    """A trained method, one dictionary per epoch, and the seconds spent (earlier sittings included)."""

    method: Method
    history: list[dict[str, float]]
    seconds: float


def fit_experiment(
    experiment: Experiment,
    images: Images,
    *,
    draft: runs.Draft | None = None,
    fabric: Fabric | None = None,
    capture: bool = True,
    progress: bool = True,
) -> Fitted:
    """An experiment's method, built and trained: nothing is written unless a draft is given.

    Args:
        draft: where checkpoints are kept; training continues from the one that is there.
        fabric, capture, progress: as :func:`fit`.

    Raises: as :func:`train`.
    """
    fabric = fabric or choose_fabric()
    loop = fitting(experiment, images, draft, fabric, capture=capture, progress=progress)
    return _alone(loop, fabric.device)


def fitting(
    experiment: Experiment,
    images: Images,
    draft: runs.Draft | None,
    fabric: Fabric,
    *,
    at_once: int = 1,
    capture: bool = True,
    progress: bool = True,
) -> Generator[None, None, Fitted]:
    """:func:`fit_experiment` as a generator, which yields whenever it is about to wait for the device.

    Args:
        at_once: so many trainings take turns on the device (:mod:`wwae_lib.book.together`).
    """
    _check_images(experiment, images)
    reseed(experiment.seed)
    identity = {"experiment": experiment.as_dict(), "images": images.sha256} if draft else {}
    checkpoints = Checkpoints(draft, identity, fabric, at_once)
    method = build(experiment)
    return (yield from _loop(method, images.pixels, experiment, checkpoints, fabric, capture, progress))


def _alone(loop: Generator[None, None, Fitted], device: torch.device) -> Fitted:
    """What a training returns that has its device for itself."""
    with Lane(device).active():
        while True:
            try:
                next(loop)
            except StopIteration as done:
                return done.value


def _loop(
    method: Method,
    pixels: Tensor,
    plan: Plan,
    checkpoints: Checkpoints,
    fabric: Fabric,
    capture: bool,
    progress: bool,
) -> Generator[None, None, Fitted]:
    """Train a method; yield whenever it is about to wait for the device, so that others may queue work."""
    size, per_epoch = plan.batch_size, _steps_per_epoch(len(pixels), plan.batch_size)
    # to its device and layout before there is an optimiser, whose restored moments follow the weights
    method = method.to(fabric.device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    optimizers = {player: _adam(method, player, plan.learning_rate) for player in method.players}
    done, history = checkpoints.restore(method, optimizers)
    bar = tqdm(
        total=plan.epochs * per_epoch * size,
        initial=done * per_epoch * size,
        desc=getattr(plan, "name", type(method).__name__),
        unit="img",
        unit_scale=True,
        disable=not progress or not fabric.is_global_zero,
    )
    with bar, closing(_set_up(fabric, method, optimizers, pixels, size, per_epoch, capture)) as steps:
        for epoch in range(done + 1, plan.epochs + 1):
            start = time.perf_counter()
            rates = _begin(steps, plan, epoch, len(pixels))
            try:
                means = yield from _epoch(steps, method, epoch, bar)
            except NotFinite as error:
                raise checkpoints.diverged(f"epoch {epoch}, {error}") from None
            # A loss can be finite and its gradient not: such weights must not replace good ones.
            if not torch.stack([weight.isfinite().all() for weight in method.parameters()]).all():
                raise checkpoints.diverged(f"epoch {epoch}: the weights")
            seconds = round(time.perf_counter() - start, 3)
            history.append({"epoch": epoch, "learning_rate": rates[-1], **means, "seconds": seconds})
            if checkpoints.due(last=epoch == plan.epochs):
                checkpoints.save(epoch, history, method, steps.optimizers)
    return Fitted(method.eval(), history, sum(line["seconds"] for line in history))


def _set_up(
    fabric: Fabric,
    method: Method,
    optimizers: dict[str, Any],
    pixels: Tensor,
    size: int,
    count: int,
    capture: bool,
) -> Steps:
    """The steps of a training, every process ready for them."""
    fabric.barrier()  # before the first process may write over what the others read
    processes.normalise_whole_batch(method)
    wrapped, *adams = fabric.setup(method.train(), *optimizers.values())
    optimizers = dict(zip(optimizers, adams, strict=True))
    capture = capture and can_capture(fabric.device, method)
    return Steps(fabric, wrapped, optimizers, pixels.to(fabric.device), size, count, capture)


def _begin(steps: Steps, plan: Plan, epoch: int, images: int) -> list[float]:
    """Begin an epoch, with random numbers of its own; the learning rate of each of its steps."""
    reseed(plan.seed, epoch)
    count, size = steps.order.shape
    rates = [rate_at(plan, epoch - 1 + step / count, (epoch - 1) * count + step) for step in range(count)]
    steps.begin(torch.randperm(images)[: count * size], rates)
    return rates


def _epoch(steps: Steps, method: Method, epoch: int, bar: tqdm) -> Generator[None, None, dict[str, float]]:
    """The steps of an epoch; the means of its terms.

    Raises:
        NotFinite: a term was NaN or infinite.
    """
    count, size = steps.order.shape
    means: dict[str, float] = {}
    for step in range(count):
        steps.take(method.turns((epoch - 1) * count + step))
        if (step + 1) % LOOK_EVERY == 0 or step + 1 == count:
            yield
            means = steps.means()
            losses = {name: f"{value:.2f}" for name, value in means.items() if "loss" in name}
            bar.set_postfix({"epoch": epoch} | losses, refresh=False)
        bar.update(size)
    return means


def _adam(method: Method, player: str, rate: float) -> torch.optim.Adam:
    """Fused, one pass over weights and moments; the learning rate is a tensor, which a graph can read."""
    weights = method.weights(player)
    device = weights[0].device
    return torch.optim.Adam(
        weights,
        lr=torch.tensor(rate, dtype=rate_dtype(device), device=device),
        betas=method.betas,
        fused=True,
        capturable=device.type == "cuda",
    )


def rate_at(plan: Plan, epochs: float, steps: int) -> float:
    """Learning rate after so many epochs, and so many steps: along a cosine to 0, after the warm-up."""
    rate = plan.learning_rate * 0.5 * (1 + math.cos(math.pi * (epochs / plan.epochs)))
    return rate if steps >= plan.warm_up else rate * ((steps + 1) / (plan.warm_up + 1))


def reseed(*entropy: int) -> None:
    """Seed torch from a few integers, well mixed: (0, 1) and (1, 0) share nothing."""
    torch.manual_seed(int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0]))
