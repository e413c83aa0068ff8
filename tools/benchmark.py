"""Time the training of every method, beside peers and what the machine can do, and record it for the book.

    python tools/benchmark.py [--device cuda] [--threads 2] [--quick] [--output FILE]

What is compared takes turns, in another random order each round, so that whatever else the machine does slows
all alike; every figure is a median with its quartiles over the rounds. Training is that of
``wwae_lib.training.fit_experiment``, its loop untouched: a step is a batch. Pixels are drawn at random, for
they decide no time. pythae and what it needs are installed for this alone, into .cache/peers; without a
network, or with --without-peers, its row is left out and the record says so. Stop everything else before.
"""

import argparse
import contextlib
import importlib.metadata
import io
import json
import logging
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import lightning_fabric
import numpy as np
import torch
from lightning_fabric import Fabric
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import flop_registry
from torchvision.transforms.functional import to_pil_image, to_tensor

from wwae_lib import checkpoints, data, experiments, gaussian, methods, training

ROOT = Path(__file__).resolve().parents[1]
OUTPUT = ROOT / "book" / "results" / "performance.json"
PEERS = ROOT / ".cache" / "peers"
PINNED = (
    "pythae==0.1.2",
    "pydantic==2.14.4",
    "pydantic-core==2.50.5",
    "annotated-types==0.8.0",
    "typing-inspection==0.4.5",
    "imageio==2.38.1",
    "cloudpickle==3.1.2",
)
GROUPS = {  # what is timed on each kind of device
    "cpu": [("mnist", "compact"), ("celeba", "compact"), ("mnist", "reference")],
    "cuda": [(d, n) for d in ("mnist", "celeba") for n in ("compact", "reference")],
}
WARM, PERIOD = 2, 5  # steps before the clock counts; steps after which every player has moved (WGAN-GP)


class Effort(NamedTuple):
    """How much is measured."""

    groups: list[tuple[str, str]]
    methods: tuple[str, ...]
    small: str  # the network for which the penalty's share and the peers are timed
    rounds: int  # at most; at least three
    steps: int  # counted in a visit, a multiple of PERIOD
    limit: float  # seconds that the rounds of one table may take
    pairs: int  # of visits of the AE and the WWAE
    batches: int  # of an epoch beside pythae
    matrix: int  # side of the largest matrices of the roofline
    images: int  # for the Inception network


class Stopwatch(Fabric):
    """Fabric that notes when each step of the loop begins, on the device's own clock where it has one."""

    clock = staticmethod(time.perf_counter)  # of a CPU

    def setup(self, method, *optimizers, **options):
        self.marks, turns = [], method.turns

        def marked(step: int) -> tuple[str, ...]:
            self.marks.append(self._mark())
            return turns(step)

        method.turns = marked
        return super().setup(method, *optimizers, **options)

    def _mark(self):
        if self.device.type != "cuda":
            return self.clock()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def durations(self) -> list[float]:
        """Seconds of each step but the last."""
        if self.device.type != "cuda":
            return [b - a for a, b in zip(self.marks, self.marks[1:], strict=False)]
        torch.cuda.synchronize()
        return [a.elapsed_time(b) / 1e3 for a, b in zip(self.marks, self.marks[1:], strict=False)]


def pixels(dataset: str, count: int) -> data.Images:
    """Noise in the shape of a data set."""
    drawn = torch.randint(0, 256, (count, *data.DATASETS[dataset].shape), dtype=torch.uint8)
    return data.Images(drawn, torch.zeros(count, dtype=torch.int64), dataset, "train", "noise")


def quartiles(values: list[float]) -> dict[str, float | int]:
    low, median, high = np.quantile(values, (0.25, 0.5, 0.75)).tolist()
    return {"median": median, "lower_quartile": low, "upper_quartile": high, "count": len(values)}


def take_turns(tasks: dict[str, Callable[[], float]], rounds: int, seed: int = 0) -> dict[str, list[float]]:
    """What each task returns, round after round, each in another order."""
    order, returned = random.Random(seed), {name: [] for name in tasks}
    for _ in range(rounds):
        for name in order.sample(list(tasks), len(tasks)):
            returned[name].append(tasks[name]())
    return returned


def _seconds(task: Callable[[], object]) -> float:
    start = time.perf_counter()
    task()
    return time.perf_counter() - start


def _rounds(effort: Effort, seconds: float) -> int:
    """How many rounds of so many seconds each."""
    return max(3, min(effort.rounds, int(effort.limit / max(seconds, 1e-9))))


def steps_of(experiment: experiments.Experiment, fabric: Stopwatch, steps: int) -> list[float]:
    """Seconds of some steps of training, after some that warm up."""
    images = pixels(experiment.dataset, (WARM + steps + 1) * experiment.batch_size)
    training.fit_experiment(experiment, images, fabric=fabric, progress=False)
    return fabric.durations()[WARM:]


def flops(experiment: experiments.Experiment, device: torch.device | str = "cpu") -> float:
    """Floating-point operations of a step, forward and backward: matrix products and convolutions."""
    method = experiments.build(experiment).to(device).train()
    batch = pixels(experiment.dataset, experiment.batch_size).pixels.to(device)
    turns = [method.turns(step) for step in range(PERIOD)]
    turns = turns[:1] if len(set(turns)) == 1 else turns
    with _Operations() as operations:
        for player in (player for players in turns for player in players):
            method(batch, player).total.backward()
    return operations.count / len(turns)


class _Operations(TorchDispatchMode):
    """Counts by torch's own formulas; its FlopCounterMode cannot follow a gradient of a gradient."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if (formula := flop_registry.get(function.overloadpacket)) is not None:
            self.count += formula(*args, **(kwargs or {}), out_val=result)
        return result


# ---------------------------------------------------------------- what is measured


def roofline(device: torch.device, side: int) -> dict:
    """The fastest of several operations and sizes, in each precision, and a copy.

    Of the sizes the largest is seldom the fastest on a processor, whose cache it leaves.
    """
    roof = {"fastest": {}}
    for precision, dtype in (("32-true", torch.float32), ("bf16-mixed", torch.bfloat16)):
        rates = {}
        for name, (count, work) in operations(device, dtype, side).items():
            rates[name] = count / min(_several_seconds(work, device))
        roof["fastest"][precision] = best = max(rates, key=rates.get)
        roof[f"flops_per_second_{precision}"] = rates[best]
    source = torch.randn(16 * side * side // 4, device=device)
    target = torch.empty_like(source)
    roof["bytes_per_second"] = 2 * source.nbytes / min(_several_seconds(lambda: target.copy_(source), device))
    return roof


def operations(
    device: torch.device, dtype: torch.dtype, side: int
) -> dict[str, tuple[float, Callable[[], object]]]:
    """What networks spend their time on: floating-point operations, counted by torch's formulas, and work."""
    works = {}
    for size in (side // 4, side // 2, side):
        a = torch.randn(size, size, device=device).to(dtype)
        works[f"matrix product, {size} x {size}"] = 2 * size**3, lambda a=a: a @ a
        works[f"linear layer, {size} x {size}"] = 2 * size**3, lambda a=a: functional.linear(a, a)
    for channels, filters in ((64, 4), (64, 3), (128, 3), (256, 3), (256, 1)):
        x = torch.randn(max(1, side // 64), channels, 16, 16, device=device)
        weight = torch.randn(channels, channels, filters, filters, device=device)
        x, weight = (y.to(dtype).contiguous(memory_format=torch.channels_last) for y in (x, weight))
        work = lambda x=x, w=weight: functional.conv2d(x, w, padding=w.shape[-1] // 2)  # noqa: E731
        count = 2 * work().numel() * channels * filters**2
        works[f"convolution, {channels} channels, {filters} x {filters}"] = count, work
    return works


def _several_seconds(work: Callable[[], object], device: torch.device) -> list[float]:
    seconds = []
    for _ in range(6):
        _wait(device)
        seconds.append(_seconds(lambda: (work(), _wait(device))))
    return seconds


def beside_roofline(rows: list[dict], before: dict, after: dict) -> dict:
    """Say of every step which share of the roofline it reaches, and return the roofline.

    It is the better of one measured before the steps and one after them, for the machine may have been busy.

    Raises:
        RuntimeError: a step is faster than what should bound it.
    """
    roof = {key: max(before[key], after[key]) for key in before if key != "fastest"}
    roof["fastest"] = {}
    for precision in before["fastest"]:
        better = max(before, after, key=lambda measured: measured[f"flops_per_second_{precision}"])
        roof["fastest"][precision] = better["fastest"][precision]
    for row in rows:
        peak = roof[f"flops_per_second_{row['precision']}"]
        row["share_of_roofline"] = row["flops"] / row["step_seconds"]["median"] / peak
        if row["share_of_roofline"] > 1:
            raise RuntimeError(
                f"{row['method']} on {row['dataset']}, {row['network']}, reaches "
                f"{row['share_of_roofline']:.2f} of the roofline of {peak / 1e9:.0f} GFLOP/s. "
                "Was the machine busy while that was measured?"
            )
    return roof


def step_times(fabric: Stopwatch, effort: Effort) -> tuple[list[dict], list[dict]]:
    """Every method on every network; and those that one visit showed to be too slow."""
    precision, rows, left_out = str(fabric._precision.precision), [], []
    for dataset, network in effort.groups:
        tasks, spent = {}, 0.0
        for name in effort.methods:
            experiment = experiments.experiment(dataset, name, network=network, epochs=1)
            tasks[name] = lambda e=experiment: statistics.mean(steps_of(e, fabric, effort.steps))
        probes = {name: _seconds(task) for name, task in tasks.items()}
        for name in sorted(tasks, key=probes.get):
            spent += 3 * probes[name]
            if spent > effort.limit:
                del tasks[name]
                entry = {"dataset": dataset, "network": network, "method": name}
                left_out.append(entry | {"reason": f"a visit takes {probes[name]:.1f} s: beyond the limit"})
        seconds_of = take_turns(tasks, _rounds(effort, sum(probes[name] for name in tasks)))
        for name, seconds in seconds_of.items():
            experiment = experiments.experiment(dataset, name, network=network)
            timed, work = quartiles(seconds), flops(experiment, fabric.device)
            row = {
                "dataset": dataset,
                "network": network,
                "method": name,
                "batch_size": experiment.batch_size,
            }
            row |= {"precision": precision, "step_seconds": timed, "flops": work}
            row |= {"images_per_second": experiment.batch_size / timed["median"]}
            rows.append(row)
            print(f"  {dataset} {network:<10}{name:<14}{1e3 * timed['median']:9.1f} ms per step "
                  f"{row['images_per_second']:8.0f} images/s  "
                  f"{work / timed['median'] / 1e9:8.0f} GFLOP/s")  # fmt: skip
    return rows, left_out


def penalty_share(fabric: Stopwatch, effort: Effort) -> list[dict]:
    """What the WWAE's penalty adds to a step: alone, and by AE and WWAE steps side by side."""
    rows = []
    for dataset, network in effort.groups:
        if network != effort.small:
            continue
        options = {"network": network, "epochs": 1, "initial_std": 0.01}
        pair = {n: experiments.experiment(dataset, n, **options) for n in ("ae", "wwae")}
        steps = 2 * effort.steps
        tasks = {n: lambda e=e, k=steps: statistics.median(steps_of(e, fabric, k)) for n, e in pair.items()}
        round_seconds = sum(_seconds(task) for task in tasks.values())
        seconds = take_turns(tasks, _rounds(effort._replace(rounds=effort.pairs), round_seconds))
        excess = np.array(seconds["wwae"]) / np.array(seconds["ae"]) - 1
        draws = np.random.default_rng(0).choice(excess, (2000, len(excess)))
        low, high = np.quantile(np.median(draws, 1), (0.025, 0.975)).tolist()
        alone = statistics.median(_penalty_seconds(pair["wwae"], fabric.device) for _ in range(50))
        ae = statistics.median(seconds["ae"])
        row = {"dataset": dataset, "network": network, "latent": pair["wwae"].latent}
        row |= {"batch_size": pair["wwae"].batch_size, "ae_step_seconds": quartiles(seconds["ae"])}
        row |= {"wwae_step_seconds": quartiles(seconds["wwae"]), "penalty_seconds": alone}
        row |= {"share_alone": alone / ae, "share_of_pairs": float(np.median(excess))}
        rows.append(row | {"interval_95": [low, high], "pairs": len(excess)})
        print(f"  {dataset}: the penalty takes {alone / ae:.2%} of an AE's step; "
              f"WWAE against AE {np.median(excess):+.1%} [{low:+.1%}, {high:+.1%}]")  # fmt: skip
    return rows


def _penalty_seconds(experiment: experiments.Experiment, device: torch.device) -> float:
    shape = (experiment.batch_size, experiment.latent)
    mean = torch.randn(shape, device=device, requires_grad=True)
    log_variance = torch.full(shape, -4.0, device=device, requires_grad=True)
    _wait(device)
    start = time.perf_counter()
    gaussian.w2_penalty(mean, log_variance.exp().mean(0)).backward()
    _wait(device)
    return time.perf_counter() - start


def beside_peers(fabric: Stopwatch, effort: Effort, peers: bool) -> tuple[list[dict], list[dict]]:
    """An epoch of WAE-MMD on a small network: ours, pythae's, a plain PyTorch loop."""
    device = fabric.device
    experiment = experiments.experiment("mnist", "wae_mmd", network=effort.small, initial_std=0.0, epochs=2)
    images = pixels("mnist", effort.batches * experiment.batch_size)
    full = Stopwatch(accelerator=device.type, precision="32-true", devices=1)

    def ours(fabric: Stopwatch) -> float:
        training.fit_experiment(experiment, images, fabric=fabric, progress=False)
        return sum(fabric.durations()[-effort.batches + 1 :]) / (effort.batches - 1)

    tasks = {
        "wwae_lib": lambda: ours(fabric),
        "wwae_lib, float32": lambda: ours(full),
        "plain loop": lambda: plain_epoch(experiment, images, device) / effort.batches,
    }
    left_out = []
    if peers and (problem := install_peers()):
        left_out.append({"method": "pythae", "reason": problem})
    elif peers:
        tasks["pythae"] = lambda: pythae_epoch(experiment, images, device) / effort.batches
    else:
        left_out.append({"method": "pythae", "reason": "--without-peers"})
    round_seconds = sum(_seconds(task) for task in tasks.values())  # which warms up too
    seconds_of, rows = take_turns(tasks, _rounds(effort, round_seconds)), []
    for name, seconds in seconds_of.items():
        timed = quartiles(seconds)
        ratio = quartiles((np.array(seconds) / np.array(seconds_of["wwae_lib"])).tolist())
        precision = str(fabric._precision.precision) if name == "wwae_lib" else "32-true"
        rows.append({"trainer": name, "precision": precision, "step_seconds": timed, "to_wwae_lib": ratio})
        print(f"  {name:<20}{1e3 * timed['median']:9.1f} ms per step, {ratio['median']:.2f} times wwae_lib's")
    return rows, left_out


class Pictures(Dataset):
    """Images one by one, as torchvision's data sets with ``ToTensor`` give them."""

    def __init__(self, images: data.Images):
        self.pictures = [to_pil_image(image) for image in images.pixels]

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> torch.Tensor:
        return to_tensor(self.pictures[index])


def plain_epoch(experiment: experiments.Experiment, images: data.Images, device: torch.device) -> float:
    """Seconds of the second epoch of the loop of a tutorial: DataLoader, float32, a look at every loss."""
    method = experiments.build(experiment).to(device).train()
    optimizer = torch.optim.Adam(method.parameters(), lr=experiment.learning_rate)
    loader = DataLoader(Pictures(images), batch_size=experiment.batch_size, shuffle=True)
    for _ in range(2):
        start, total = time.perf_counter(), 0.0
        for batch in loader:
            loss = method(batch.to(device)).total
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
    return time.perf_counter() - start


def install_peers() -> str:
    """Put pythae where it can be imported; what went wrong, or nothing."""
    sys.path.append(str(PEERS))
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        if f"pythae=={importlib.metadata.version('pythae')}" in PINNED:
            return ""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--upgrade"]
    command += ["--target", str(PEERS), *PINNED]
    done = subprocess.run(command, capture_output=True, text=True)
    importlib.invalidate_caches()
    return "" if done.returncode == 0 else f"pip could not install it: {done.stderr.strip()[-200:]}"


def pythae_epoch(experiment: experiments.Experiment, images: data.Images, device: torch.device) -> float:
    """Seconds of the second epoch of pythae's own trainer: its WAE_MMD on our encoder and decoder."""
    from pythae.data.datasets import BaseDataset
    from pythae.models import WAE_MMD, WAE_MMD_Config
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder
    from pythae.trainers import BaseTrainer, BaseTrainerConfig
    from pythae.trainers.training_callbacks import TrainingCallback

    class Encoder(BaseEncoder):
        def __init__(self, network):
            super().__init__()
            self.network = network

        def forward(self, x):
            return ModelOutput(embedding=self.network(x)[0])

    class Decoder(BaseDecoder):
        def __init__(self, network):
            super().__init__()
            self.network = network

        def forward(self, z):
            return ModelOutput(reconstruction=self.network(z))

    class Watch(TrainingCallback):
        def on_train_step_begin(self, training_config, **rest):  # once an epoch
            self.start = time.perf_counter()

        def on_train_step_end(self, training_config, **rest):  # after every batch, whose loss was looked at
            self.end = time.perf_counter()

    method, watch = experiments.build(experiment), Watch()
    config = WAE_MMD_Config(
        input_dim=data.DATASETS["mnist"].shape,
        latent_dim=experiment.latent,
        reg_weight=experiment.penalty_weight,
    )
    model = WAE_MMD(config, encoder=Encoder(method.encoder), decoder=Decoder(method.decoder))
    logging.disable(logging.INFO)
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
        trainer = BaseTrainer(
            model,
            BaseDataset(data.to_unit(images.pixels), images.labels),
            training_config=BaseTrainerConfig(
                output_dir=folder,
                num_epochs=experiment.epochs,
                learning_rate=experiment.learning_rate,
                per_device_train_batch_size=experiment.batch_size,
                no_cuda=device.type != "cuda",
            ),
            callbacks=[watch],
        )
        trainer.train()
    logging.disable(logging.NOTSET)
    return watch.end - watch.start


def inception_speed(device: torch.device, effort: Effort) -> list[dict]:
    """Images a second of the network of the FID: ours, on a GPU in both precisions, and pytorch-fid's own."""
    from pytorch_fid.inception import InceptionV3

    from wwae_lib.measures import inception

    images = pixels("celeba", effort.images)
    theirs = InceptionV3([InceptionV3.BLOCK_INDEX_BY_DIM[2048]]).eval().to(device)

    @torch.no_grad()
    @inception.full_float32()  # as ours
    def reference() -> None:
        for batch in data.to_unit(images.pixels).split(50):  # pytorch-fid's own batch
            theirs(batch.to(device))[0].cpu()

    works = {"pytorch-fid": reference}
    for precision in inception.PRECISIONS if device.type == "cuda" else inception.PRECISIONS[:1]:
        net = inception.network(precision).to(device)
        works[precision] = lambda net=net: inception.features(images.pixels, net, device, progress=False)
    round_seconds = sum(_seconds(work) for work in works.values())
    seconds_of = take_turns(
        {n: lambda w=w: _seconds(w) / len(images) for n, w in works.items()}, _rounds(effort, round_seconds)
    )
    rows = []
    for name, seconds in seconds_of.items():
        speed = quartiles((np.array(seconds_of["pytorch-fid"]) / np.array(seconds)).tolist())
        rows.append({"network": name, "image_seconds": quartiles(seconds), "speed_to_pytorch_fid": speed})
        print(f"  {name:<14}{1e3 * statistics.median(seconds):8.1f} ms per image")
    return rows


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def measure(options: argparse.Namespace) -> dict:
    chosen = training.choose_fabric(options.device, options.precision)
    precision = str(chosen._precision.precision)
    fabric = Stopwatch(accelerator=chosen.device.type, precision=precision, devices=1)
    device, on_gpu = fabric.device, fabric.device.type == "cuda"
    effort = Effort(
        GROUPS[device.type], methods.METHODS, "compact", 5, PERIOD * (20 if on_gpu else 1), options.limit,
        48 if on_gpu else 24, 200 if on_gpu else 30, 8192 if on_gpu else 2048, 1000 if on_gpu else 50,
    )  # fmt: skip
    if options.quick:
        effort = Effort([("mnist", "tiny")], ("ae", "wwae", "wgan_gp"), "tiny", 2, PERIOD, 1e9, 3, 4, 256, 2)
    started = time.perf_counter()
    record = {"format": 1, "environment": checkpoints.environment(fabric) | about()}
    if record["environment"]["git_commit"].endswith("-dirty"):
        print("The checkout differs from its commit: the record is marked dirty.", file=sys.stderr)
    record["quick"] = options.quick
    before = roofline(device, effort.matrix)
    record["steps"], left_out = step_times(fabric, effort)
    record["roofline"] = beside_roofline(record["steps"], before, roofline(device, effort.matrix))
    record["penalty"] = penalty_share(fabric, effort)
    record["trainers"], without = beside_peers(fabric, effort, not options.without_peers)
    record["inception"] = [] if options.without_inception else inception_speed(device, effort)
    record["left_out"] = left_out + without
    record["seconds"] = round(time.perf_counter() - started, 1)
    return record


def about() -> dict[str, str | int]:
    """What the record of a run does not say about the machine."""
    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.split(":")[1].strip() for line in lines if "model name" in line), model)
    versions = {"lightning-fabric": lightning_fabric.__version__}  # which may come within another package
    versions |= {"pytorch-fid": importlib.metadata.version("pytorch-fid"), "pythae": PINNED[0].split("==")[1]}
    return {"processor": model, "cores": os.cpu_count() or 1, **versions}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--precision", default="auto", choices=("auto", "32-true", "bf16-mixed"))
    parser.add_argument("--threads", type=int, help="CPU threads (default: torch's)")
    parser.add_argument(
        "--limit", type=float, default=45.0, help="seconds a table's rounds take (default 45)"
    )
    parser.add_argument("--quick", action="store_true", help="little of everything, to see that it works")
    parser.add_argument("--without-peers", action="store_true", help="leave pythae out")
    parser.add_argument("--without-inception", action="store_true", help="leave the FID's network out")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    record = measure(options)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    aside = options.output.with_suffix(".part.json")
    aside.write_text(json.dumps(record, indent=1) + "\n")
    aside.replace(options.output)
    print(f"{record['seconds']:.0f} s; {options.output}")


if __name__ == "__main__":
    main()
