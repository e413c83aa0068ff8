"""Time the penalty, forward and backward, beside the alternatives, and record it for the book.

    python tools/benchmark_penalty.py [--device cuda] [--threads 2] [--output FILE]

Each competitor starts from the same batch of codes and ends with the gradient in the codes. The
competitors take turns within each repeat (the quick among themselves, then the slow), so that
whatever else the machine does slows them all alike: read the ratios. Each repeat has another random
order, so that none always finds the caches as the same other left them. With one CPU thread (the
default) the time is the processor's, which other programs do not inflate; with more, or on a GPU,
it is the clock's. A competitor that needs more than --limit seconds for one call is left out.
"""

import argparse
import json
import platform
import random
import statistics
import time
import warnings
from pathlib import Path

import ot
import torch

from wwae_lib import gaussian

SHAPES = [(100, 8), (256, 64), (1024, 64), (4096, 256)]
REFERENCE = "pythonot"
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


def mmd(z, prior):
    """WAE's maximum mean discrepancy: inverse multiquadrics of seven scales (Tolstikhin et al. 2018)."""
    n, d = z.shape
    total = 0.0
    for x, y, sign in ((z, z, 1), (prior, prior, 1), (z, prior, -2)):
        squared = (x.square().sum(1)[:, None] + y.square().sum(1) - 2 * x @ y.T).clamp_min(0)
        for scale in (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0):
            kernel = 2 * d * scale / (2 * d * scale + squared)
            pairs = n * n if sign < 0 else n * (n - 1)
            total = total + sign * (kernel.sum() - (n if sign > 0 else 0)) / pairs
    return total


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
}
SLOW = {"mmd": mmd, "sinkhorn": sinkhorn}


def seconds(function, codes, prior) -> float:
    z = codes.clone().requires_grad_()
    wait = torch.cuda.synchronize if codes.is_cuda else lambda: None
    clock = time.perf_counter if codes.is_cuda or torch.get_num_threads() > 1 else time.process_time
    wait()
    start = clock()
    function(z, prior).backward()
    wait()
    return clock() - start


def measure(n: int, d: int, device: str, repeats: int, limit: float) -> dict[str, float]:
    """Median seconds by competitor."""
    generator = torch.Generator().manual_seed(0)
    codes, prior = (torch.randn(n, d, generator=generator).to(device) for _ in range(2))
    codes = 1.1 * codes + 0.1
    order = random.Random(0)
    times = {}
    for group in (QUICK, SLOW if n <= 2048 else {}):  # n^2 pairs: seconds a call beyond that
        for function in group.values():
            seconds(function, codes, prior)  # warm up
        running = {name: f for name, f in group.items() if seconds(f, codes, prior) < limit}
        times |= {name: [] for name in running}
        for _ in range(repeats if group is QUICK else max(5, repeats // 20)):
            for name in order.sample(list(running), len(running)):
                times[name].append(seconds(running[name], codes, prior))
    return {name: statistics.median(t) for name, t in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default 1)")
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--limit", type=float, default=2.0, help="seconds one call may take")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warnings.filterwarnings("ignore", message="Sinkhorn did not converge")  # 50 steps are what is timed
    rows = []
    for n, d in SHAPES:
        repeats = options.repeats if d < 256 else max(10, options.repeats // 10)
        medians = measure(n, d, options.device, repeats, options.limit)
        print(f"n = {n}, d = {d}")
        for name, value in medians.items():
            ratio = medians[REFERENCE] / value
            print(f"  {name:<30} {1e3 * value:9.3f} ms   {ratio:6.2f} times as fast as {REFERENCE}")
            rows.append({"n": n, "d": d, "method": name, "seconds": value, "speed_to_pythonot": ratio})
    on_gpu = options.device.startswith("cuda")
    environment = {
        "torch": torch.__version__,
        "pythonot": ot.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "device": torch.cuda.get_device_name() if on_gpu else "cpu",
        "threads": options.threads,
        "clock": "processor time" if options.threads == 1 and not on_gpu else "wall time",
        "dtype": "float32",
        "repeats": options.repeats,
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    aside = options.output.with_suffix(".part.json")
    aside.write_text(json.dumps({"format": 1, "environment": environment, "measured": rows}, indent=1) + "\n")
    aside.replace(options.output)


if __name__ == "__main__":
    main()
