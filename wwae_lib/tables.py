"""What did the runs measure? Markdown tables of records, and what methods and metrics are called."""

from __future__ import annotations

from collections.abc import Sequence

from .runs import Run

__all__ = ["METRICS", "NAMES", "name_of", "settings", "table"]

# How methods and metrics are called in figures and tables.
NAMES = {
    "wwae": "WWAE",
    "vae": "VAE",
    "vae_learned": "VAE, learned variance",
    "vae_bernoulli": "VAE, Bernoulli",
    "ae": "AE",
    "wae_mmd": "WAE-MMD",
    "wae_gan": "WAE-GAN",
    "swae": "SWAE",
    "cwae": "CWAE",
    "gan": "DCGAN",
    "wgan_gp": "WGAN-GP",
}
NAMED_ELSEWHERE = ("dataset", "method", "variant")  # in the title of a run's column
METRICS = {
    "fid": ("FID of prior samples", "{:.1f}"),
    "squared_error": ("squared error an image", "{:.2f}"),
    "posterior_w2_squared": ("squared W2, posterior to prior", "{:.3f}"),
    "posterior_variance": ("mean encoder variance", "{:.4f}"),
}


def name_of(run: Run) -> str:
    """How figures and tables call a run: its method, and its variant where it has one."""
    chosen = run.experiment
    return NAMES.get(chosen.method, chosen.method) + (
        f" ({chosen.variant.replace('_', ' ')})" if chosen.variant else ""
    )


def table(runs: Sequence[Run]) -> str:
    """The metrics of recorded runs as a Markdown table, a run a row."""
    shown = [key for key in METRICS if any(key in run.metrics for run in runs)]
    head = ["method", *(METRICS[key][0] for key in shown)]
    rows = [
        [
            name_of(run),
            *(METRICS[key][1].format(run.metrics[key]) if key in run.metrics else "-" for key in shown),
        ]
        for run in runs
    ]
    lines = [head, ["---", *["---:"] * len(shown)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def settings(runs: Sequence[Run]) -> str:
    """Configuration and circumstances of recorded runs as a Markdown table, a run a column."""
    columns = [_settings(run) for run in runs]
    lines = [["", *map(name_of, runs)], ["---"] * (len(runs) + 1)]
    lines += [[key, *(column[key] for column in columns)] for key in columns[0]]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _settings(run: Run) -> dict[str, str]:
    images, environment = run.record["data"], run.record["environment"]
    machine = [environment["device"], f"{environment['threads']} thread(s)", environment["precision"]]
    return {
        "data": f"{images['train']['images']:,} images, {images['source']}",
        **{
            f"`{key}`": str(value)
            for key, value in run.record["config"].items()
            if key not in NAMED_ELSEWHERE
        },
        "computed on": ", ".join([*machine, f"torch {environment['torch']}"]),
        "training time": f"{environment['train_seconds'] / 60:.0f} min",
    }
