"""Time the penalty, forward and backward, and whole steps of training with it, beside the alternatives.

    python tools/benchmark_penalty.py [--device cuda] [--threads 2] [--only penalties|steps] [--output FILE]

Penalties that some method of the book trains with are timed as it calls them, draws of the prior included;
each competitor starts from the same batch of codes and ends with the gradient in the codes. Whole steps are
those of ``wwae_lib.training.fit`` (tools/benchmark.py), of the methods that differ in their penalty alone.
The competitors take turns within each repeat (the quick among themselves, then the slow), so that
whatever else the machine does slows them all alike: read the ratios. Each repeat has another random
order, so that none always finds the caches as the same other left them. With one CPU thread (the
default) the time is the processor's, which other programs do not inflate; with more, or on a GPU,
it is the clock's. A competitor that needs more than --limit seconds for one call is left out.
With --only, the other half of the record stays as it was; each half says how it was made.
"""

import argparse
import json
import platform
import random
import statistics
import time
import warnings
from pathlib import Path

import benchmark
import ot
import torch

from wwae_lib import experiments, gaussian, methods, penalties, training

SHAPES = [(100, 8), (256, 64), (1024, 64), (4096, 256)]
REFERENCE = "pythonot"
# Whole steps: data sets, steps of a visit, the methods.
STEPS = {"mnist": 10, "celeba": 3}
TRAINED = ("wwae", "ae", "vae_learned", "wae_mmd", "swae", "cwae")
OUTPUT = Path(__file__).resolve().parents[1] / "book" / "results" / "penalty_benchmark.json"


def two_steps(z, prior):
    return gaussian.w2_squared_to_standard_normal(*gaussian.moments(z))


def penalty_by_products(z, prior):
    return gaussian.w2_penalty(z, eigensolver=False)


def pythonot(z, prior):
    """The W2 distance (not its square) by PythonOT's torch backend."""
    mean, eye = z.mean(0), torch.eye(z.shape[1], dtype=z.dtype, device=z.device)
    return ot.gaussian.bures_wasserstein_distance(mean, torch.zeros_like(mean), torch.cov(z.T), eye)


def plain_eigvalsh(z, prior):
    """What one would write first; its gradient is not finite for singular covariances."""
    values = torch.linalg.eigvalsh(torch.cov(z.T))
    return z.mean(0).square().sum() + (values.sqrt() - 1).square().sum()


def trained(name):
    """The penalty of a method of the book, as it is called in training."""

    def penalty(z, prior):
        method = methods.METHODS[name](None, None, z.shape[1], 1.0)
        return method.penalty(z, torch.full_like(z, -torch.inf), z)

    return penalty


def mmd_of_one_scale(z, prior):
    return penalties.mmd_squared(z, torch.randn_like(z), scales=(1.0,))


def sliced_in_few_directions(z, prior):
    directions = torch.nn.functional.normalize(torch.randn(10, z.shape[1], device=z.device), dim=1).mT
    return penalties.sliced_w2_squared(z, torch.randn_like(z), directions)


def sinkhorn(z, prior):
    """Debiased Sinkhorn divergence by PythonOT, epsilon a tenth of the mean squared distance, 50 steps."""
    epsilon = 0.2 * z.shape[1]

    def entropic(x, y):
        return ot.solve_sample(x, y, reg=epsilon, max_iter=50, tol=0, grad="last_step").value

    return entropic(z, prior) - (entropic(z, z) + entropic(prior, prior)) / 2


QUICK = {
    "w2_penalty": lambda z, prior: gaussian.w2_penalty(z),
    "w2_penalty_products": penalty_by_products,
    "w2_squared_to_standard_normal": two_steps,
    "plain_eigvalsh": plain_eigvalsh,
    "pythonot": pythonot,
    "sliced": trained("swae"),
    "sliced_10": sliced_in_few_directions,
}
PAIRS = {  # n^2 of them: seconds a call for the largest batches
    "mmd": trained("wae_mmd"),
    "mmd_one_scale": mmd_of_one_scale,
    "cramer_wold": trained("cwae"),
}
SLOW = {"sinkhorn": sinkhorn}


def seconds(function, codes, prior) -> float:
    z = codes.clone().requires_grad_()
    wait = torch.cuda.synchronize if codes.is_cuda else lambda: None
    clock = time.perf_counter if codes.is_cuda or torch.get_num_threads() > 1 else time.process_time
    wait()
    start = clock()
    function(z, prior).backward()
    wait()
    return clock() - start


def measure(n: int, d: int, device: str, repeats: int, limit: float) -> dict[str, list[float]]:
    """Seconds of every repeat by competitor."""
    generator = torch.Generator().manual_seed(0)
    codes, prior = (torch.randn(n, d, generator=generator).to(device) for _ in range(2))
    codes = 1.1 * codes + 0.1
    order = random.Random(0)
    times = {}
    for group in (QUICK | PAIRS, SLOW) if n <= 2048 else (QUICK,):
        for function in group.values():
            seconds(function, codes, prior)  # warm up
        running = {name: f for name, f in group.items() if seconds(f, codes, prior) < limit}
        times |= {name: [] for name in running}
        for _ in range(max(5, repeats // 20) if group is SLOW else repeats):
            for name in order.sample(list(running), len(running)):
                times[name].append(seconds(running[name], codes, prior))
    return times


def steps(options: argparse.Namespace) -> list[dict]:
    """Seconds of a step of training, a median each visit; methods take turns."""

    class Processor(benchmark.Stopwatch):
        clock = staticmethod(time.process_time if options.threads == 1 else time.perf_counter)

    accelerator = "cuda" if options.device.startswith("cuda") else "cpu"
    precision = training.choose_fabric(accelerator)._precision.precision
    fabric, rows = Processor(accelerator=accelerator, precision=precision, devices=1), []
    for dataset in options.datasets:
        experiment = {name: experiments.experiment(dataset, name, epochs=1) for name in TRAINED}
        tasks = {
            name: lambda e=e, k=STEPS[dataset]: statistics.median(benchmark.steps_of(e, fabric, k))
            for name, e in experiment.items()
        }
        seconds_of = benchmark.take_turns(tasks, options.visits)
        for name, visited in seconds_of.items():
            ratio = statistics.median(a / b for a, b in zip(visited, seconds_of["wwae"], strict=True))
            print(f"  {dataset:<8}{name:<14}{1e3 * statistics.median(visited):9.1f} ms per step, {ratio:.3f}")
            where = {
                "dataset": dataset,
                "network": experiment[name].network,
                "latent": experiment[name].latent,
            }
            how = {"batch_size": experiment[name].batch_size, "precision": str(precision)}
            rows.append(where | how | {"method": name, "seconds": visited})
    return rows


def penalties_alone(options: argparse.Namespace) -> list[dict]:
    """Median seconds of every competitor on every shape, and how its speed to PythonOT varies by repeat."""
    rows = []
    for n, d in SHAPES:
        repeats = options.repeats if d < 256 else max(10, options.repeats // 10)
        times = measure(n, d, options.device, repeats, options.limit)
        print(f"n = {n}, d = {d}")
        for name, taken in times.items():
            value = statistics.median(taken)
            ratio = statistics.median(times[REFERENCE]) / value
            # of the repeats that both made: a slow competitor makes fewer
            pairs = [theirs / ours for theirs, ours in zip(times[REFERENCE], taken, strict=False)]
            low, _, high = statistics.quantiles(pairs, n=4)
            print(f"  {name:<30} {1e3 * value:9.3f} ms   {ratio:6.2f} times as fast as {REFERENCE}")
            row = {"n": n, "d": d, "method": name, "seconds": value, "speed_to_pythonot": ratio}
            rows.append(row | {"speed_quartiles": [low, high]})
    return rows


def environment(options: argparse.Namespace) -> dict:
    on_gpu = options.device.startswith("cuda")
    return {
        "torch": torch.__version__,
        "pythonot": ot.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "device": torch.cuda.get_device_name() if on_gpu else "cpu",
        "threads": options.threads,
        "clock": "processor time" if options.threads == 1 and not on_gpu else "wall time",
        "as_trained": True,  # penalties that train are timed as they train
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default 1)")
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--visits", type=int, default=10, help="rounds of whole steps (default 10)")
    parser.add_argument("--datasets", nargs="+", choices=STEPS, default=list(STEPS), help="of whole steps")
    parser.add_argument("--limit", type=float, default=2.0, help="seconds one call may take")
    parser.add_argument("--only", choices=("penalties", "steps"))
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warnings.filterwarnings("ignore", message="Sinkhorn did not converge")  # 50 steps are what is timed
    kept = options.only and options.output.exists()
    record = json.loads(options.output.read_text(encoding="utf-8")) if kept else {"format": 1}
    if options.only != "steps":
        how = {"dtype": "float32", "repeats": options.repeats}
        record |= {"environment": environment(options) | how, "measured": penalties_alone(options)}
    if options.only != "penalties":
        record |= {"steps_environment": environment(options), "steps": steps(options)}
    options.output.parent.mkdir(parents=True, exist_ok=True)
    aside = options.output.with_suffix(".part.json")
    aside.write_text(json.dumps(record, indent=1) + "\n")
    aside.replace(options.output)


if __name__ == "__main__":
    main()
