"""How does it look? One matplotlib style, and figures drawn from recorded runs alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import torch

from .gaussian import total_moments
from .tables import name_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from .runs import Run

__all__ = [
    "COLOURS",
    "overview",
    "pictures",
    "posterior",
    "reconstructions",
    "training_curves",
    "use_style",
]

# Okabe & Ito's palette (2008): told apart with every common colour-vision deficiency.
COLOURS = {
    "blue": "#0072B2",
    "orange": "#D55E00",
    "green": "#009E73",
    "purple": "#CC79A7",
    "sky": "#56B4E9",
    "yellow": "#E69F00",
    "grey": "#6E6E6E",
}


def use_style() -> None:
    """Set matplotlib's defaults for the book: quiet axes, type that stays legible on a phone."""
    mpl.rcParams.update(
        {
            "axes.axisbelow": True,
            "axes.grid": True,
            "axes.prop_cycle": mpl.cycler(color=list(COLOURS.values())),
            "axes.spines.right": False,
            "axes.spines.top": False,
            "axes.titlelocation": "left",
            "axes.titlesize": "medium",
            "figure.constrained_layout.use": True,
            "figure.dpi": 110,
            "figure.figsize": (7.2, 3.6),
            "font.size": 11,
            "grid.alpha": 0.25,
            "legend.frameon": False,
            "lines.linewidth": 1.8,
            "savefig.facecolor": "white",
        }
    )


def training_curves(runs: Sequence[Run]) -> Figure:
    """Reconstruction term and penalty of each run, an epoch a point."""
    figure, axes = plt.subplots(1, 2, figsize=(7.2, 3.0))
    for run, colour in zip(runs, COLOURS.values(), strict=False):
        history = run.history()
        epochs = [line["epoch"] for line in history]
        for axis, term in zip(axes, ("reconstruction", "penalty"), strict=True):
            axis.plot(epochs, [line[term] for line in history], color=colour, label=name_of(run))
    axes[0].set(title="reconstruction term", xlabel="epoch", ylabel="squared error an image", yscale="log")
    axes[1].set(title="penalty, before weighting", xlabel="epoch", yscale="log")
    axes[0].yaxis.set_major_locator(mpl.ticker.LogLocator(subs=(1, 2, 3, 5)))
    axes[0].yaxis.set_major_formatter("{x:g}")
    axes[0].yaxis.set_minor_formatter(mpl.ticker.NullFormatter())
    axes[0].legend()
    return figure


def pictures(runs: Sequence[Run], which: str, rows: int = 6) -> Figure:
    """The first rows of a recorded grid (``samples`` or ``interpolations``) of each run, side by side."""
    figure, axes = plt.subplots(1, len(runs), figsize=(3.6 * len(runs), 3.6 * rows / 10 + 0.3), squeeze=False)
    for axis, run in zip(axes[0], runs, strict=True):
        grid = run.grid(which)
        _image(axis, grid[: grid.shape[1] // 10 * rows], name_of(run))
    return figure


def reconstructions(runs: Sequence[Run], columns: int = 10) -> Figure:
    """The same test images, above what each run makes of them."""
    grids = [run.grid("reconstructions") for run in runs]
    side = grids[0].shape[1] // 10
    strips = [grids[0][:side], *(grid[side : 2 * side] for grid in grids)]
    figure, axes = plt.subplots(len(strips), 1, figsize=(7.2, 0.8 * len(strips)))
    for axis, strip, label in zip(axes, strips, ["test image", *map(name_of, runs)], strict=True):
        _image(axis, strip[:, : side * columns])
        axis.text(-0.01, 0.5, label, transform=axis.transAxes, ha="right", va="center")
    return figure


def posterior(runs: Sequence[Run]) -> Figure:
    """The aggregated posterior of each run against the prior.

    Above: test images' codes (sampled) in the plane of the two coordinates of largest and smallest
    variance, each digit a colour, with the circles that hold 39% and 86% of the prior and the same
    ellipses of the aggregated posterior. Below: histogram of every coordinate against the normal density.
    """
    figure, axes = plt.subplots(
        2, len(runs), figsize=(3.6 * len(runs), 5.6), squeeze=False, height_ratios=[3, 2]
    )
    grid = np.linspace(-4, 4, 200)
    for (above, below), run in zip(axes.T, runs, strict=True):
        codes, mean, covariance = _codes(run)
        order = covariance.diagonal().argsort()
        pair = [order[-1], order[0]]
        labels = run.codes()["label"].numpy()
        above.scatter(*codes[:, pair].T, c=labels, cmap="tab10", s=4, linewidths=0, alpha=0.7)
        _ellipses(above, np.zeros(2), np.eye(2), "black", "prior", "-")
        _ellipses(
            above, mean[pair], covariance[np.ix_(pair, pair)], COLOURS["orange"], "aggregated posterior", "--"
        )
        above.set(title=name_of(run), aspect="equal", xlim=(-4, 4), ylim=(-4, 4))
        above.set(xlabel=f"$z_{{{pair[0] + 1}}}$", ylabel=f"$z_{{{pair[1] + 1}}}$")
        below.hist(
            codes, bins=grid[::6], density=True, histtype="step", color=[COLOURS["sky"]] * codes.shape[1]
        )
        below.plot(grid, np.exp(-(grid**2) / 2) / np.sqrt(2 * np.pi), color="black", label="N(0, 1)")
        below.set(xlabel="each coordinate", yticks=[])
    axes[0, 0].legend(loc="upper left", fontsize="small")
    axes[1, 0].legend(loc="upper left", fontsize="small")
    return figure


def overview(run: Run) -> Figure:
    """What a WWAE is, drawn from a recorded run: images, their codes against the prior, new images."""
    figure, axes = plt.subplots(1, 3, figsize=(9.6, 3.1), width_ratios=[1, 1.35, 1])
    grid, new = run.grid("reconstructions"), run.grid("samples")
    side = grid.shape[1] // 10
    originals = grid.reshape(-1, 2 * side, *grid.shape[1:])[:, :side].reshape(-1, *grid.shape[1:])
    _image(axes[0], originals[: 5 * side, : 5 * side], "images $x$")
    _image(axes[2], new[: 5 * side, : 5 * side], "new images $G(z)$, $z \\sim N(0, I)$")
    codes, mean, covariance = _codes(run)
    labels = run.codes()["label"].numpy()
    axes[1].scatter(*codes[:, :2].T, c=labels, cmap="tab10", s=4, linewidths=0, alpha=0.7)
    _ellipses(axes[1], np.zeros(2), np.eye(2), "black", "prior", "-")
    _ellipses(axes[1], mean[:2], covariance[:2, :2], COLOURS["orange"], "aggregated posterior", "--")
    axes[1].set(title="codes $z$", aspect="equal", xlim=(-4, 4), ylim=(-3.2, 3.2), xticks=[], yticks=[])
    axes[1].grid(False)
    axes[1].legend(loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=2, fontsize="small")
    for spine in axes[1].spines.values():
        spine.set_visible(False)
    for start, end, word in ((0, 1, "encoder"), (1, 2, "decoder $G$")):
        arrow = {"arrowstyle": "-|>", "lw": 1.8, "color": COLOURS["blue"]}
        ends = {"xycoords": axes[end].transAxes, "textcoords": axes[start].transAxes}
        axes[end].annotate("", (-0.03, 0.5), (1.03, 0.5), arrowprops=arrow, annotation_clip=False, **ends)
        axes[start].text(
            1.07, 0.57, word, transform=axes[start].transAxes, color=COLOURS["blue"], fontsize="small"
        )
    figure.get_layout_engine().set(wspace=0.14)
    return figure


def _image(axis: Axes, pixels: np.ndarray, title: str = "") -> None:
    axis.imshow(pixels, cmap="gray_r", vmin=0, vmax=255, interpolation="nearest")
    axis.set_title(title)
    axis.set_axis_off()


def _codes(run: Run) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One sampled code a kept test image, and mean and covariance of their aggregated posterior."""
    kept = run.codes()
    noise = torch.randn(kept["mean"].shape, generator=torch.Generator().manual_seed(0))
    mean, covariance = total_moments(kept["mean"], kept["std"].square())
    return (kept["mean"] + kept["std"] * noise).numpy(), mean.numpy(), covariance.numpy()


def _ellipses(
    axis: Axes, mean: np.ndarray, covariance: np.ndarray, colour: str, label: str, line: str
) -> None:
    """The ellipses one and two standard deviations from the mean of a plane Gaussian."""
    angle = np.linspace(0, 2 * np.pi, 200)
    circle = np.linalg.cholesky(covariance) @ np.stack([np.cos(angle), np.sin(angle)])
    for radius in (1, 2):
        axis.plot(
            *(mean[:, None] + radius * circle),
            line,
            color=colour,
            lw=1.6,
            label=label if radius == 1 else None,
        )
