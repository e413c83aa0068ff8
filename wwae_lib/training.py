"""The loop: device, precision, checkpoints, resume, progress.

Lightning Fabric chooses the device and wraps precision; the loop itself is here to be read.
Every random number of an epoch follows from (seed, epoch) alone, so a checkpoint needs no generator's state,
and a resumed run repeats what the uninterrupted one would have done, bit for bit on a CPU.
"""

from __future__ import annotations

import logging
import math
import platform
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from . import evaluation, methods, runs
from .data import SHAPES, Images, to_unit
from .experiments import Experiment
from .methods import AutoEncoder, Loss

__all__ = ["TrainingDiverged", "choose_fabric", "fit", "train"]

# A run's record says which precision was used; Fabric need not say it on stderr as well.
logging.getLogger("lightning_fabric.utilities.rank_zero").setLevel(logging.WARNING)

LOOK_EVERY = 50  # steps between two looks at the running means, the only times the host waits


class TrainingDiverged(runs.RunError):
    """A term of the loss stopped being finite; the message names it and the checkpoint that is kept."""


def choose_fabric(accelerator: str = "auto", precision: str = "auto") -> Fabric:
    """Fabric on one device: a GPU where there is one; bfloat16 autocast where the hardware computes in it.

    Args:
        accelerator: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        precision: ``auto``, ``32-true`` or ``bf16-mixed``.

    Raises:
        ValueError: there is no such accelerator, or not on this machine.
    """
    try:
        fabric = Fabric(accelerator=accelerator, devices=1)
    except RuntimeError as error:
        raise ValueError(f"there is no accelerator {accelerator!r} here ({error})") from error
    if precision == "auto":
        precision = "bf16-mixed" if _computes_bf16(fabric.device) else "32-true"
    return Fabric(accelerator=accelerator, devices=1, precision=precision)


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
    """Train an experiment and record it as a run, pictures and cheap metrics included.

    A finished run of that name is replaced, but only once the new one is complete.

    Args:
        experiment: what to train.
        images, test_images: training split, and the split that pictures and metrics are of.
        results: the results folder; default :func:`wwae_lib.runs.results_root`.
        resume: go on from the last checkpoint, if there is one; a run that is finished is returned.
        restart: throw away the checkpoint of an interrupted training.
        fabric: device and precision; default :func:`choose_fabric`.
        progress: show a progress bar.

    Raises:
        RunError: a run or checkpoint is in the way, damaged, or of another experiment or other images.
        TrainingDiverged: a term of the loss became NaN or infinite.
        ValueError: these images cannot train the experiment: another data set's, test images, or too few.
    """
    _check_images(experiment, images)
    if len(test_images) < (shown := evaluation.GRID**2 // 2):
        raise ValueError(f"the pictures of a run show {shown} test images, there are {len(test_images)}")
    path = (results or runs.results_root()) / experiment.name
    draft = runs.Draft(path)
    runs.settle(path)  # an earlier process may have been killed while it published
    if restart:
        draft.discard()
    elif draft.checkpoint.exists():
        if not resume:
            raise runs.RunError(f"{path} was interrupted: resume it, or restart to throw its checkpoint away")
    elif resume and (path / "run.json").exists():
        return _finished(path, experiment, images)
    fabric = fabric or choose_fabric()
    where = environment(fabric)  # before training, so that the commit is the one that trains
    method, history, seconds = fit(experiment, images, draft=draft, fabric=fabric, progress=progress)

    with runs.write_aside(draft.folder / "weights.safetensors") as part:
        save_file(
            {name: value.half().cpu().contiguous() for name, value in method.state_dict().items()}, part
        )
    # What is shown and measured is what is stored: the weights rounded to half precision.
    method.load_state_dict({name: value.half().float() for name, value in method.state_dict().items()})
    evaluation.write_pictures(method, test_images, draft.folder, experiment.seed)
    draft.write_history(history)
    return draft.publish(
        {
            "config": experiment.as_dict(),
            "environment": where | {"train_seconds": round(seconds, 1)},
            "data": {"source": images.source, "train": _about(images), "test": _about(test_images)},
            "metrics": evaluation.measure(method, test_images),
        }
    )


def _check_images(experiment: Experiment, images: Images) -> None:
    if (found := (images.dataset, *images.pixels.shape[1:])) != (
        expected := (experiment.dataset, *SHAPES[experiment.dataset])
    ):
        raise ValueError(f"the experiment is about {expected}, the images are {found}")
    if images.split == "test":
        raise ValueError("test images never train: use the split 'train'")
    if len(images) < experiment.batch_size:
        raise ValueError(
            f"a batch of {experiment.batch_size} is larger than the {len(images)} images; "
            "choose a smaller batch_size"
        )


def _finished(path: Path, experiment: Experiment, images: Images) -> runs.Run:
    """The finished run that is to be resumed, if it is this one."""
    run = runs.load(path)
    if run.experiment != experiment or run.record["data"]["train"] != _about(images):
        raise runs.RunError(f"{path} is finished, with another configuration or other images")
    return run


def _about(images: Images) -> dict[str, Any]:
    return {"split": images.split, "images": len(images), "sha256": images.sha256()}


def fit(
    experiment: Experiment,
    images: Images,
    *,
    draft: runs.Draft | None = None,
    fabric: Fabric | None = None,
    progress: bool = True,
) -> tuple[AutoEncoder, list[dict[str, float]], float]:
    """The loop alone: nothing is written unless a draft is given, which is resumed if it has a checkpoint.

    Returns:
        The trained method, one dictionary an epoch, and the seconds spent (earlier sittings included).

    Raises: as :func:`train`.
    """
    _check_images(experiment, images)
    fabric = fabric or choose_fabric()
    size, count = experiment.batch_size, len(images)
    steps = count // size  # a last, smaller batch is left out: its moments would be noisier than the rest

    with torch.random.fork_rng(_cuda_devices(fabric)):
        _seed(experiment.seed)
        method = methods.build(experiment)
        optimizer = torch.optim.Adam(method.parameters(), lr=experiment.learning_rate)
        done, history = 0, []
        identity = {"experiment": experiment.as_dict(), "images": images.sha256()} if draft else {}
        if draft and draft.checkpoint.exists():
            done, history = _restore(draft, method, optimizer, identity)
        method = method.to(memory_format=torch.channels_last)
        method, optimizer = fabric.setup(method, optimizer)
        pixels = images.pixels.to(fabric.device)

        bar = tqdm(
            total=experiment.epochs * steps * size,
            initial=done * steps * size,
            desc=experiment.name,
            unit="img",
            unit_scale=True,
            disable=not progress,
        )
        method.train()
        with bar:
            for epoch in range(done + 1, experiment.epochs + 1):
                start = time.perf_counter()
                _seed(experiment.seed, epoch)
                order = torch.randperm(count)[: steps * size].to(fabric.device)
                watch = _Watch(fabric.device)
                for step, chosen in enumerate(order.view(steps, size)):
                    for group in optimizer.param_groups:
                        group["lr"] = cosine(experiment, (epoch - 1 + step / steps) / experiment.epochs)
                    batch = to_unit(pixels[chosen]).contiguous(memory_format=torch.channels_last)
                    loss = method(batch)
                    optimizer.zero_grad()
                    fabric.backward(loss.total)
                    optimizer.step()

                    watch.add(loss)
                    if (step + 1) % LOOK_EVERY == 0 or step + 1 == steps:
                        bar.set_postfix(epoch=epoch, loss=f"{watch.means(epoch, draft)['loss']:.2f}")
                    bar.update(size)
                line = {"epoch": epoch, "learning_rate": group["lr"], **watch.means(epoch, draft)}
                history.append(line | {"seconds": round(time.perf_counter() - start, 3)})
                # A loss can be finite and its gradient not: such weights must not replace good ones.
                if not torch.stack([weight.isfinite().all() for weight in method.parameters()]).all():
                    raise _diverged(f"epoch {epoch}: the weights", epoch, draft)
                if draft:
                    state = {"format": runs.FORMAT, "epoch": epoch, "history": history, **identity}
                    draft.save_checkpoint(_tensors(method.module, optimizer), state)
    return method.module.eval(), history, sum(line["seconds"] for line in history)


def cosine(experiment: Experiment, progress: float) -> float:
    """Learning rate after a share ``progress`` in [0, 1] of training: from the full rate to 0."""
    return experiment.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))


class _Watch:
    """Running means of an epoch's terms, kept on the device, and the first step each was not finite."""

    def __init__(self, device: torch.device):
        self.sums = torch.zeros(
            len(Loss._fields), device=device, dtype=torch.float64 if device.type != "mps" else None
        )
        self.steps = 0
        self.first_bad = torch.full((len(Loss._fields),), torch.inf, device=device)

    def add(self, loss: Loss) -> None:
        self.steps += 1
        terms = torch.stack(loss).detach()
        self.sums += terms
        self.first_bad = torch.where(terms.isfinite(), self.first_bad, self.first_bad.clamp_max(self.steps))

    def means(self, epoch: int, draft: runs.Draft | None) -> dict[str, float]:
        """Means so far, which waits for the device.

        Raises:
            TrainingDiverged: a term was not finite.
        """
        names = ("loss", *Loss._fields[1:])
        if (first := self.first_bad.min().item()) < math.inf:
            guilty = [n for n, step in zip(names, self.first_bad.tolist(), strict=True) if step == first]
            guilty = [n for n in guilty if n != "loss"] or guilty
            raise _diverged(f"epoch {epoch}, step {first:.0f}: {' and '.join(guilty)}", epoch, draft)
        return dict(zip(names, (self.sums / self.steps).tolist(), strict=True))


def _diverged(what: str, epoch: int, draft: runs.Draft | None) -> TrainingDiverged:
    kept = "no epoch was finished, so there is no checkpoint"
    if draft and draft.checkpoint.exists():
        kept = f"the checkpoint of epoch {epoch - 1} is kept in {draft.folder}"
    return TrainingDiverged(
        f"{what} stopped being finite; {kept}. "
        "A smaller learning_rate or penalty_weight, or precision 32-true, usually helps."
    )


def _seed(*entropy: int) -> None:
    """Seed torch from a few integers, well mixed: (0, 1) and (1, 0) share nothing."""
    torch.manual_seed(int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0]))


def _tensors(method: AutoEncoder, optimizer: Any) -> dict[str, Tensor]:
    """Method and optimizer as one flat dictionary of tensors."""
    tensors = {f"method.{name}": value for name, value in method.state_dict().items()}
    for number, entries in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{number}.{name}": value for name, value in entries.items()}
    return tensors


def _restore(
    draft: runs.Draft, method: AutoEncoder, optimizer: torch.optim.Optimizer, identity: dict
) -> tuple:
    """Load a checkpoint into method and optimizer; the epochs done and their history."""
    tensors, state = draft.load_checkpoint()
    for key, expected in identity.items():
        if (found := state[key]) != expected:
            what = "the training images are not those it began with"
            if key == "experiment":
                found = found if isinstance(found, dict) else {}
                changed = [k for k in expected if found.get(k) != expected[k]]
                what = "; ".join(f"{k} was {found.get(k)!r}, is now {expected[k]!r}" for k in changed)
            raise runs.RunError(
                f"{draft.checkpoint} belongs to another training: {what}. Restart to throw it away."
            )
    own: dict[str, Tensor] = {}
    moments: dict[int, dict[str, Tensor]] = {}
    try:
        for name, value in tensors.items():
            kind, rest = name.split(".", 1)
            if kind == "method":
                own[rest] = value
            else:
                number, entry = rest.split(".", 1)
                moments.setdefault(int(number), {})[entry] = value
        method.load_state_dict(own)
        optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
    except (RuntimeError, ValueError) as error:
        raise runs.RunError(
            f"{draft.checkpoint} does not fit the method ({' '.join(str(error).split())}). "
            "Restart to throw it away."
        ) from error
    return state["epoch"], state["history"]


def environment(fabric: Fabric) -> dict[str, Any]:
    """What a run's record says about where it was computed."""
    device = fabric.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "device": f"{device.type} ({name})",
        "precision": str(fabric._precision.precision),
        "threads": torch.get_num_threads(),
        "git_commit": _git_commit(),
    }


def _git_commit() -> str:
    """The commit of the library's own checkout, marked where files differ from it."""
    here = Path(__file__).resolve().parent
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"],
            cwd=here, capture_output=True, text=True, check=True,
        )  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return "not from a git checkout"
    return found.stdout.strip()


def _computes_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def _cuda_devices(fabric: Fabric) -> list[int]:
    return [fabric.device.index or 0] if fabric.device.type == "cuda" else []
