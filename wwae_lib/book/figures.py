"""How does it look? One matplotlib style, and figures drawn from recorded runs alone."""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from textwrap import fill
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.patheffects import withStroke
from torch import Tensor

from ..data import get_dataset
from ..exact_draws import small_sample_bias
from ..gaussian import total_moments
from ..measures import latents
from ..measures.evaluation import to_pixels
from ..methods import METHODS
from ..runs import load_method, results_root
from .selection import draws_from_prior
from .tables import METRICS, contests, name_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ..runs import Run

__all__ = [
    "CLASS_COLOURS",
    "COLOURS",
    "WIDTH",
    "adversaries",
    "by_law",
    "code_map",
    "code_variances",
    "cost_of_the_prior",
    "fid_by_size",
    "interpolations",
    "latent_map",
    "metrics_by_choice",
    "neighbour_distances",
    "neighbours",
    "overview",
    "posterior",
    "precision_recall",
    "ranking",
    "read",
    "reconstructions",
    "samples",
    "show",
    "training_curves",
    "use_style",
]

WIDTH = 5.4  # inches

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
# Ten classes: Tol's muted scheme (2021), which is made for the same readers, and a grey.
CLASS_COLOURS = [
    *("#332288", "#88CCEE", "#44AA99", "#117733", "#999933"),
    *("#DDCC77", "#CC6677", "#882255", "#AA4499", "#6E6E6E"),
]


def use_style() -> None:
    """Set matplotlib's defaults for the book: quiet axes, type that stays legible on a phone."""
    plt.style.use("default")  # whatever the user's matplotlibrc says
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
            "figure.dpi": 150,
            "figure.figsize": (WIDTH, 2.8),
            "font.size": 12,  # in a phone's column, some 350 pixels, letters of 10 to 11 pixels
            "grid.alpha": 0.25,
            "legend.fontsize": "small",
            "legend.frameon": False,
            "lines.linewidth": 1.8,
            "savefig.bbox": "tight",
            "savefig.facecolor": "white",
            "savefig.pad_inches": 0.06,
        }
    )


def show(figure: Figure, alt: str, *, photographs: bool = False) -> None:
    """Show a figure in a notebook, with the text that stands for it where it cannot be seen.

    The text goes into the output's metadata, where JupyterLab and nbconvert look for it;
    tools/execute_notebooks.py copies it to the cell's, where the book's builder does.

    Args:
        figure: closed once it is shown.
        alt: what it shows, in a sentence or two.
        photographs: encode as JPEG, else as PNG of 256 colours.

    Raises:
        ValueError: there is no text.
    """
    from IPython.display import Image, display
    from PIL import Image as Picture

    if not alt.strip():
        raise ValueError("a figure needs its alternative text")
    drawn, encoded = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png")
    plt.close(figure)
    with Picture.open(drawn) as picture:
        opaque = picture.convert("RGB")
    if photographs:
        opaque.save(encoded, "JPEG", quality=85, optimize=True)
    else:
        opaque.quantize(256, dither=Picture.Dither.NONE).save(encoded, "PNG", optimize=True)
    display(Image(encoded.getvalue(), format="jpeg" if photographs else "png", alt=" ".join(alt.split())))


# ---------------------------------------------------------------- comparisons


def ranking(runs: Sequence[Run], key: str) -> Figure:
    """One metric of every method, a panel a contest and a dot a method, the best on top.

    Bars are 95% intervals of means over three or more seeds, whole; a hollow dot has fewer. Of a method
    beyond twice the median or so the number stands at the edge.
    """
    panels = [(contest.title, values) for contest in contests(runs) if (values := contest.measured(key))]
    panels = panels or [("not measured yet", {})]
    heights = [0.22 * len(values) + 0.3 for _, values in panels]
    size = (WIDTH, sum(heights) + 0.5 * len(panels))
    figure, axes = plt.subplots(len(panels), 1, figsize=size, squeeze=False, height_ratios=heights)
    for axis, (title, values) in zip(axes[:, 0], panels, strict=True):
        order = sorted(values, key=lambda name: values[name].mean, reverse=METRICS[key].better == "lower")
        means = [values[name].mean for name in order]
        limit = min(1.08 * max(means, default=1), 2.2 * np.median(means)) if means else 1
        beyond = {name for name in order if values[name].mean > limit}
        within = [values[name] for name in order if name not in beyond]
        ends = [value.mean + sign * np.nan_to_num(value.interval) for value in within for sign in (-1, 1)]
        least, limit = min([0, *ends]), max([limit, *(1.02 * end for end in ends)])
        for height, name in enumerate(order):
            value, colour = values[name], COLOURS[METHODS[name].line[0]]
            if name in beyond:
                words = f"{METRICS[key].form.format(value.mean)} \u2192"
                axis.text(
                    0.99 * limit, height, words, ha="right", va="center", fontsize="small", color=colour
                )
                continue
            spread = np.nan_to_num(value.interval)
            inside = "white" if np.isnan(value.interval) else colour
            axis.errorbar(value.mean, height, xerr=spread, fmt="o", color=colour, mfc=inside, ms=5)
        axis.set_yticks(range(len(order)), [METHODS[name].title for name in order], fontsize="small")
        axis.set(title=title, ylim=(-0.6, len(order) - 0.4), xlim=(least, limit))
    axes[-1, 0].set_xlabel(METRICS[key].label)
    return figure


MARKS = {"-": "o", "--": "s", ":": "^"}  # a method's mark, by the dashes of its line


def precision_recall(runs: Sequence[Run]) -> Figure:
    """Precision of new images against their recall, a panel a contest and a mark a method.

    Marks are means over seeds, with the 95% intervals of three or more. A hollow mark has fewer. A plain
    auto-encoder has no prior to draw from. A contest is left out where no method reaches a hundredth of each.
    """
    runs = [run for run in runs if draws_from_prior(run.experiment.method)]
    panels = [(contest, *map(contest.measured, ("precision", "recall"))) for contest in contests(runs)]
    panels = [
        panel
        for panel in panels
        if all(any(value.mean > 0.01 for value in some.values()) for some in panel[1:])
    ]
    across = max(1, min(2, len(panels)))
    down = max(1, -(-len(panels) // across))
    figure, axes = plt.subplots(down, across, figsize=(WIDTH, 2.5 * down + 0.6), squeeze=False)
    for axis in axes.flat[len(panels) :]:
        axis.set_axis_off()
    for axis, (contest, precisions, recalls) in zip(axes.flat, panels, strict=False):
        for name in precisions:
            precise, recalled = precisions[name], recalls[name]
            colour, dash = METHODS[name].line
            axis.errorbar(
                recalled.mean,
                precise.mean,
                xerr=np.nan_to_num(recalled.interval),
                yerr=np.nan_to_num(precise.interval),
                fmt=MARKS[dash],
                color=COLOURS[colour],
                mfc="white" if np.isnan(precise.interval) else COLOURS[colour],
                ms=5.5,
                lw=1,
                label=METHODS[name].title,
            )
        axis.set(title=contest.title, xlabel="recall", ylabel="precision", xlim=(0, None), ylim=(0, None))
        axis.margins(0.1)
    _legend(figure, axes)
    return figure


def cost_of_the_prior(runs: Sequence[Run]) -> Figure:
    """What draws of the prior cost against how far the codes are from one Gaussian; a mark a method.

    Upwards, the FID of prior samples less that of samples from a fitted mixture of ten; to the right, the
    nats per code that such a mixture gains, less those of exact draws. Of each method the runs with both.
    """
    keys = ("fid", "fid_mixture", "mixture_nats")
    runs = [run for run in runs if draws_from_prior(run.experiment.method) and {*keys} <= run.metrics.keys()]
    panels = contests(runs)
    figure, axes = plt.subplots(1, max(1, len(panels)), figsize=(WIDTH, 3.0), squeeze=False)
    for axis, contest in zip(axes[0], panels, strict=False):
        nats, prior, mixture = map(contest.measured, ("mixture_excess", "fid", "fid_mixture"))
        for name in nats:
            colour, dash = METHODS[name].line
            error = math.hypot(prior[name].error, mixture[name].error)
            axis.errorbar(
                nats[name].mean,
                prior[name].mean - mixture[name].mean,
                yerr=error,
                fmt=MARKS[dash],
                color=COLOURS[colour],
                mfc="white",
                ms=5.5,
                lw=1,
                label=METHODS[name].title,
            )
        axis.axhline(0, color=COLOURS["grey"], lw=0.8)
        axis.set(title=contest.title, xlim=(0, None))
        axis.margins(0.15)
    axes[0, 0].set_ylabel("FID, prior less mixture")
    axes[0, axes.shape[1] // 2].set_xlabel("nats per code that a mixture of ten gains")
    _legend(figure, axes)
    return figure


def _legend(figure: Figure, axes: np.ndarray) -> None:
    """One legend for all panels, below them."""
    named = {
        label: handle
        for axis in axes.flat
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=False)
    }
    figure.legend(named.values(), named.keys(), loc="outside lower center", ncols=3)


def read(name: str) -> dict[str, Any]:
    """What a tool recorded for a figure, ``NAME.json`` in the results folder."""
    return json.loads((results_root() / f"{name}.json").read_text(encoding="utf-8"))


def fid_by_size(record: Mapping[str, Any]) -> Figure:
    """The FID against the inverse of the number of images, a panel a set, and what is extrapolated.

    Args:
        record: of ``tools/fid_sizes.py``.
    """
    names = {"prior": "prior samples", "training": "training images"}
    figure, axes = plt.subplots(1, len(names), figsize=(WIDTH, 2.6), squeeze=False)
    for axis, (name, title) in zip(axes[0], names.items(), strict=True):
        some = record["sets"][name]
        sizes = sorted(map(int, some["by_size"]))
        for size in sizes:
            values = some["by_size"][str(size)]
            axis.plot([1 / size] * len(values), values, "o", color=COLOURS["blue"], mfc="white", ms=4)
        means = [np.mean(some["by_size"][str(size)]) for size in sizes]
        axis.plot([1 / size for size in sizes], means, color=COLOURS["blue"], lw=1, label="measured")
        values, errors = zip(*some["extrapolated"], strict=True)
        places = 1 / sizes[-1] * np.linspace(0.55, 0.85, len(values))
        style = {"fmt": "s", "color": COLOURS["orange"], "ms": 3.5, "lw": 1}
        axis.errorbar(places, values, yerr=errors, label=f"{sizes[-1]:,} images, extrapolated", **style)
        axis.set(title=title, xlabel="images", xlim=(0, None), ylim=(0, None))
        axis.set_xticks(
            [1 / size for size in sizes], [f"{size:,}" for size in sizes], rotation=40, ha="right"
        )
    axes[0, 0].set_ylabel("FID")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def by_law(runs: Sequence[Run], laws: Sequence[str] = ("prior", "Gaussian", "mixture")) -> Figure:
    """Ten new images of each run's decoder, a row for each law that its codes are drawn from.

    The prior, and a Gaussian and a mixture of ten fitted to the mean codes of the test images that the run
    keeps, which are too few for a mixture in many dimensions. A plain auto-encoder has no prior.
    """
    labels, strips = [], []
    for run in runs:
        method, means = load_method(run), run.codes()["mean"].float()
        for law in laws:
            if law == "prior" and run.experiment.method == "ae":
                continue
            with torch.inference_mode():
                pixels = to_pixels(method.decode(_draw(law, means))).permute(2, 0, 3, 1).numpy()
            strip = pixels.reshape(pixels.shape[0], -1, pixels.shape[3])
            labels.append(f"{name_of(run)}, {law}")
            strips.append(strip[..., 0] if strip.shape[2] == 1 else strip)
    return _strips(labels, strips, 10)


def _draw(law: str, means: Tensor) -> Tensor:
    """Ten codes from the prior, or from a law that is fitted to these."""
    if law == "prior":
        return torch.randn(10, means.shape[1], generator=torch.Generator().manual_seed(0))
    draw = {"Gaussian": latents.draw_gaussian, "mixture": latents.draw_mixture}[law]
    return draw(means, 10, 0)


# ---------------------------------------------------------------- training


def adversaries(runs: Sequence[Run]) -> Figure:
    """What the two players of each generative adversarial network reach, a panel a run and a point an epoch.

    Left out are runs without a second player on images. A discriminator's loss is its cross-entropy, which is
    2 log 2 where it cannot tell images apart; a critic's distance is what it takes W1 to be.
    """
    kinds = {
        "gan": (("discriminator_loss", "discriminator"), ("generator_loss", "generator")),
        "wgan_gp": (("distance", "critic's distance"),),
    }
    runs = [run for run in runs if run.experiment.method in kinds]
    figure, axes = plt.subplots(1, max(1, len(runs)), figsize=(WIDTH, 2.4), squeeze=False)
    for axis, run in zip(axes[0], runs, strict=False):
        history = run.history()
        for (key, label), colour in zip(kinds[run.experiment.method], ("blue", "orange"), strict=False):
            line = [row[key] for row in history]
            axis.plot([row["epoch"] for row in history], line, color=COLOURS[colour], label=label)
        if run.experiment.method == "gan":
            axis.axhline(2 * np.log(2), color=COLOURS["grey"], ls="--", lw=1.2)
        axis.set(title=name_of(run), xlabel="epoch", ylim=(0, 1.6 * axis.get_ylim()[1]))
        axis.xaxis.set_major_locator(mpl.ticker.MaxNLocator(5, integer=True))
        axis.legend(fontsize="small", loc="upper right")
    return figure


def training_curves(runs: Sequence[Run]) -> Figure:
    """Reconstruction term of every run that has one, and the penalty of the first; one point per epoch.

    The dashed line is the penalty's average for a batch of exact draws from the prior.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 3.3))
    for run in runs:
        if "reconstruction" in (history := run.history())[0]:
            colour, dash = METHODS[run.experiment.method].line
            epochs, term = zip(*((line["epoch"], line["reconstruction"]) for line in history), strict=True)
            left.plot(epochs, term, dash, color=COLOURS[colour], label=name_of(run))
    first, experiment = runs[0].history(), runs[0].experiment
    right.plot(
        [line["epoch"] for line in first], [line["penalty"] for line in first], color=COLOURS["orange"]
    )
    floor = small_sample_bias(experiment.batch_size, experiment.latent)
    right.axhline(floor, color=COLOURS["grey"], ls="--", lw=1.2)
    start, offset = (first[0]["epoch"], floor), (0, -2)  # below the line and clear of it
    right.annotate("exact draws", start, offset, textcoords="offset points", va="top", fontsize="small")
    left.set(title="squared error per image", xlabel="epoch", yscale="log")
    left.yaxis.set_major_locator(mpl.ticker.LogLocator(subs=(1, 2, 3, 5)))
    right.set(title=f"penalty, {name_of(runs[0])}", xlabel="epoch", ylim=(0, None))
    left.yaxis.set_major_formatter("{x:g}")
    left.yaxis.set_minor_formatter(mpl.ticker.NullFormatter())
    for axis in (left, right):
        axis.xaxis.set_major_locator(mpl.ticker.MaxNLocator(6, integer=True))
    figure.legend(loc="outside lower center", ncols=3)
    return figure


def metrics_by_choice(
    runs: Sequence[Run], labels: Sequence[str], baseline: int, metrics: Sequence[str]
) -> Figure:
    """Each metric against a choice, one panel per metric and one point per run; the baseline is filled."""
    across = min(2, len(metrics))
    down = -(-len(metrics) // across)
    long = max(map(len, labels)) > 5
    size = (WIDTH, down * (2.5 if long else 2.0))
    figure, axes = plt.subplots(down, across, figsize=size, squeeze=False)
    places = range(len(runs))
    for axis in axes.flat[len(metrics) :]:
        axis.set_axis_off()
    for axis, key in zip(axes.flat, metrics, strict=False):
        values = [run.metrics.get(key, np.nan) for run in runs]
        axis.plot(places, values, "-o", color=COLOURS["orange"], mfc="white", lw=1.2)
        axis.plot(baseline, values[baseline], "o", color=COLOURS["orange"])
        axis.set_title(fill(METRICS[key].label, 24), fontsize="small")
        turned = {"rotation": 40, "ha": "right"} if long else {}
        axis.set_xticks(places, labels, fontsize="small", **turned)
        axis.yaxis.set_major_locator(mpl.ticker.MaxNLocator(4))
        axis.tick_params(axis="y", labelsize="small")
        axis.set_xlim(-0.4, len(runs) - 0.6)
        axis.margins(y=0.15)
    return figure


# ---------------------------------------------------------------- images


def samples(
    runs: Sequence[Run], titles: Sequence[str] | None = None, columns: int = 5, rows: int = 4
) -> Figure:
    """Each run's first images from the prior, beside the held-out images that a run reconstructs, if any.

    The titles are by default what figures call the runs.
    """
    grids = [run.grid("samples") for run in runs]
    panels = [*zip(titles or map(name_of, runs), grids, strict=True)]
    if with_encoder := [run for run in runs if run.experiment.has_encoder]:
        held_out = "validation" if with_encoder[0].record["data"]["test"]["split"] == "valid" else "test"
        panels.insert(0, (f"{held_out} images", originals(with_encoder[0])))
    across = min(3, len(panels))
    down = -(-len(panels) // across)
    side = WIDTH / across
    figure, axes = plt.subplots(down, across, figsize=(WIDTH, down * (side * rows / columns + 0.22)))
    for axis in np.ravel(axes)[len(panels) :]:
        axis.set_axis_off()
    for axis, (title, grid) in zip(np.ravel(axes), panels, strict=False):
        pixels = grid.shape[1] // 10
        _image(axis, grid[: rows * pixels, : columns * pixels], title)
    return figure


def originals(run: Run) -> np.ndarray:
    """The rows of held-out images of a run's reconstructions."""
    grid = run.grid("reconstructions")
    side = grid.shape[1] // 10
    return grid.reshape(-1, 2 * side, *grid.shape[1:])[:, :side].reshape(-1, *grid.shape[1:])


def reconstructions(runs: Sequence[Run], columns: int = 8) -> Figure:
    """The same test images, above what each run with an encoder makes of them."""
    runs = [run for run in runs if run.experiment.has_encoder]
    strips = [originals(runs[0]), *(_row(run.grid("reconstructions"), 1) for run in runs)]
    return _strips(["test image", *map(name_of, runs)], strips, columns)


def interpolations(runs: Sequence[Run], pair: int = 0) -> Figure:
    """The same line between two images for each run: between two test images, or a GAN's two draws."""
    return _strips([*map(name_of, runs)], [_row(run.grid("interpolations"), pair) for run in runs], 10)


def neighbours(runs: Sequence[Run], columns: int = 8) -> Figure:
    """Samples of each run, each above the training image that is nearest to it."""
    labels, strips = [], []
    for run in runs:
        labels += [name_of(run), "nearest"]
        strips += [_row(run.grid("neighbours"), row) for row in (0, 1)]
    return _strips(labels, strips, columns, together=2)


def neighbour_distances(run: Run) -> np.ndarray:
    """Root mean square difference, in grey levels of 255, of ten samples to their nearest training images."""
    grid = run.grid("neighbours").astype(float)
    side = grid.shape[1] // 10
    squared = np.square(grid[:side] - grid[side:]).reshape(side, 10, side, -1)
    return np.sqrt(squared.mean(axis=(0, 2, 3)))


def _row(grid: np.ndarray, row: int) -> np.ndarray:
    side = grid.shape[1] // 10
    return grid[row * side : (row + 1) * side]


def _strips(labels: Sequence[str], strips: Sequence[np.ndarray], columns: int, together: int = 1) -> Figure:
    """Rows of images, each with its label on the left; those that stand together touch."""
    side = strips[0].shape[1] // 10
    gap = max(side // 7, 1)
    height = len(strips) * side + (len(strips) // together - 1) * gap
    paper = 0 if strips[0].ndim == 2 else 255  # grey images are drawn as ink
    canvas = np.full((height, side * columns, *strips[0].shape[2:]), paper, np.uint8)
    starts = [row * side + row // together * gap for row in range(len(strips))]
    for start, strip in zip(starts, strips, strict=True):
        canvas[start : start + side] = strip[:side, : side * columns]
    figure, axis = plt.subplots(figsize=(WIDTH, (WIDTH - 1.1) * height / (side * columns) + 0.1))
    _image(axis, canvas)
    axis.set_axis_on()
    axis.grid(False)
    axis.set_xticks([])
    axis.set_yticks([start + side / 2 for start in starts], [fill(label, 13) for label in labels])
    axis.tick_params(length=0, labelsize=10)
    for spine in axis.spines.values():
        spine.set_visible(False)
    return figure


# ---------------------------------------------------------------- codes


def posterior(runs: Sequence[Run], classes: Sequence[str] | None = None) -> Figure:
    """The aggregated posterior of each run against the prior.

    Above: test images' codes (sampled) in the plane of the two coordinates of largest and smallest
    variance, with the circles that hold 39% and 86% of the prior and the same ellipses of the
    aggregated posterior. Below: histogram of every coordinate against the normal density.

    Args:
        runs: two or three.
        classes: names of the classes, to colour and label the codes by.
    """
    figure, axes = plt.subplots(
        2,
        len(runs),
        figsize=(WIDTH, WIDTH / len(runs) + 1.9),
        squeeze=False,
        sharey="row",
        height_ratios=[3, 2],
    )
    grid = np.linspace(-4, 4, 200)
    for (above, below), run in zip(axes.T, runs, strict=True):
        codes, mean, covariance = _codes(run)
        order = covariance.diagonal().argsort()
        pair = [order[-1], order[0]]
        _scatter(above, codes[:, pair], run.codes()["label"].numpy(), classes)
        _compare(above, mean[pair], covariance[np.ix_(pair, pair)])
        above.set(title=name_of(run), aspect="equal", xlim=(-4, 4), ylim=(-4, 4))
        above.set(xlabel=f"$z_{{{pair[0] + 1}}}$", ylabel=f"$z_{{{pair[1] + 1}}}$")
        above.yaxis.labelpad = 0
        for coordinate in codes.T:
            below.hist(coordinate, grid[::6], density=True, histtype="step", color=COLOURS["sky"], lw=0.8)
        below.plot(grid, np.exp(-(grid**2) / 2) / np.sqrt(2 * np.pi), color="black", label="$N(0, 1)$")
        below.set(xlabel="each coordinate", yticks=[])
    axes[1, 0].legend(loc="upper left")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def code_variances(runs: Sequence[Run]) -> Figure:
    """Variance of the codes in each dimension, a panel a run: of the means of images, and the noise on top.

    Dimensions are in falling order of the means' variance. The prior's variance is the dashed line.
    """
    latents = [run.record["latent"] for run in runs]
    figure, axes = plt.subplots(1, len(runs), figsize=(WIDTH, 2.2), sharey=True, squeeze=False)
    for axis, run, latent in zip(axes[0], runs, latents, strict=True):
        means, noise = (np.array(latent[key]) for key in ("code_variance", "posterior_variance"))
        order = np.argsort(-means)
        places = np.arange(1, len(order) + 1)
        axis.bar(places, means[order], color=COLOURS["blue"], label="means of images")
        axis.bar(places, noise[order], bottom=means[order], color=COLOURS["yellow"], label="encoder's noise")
        axis.axhline(1, color=COLOURS["grey"], ls="--", lw=1.2)
        axis.set_title(fill(name_of(run), 12), fontsize="small")
        axis.xaxis.set_major_locator(mpl.ticker.MaxNLocator(3, integer=True))
    axes[0, 0].set_ylabel("variance")
    figure.supxlabel("dimension", fontsize="medium")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=2)
    return figure


def latent_map(
    run: Run, decode: Callable[[Tensor], Tensor], classes: Sequence[str], side: int = 13
) -> Figure:
    """A latent plane: where test images lie on it, and what the decoder makes of it.

    The decoded points are the prior's quantiles in either coordinate, so that each stands for the same
    share of the prior.

    Args:
        run: a run with two latent dimensions.
        decode: its decoder, codes ``(n, 2)`` to images ``(n, C, H, W)`` in [0, 1].
        classes: names of the ten classes.
        side: how many points a side are decoded.

    Raises:
        ValueError: the run has another number of latent dimensions.
    """
    if run.experiment.latent != 2:
        raise ValueError(
            f"a map needs 2 latent dimensions, {run.experiment.name} has {run.experiment.latent}"
        )
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 3.2))
    codes, mean, covariance = _codes(run)
    _scatter(left, codes, run.codes()["label"].numpy(), classes)
    _compare(left, mean, covariance)
    left.set(title="codes of test images", aspect="equal", xlim=(-3.2, 3.2), ylim=(-3.2, 3.2))
    left.set(xlabel="$z_1$", ylabel="$z_2$")
    ticks = torch.special.ndtri((torch.arange(side, dtype=torch.float64) + 0.5) / side).float()
    plane = torch.cartesian_prod(ticks.flip(0), ticks).flip(1)  # downwards z_2 falls, to the right z_1 rises
    with torch.inference_mode():
        images = decode(plane).mul(255).round().clamp(0, 255).to(torch.uint8).numpy()
    _, channels, height, width = images.shape
    canvas = images.reshape(side, side, channels, height, width).transpose(0, 3, 1, 4, 2)
    canvas = canvas.reshape(side * height, side * width, channels)
    _image(right, canvas[..., 0] if channels == 1 else canvas, "the plane, decoded")
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def code_map(record: Mapping[str, Any], runs: Sequence[Run]) -> Figure:
    """Mean codes of test images of every class, laid out in a plane by t-SNE, a panel a run.

    Args:
        record: of ``tools/code_maps.py``.
        runs: of whose codes it has a map.

    Raises:
        ValueError: a run was trained again since its map was made.
    """
    figure, axes = plt.subplots(1, len(runs), figsize=(WIDTH, WIDTH / len(runs) + 0.4), squeeze=False)
    for axis, run in zip(axes[0], runs, strict=True):
        made = record["maps"][run.experiment.name]
        if made["codes_sha256"] != run.record["files"]["codes.safetensors"]:
            raise ValueError(f"the map of {run.experiment.name} is of other codes: run tools/code_maps.py")
        classes = get_dataset(run.experiment.dataset).classes
        places = np.frombuffer(base64.b64decode(made["places"]), np.uint8).reshape(-1, 2)
        _scatter(axis, places, run.codes()["label"].numpy(), classes)
        axis.set(title=name_of(run), aspect="equal", xlim=(-8, 263), ylim=(-8, 263), xticks=[], yticks=[])
        axis.grid(False)
        for spine in axis.spines.values():
            spine.set_visible(False)
    return figure


def overview(run: Run) -> Figure:
    """What a WWAE is, drawn from a recorded run: images, their codes against the prior, new images."""
    figure, axes = plt.subplots(1, 3, figsize=(WIDTH, 2.0), width_ratios=[1, 1.3, 1])
    for axis in axes:
        axis.set_anchor("N")  # titles on one line
    new, side = run.grid("samples"), run.grid("samples").shape[1] // 10
    _image(axes[0], originals(run)[: 4 * side, : 4 * side], "images $x$")
    _image(axes[2], new[: 4 * side, : 4 * side], "new: $G(z)$")
    codes, mean, covariance = _codes(run)
    unnamed = [""] * len(get_dataset(run.experiment.dataset).classes) or None
    _scatter(axes[1], codes[:, :2], run.codes()["label"].numpy(), unnamed)
    _compare(axes[1], mean[:2], covariance[:2, :2])
    axes[1].set(title="codes $z$", aspect="equal", xlim=(-2.9, 2.9), ylim=(-2.9, 2.9), xticks=[], yticks=[])
    axes[1].grid(False)
    for spine in axes[1].spines.values():
        spine.set_visible(False)
    for start, end, word in ((0, 1, "encode"), (1, 2, "decode")):
        arrow = {"arrowstyle": "-|>", "lw": 1.8, "color": COLOURS["blue"]}
        ends = {"xycoords": axes[end].transAxes, "textcoords": axes[start].transAxes}
        axes[end].annotate("", (-0.02, 0.5), (1.02, 0.5), arrowprops=arrow, annotation_clip=False, **ends)
        axes[start].text(
            1.03, 0.57, word, transform=axes[start].transAxes, color=COLOURS["blue"], fontsize=10
        )
    figure.legend(*axes[1].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    figure.get_layout_engine().set(wspace=0.22)
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


def _scatter(axis: Axes, codes: np.ndarray, labels: np.ndarray, classes: Sequence[str] | None) -> None:
    """Codes in a plane: a colour and a name at the median a class, where there are classes."""
    dots = {"s": 3, "linewidths": 0, "alpha": 0.7, "rasterized": True}
    if classes is None:
        axis.scatter(*codes.T, color=COLOURS["sky"], **dots)
        return
    axis.scatter(*codes.T, color=np.array(CLASS_COLOURS)[labels % len(CLASS_COLOURS)], **dots)
    for label, name in enumerate(classes):
        members = codes[labels == label]
        halo = [withStroke(linewidth=2.5, foreground="white")]
        place = np.median(members, 0)
        axis.text(
            *place,
            name,
            ha="center",
            va="center",
            size=10,
            weight="bold",
            path_effects=halo,
            color=CLASS_COLOURS[label % len(CLASS_COLOURS)],
        )


def _compare(axis: Axes, mean: np.ndarray, covariance: np.ndarray) -> None:
    """Ellipses of the aggregated posterior and circles of the prior."""
    _ellipses(axis, np.zeros(2), np.eye(2), "black", "prior", "-")
    _ellipses(axis, mean, covariance, COLOURS["orange"], "aggregated posterior", "--")


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
            lw=1.4,
            label=label if radius == 1 else None,
        )
