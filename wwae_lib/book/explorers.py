"""What do the book's explorers show? Decoders and codes of recorded runs as scripts, and still figures.

The explorers run in the reader's browser, from disk as well, where a page may load scripts and nothing else.
So each run becomes a script: layers, weights and codes, the numbers in half precision as base64. Of the run
on which a digit can be drawn the encoder is another, in eight bits a weight. Decoders of
faces would be megabytes: of those runs the page shows images that they recorded, cut into a sheet. What is
written depends on the recorded runs alone: scripts and still figures byte for byte, sheets pixel for pixel.
"""

from __future__ import annotations

import base64
import io
import itertools
import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from .. import runs
from ..data import DATASETS
from ..gaussian import w2_squared
from ..measures.evaluation import to_pixels
from ..measures.pictures import GRID
from ..methods import METHODS
from . import toy
from .geometry import transport_map

__all__ = [
    "SHOWN",
    "encoder_record",
    "explorer_folder",
    "export",
    "planes",
    "record",
    "recorded",
    "sheet",
    "shown",
    "typical",
]

SHOWN = ("mnist", "fashion_mnist")  # whose planes of codes the reader walks through
DRAWN = "mnist"  # whose images the reader can draw
EXAMPLES = 10  # test images that the reader can put in place of a drawing
RIVAL = {"celeba": "vae_learned"}  # whom the WWAE stands beside; elsewhere the VAE of a fixed variance
PAIRS = {"mnist": (7, 2), "fashion_mnist": (1, 9)}  # classes of the test images that the explorer opens with
PLANE = "plane"  # below the results: further runs whose codes have two dimensions, as many as the map
EXTENT = (
    3.4  # the map reaches this many standard deviations of the prior from its mean (latent.js has it too)
)
SIZE = 1000  # units of the map's drawing
FILMS = {"narrow": "Starts narrow", "wide": "Starts wide"}  # what tools/film.py records
EXTENT_OF_FILM = 3.6  # its maps reach so far (film.js has it too)
EXTENT_OF_TOY = 3.2  # the maps of the training in the page
FACES = 4  # pairs of test images that a sheet of faces leads between, a row each
GAP = 8  # transparent pixels between a sheet's photographs and what is decoded

# The state that the Gaussian explorer opens with: means, angle of the first axis, standard deviations.
GAUSSIANS = (
    {"mean": [-1.25, -0.3], "angle": 0.5, "axes": [0.95, 0.35]},
    {"mean": [1.2, 0.35], "angle": 2.0, "axes": [1.05, 0.3]},
)
TIME = 0.5  # place on the geodesic
WIDTH, HEIGHT, SCALE = 720, 468, 90  # of its still figure; pixels a unit
LATTICE = 0.5  # distance, in standard deviations, of the points whose transport is drawn


def explorer_folder() -> Path:
    """Where the book's explorers live.

    Raises:
        RunError: the library was installed without the book.
    """
    if not (root := runs.checkout()):
        raise runs.RunError("the explorers belong to the book's checkout, and this library is not in one")
    return root / "book" / "_static" / "explorers"


def _title(run: runs.Run) -> str:
    return METHODS[run.experiment.method].title


def export(folder: Path | None = None, results: Path | None = None) -> list[Path]:
    """Write scripts or a sheet for each run that the explorers show, and the still figures.

    Args:
        folder: where to; default the book's.
        results: results folder with the runs ``<data set>/<method>/seed-0``; default the book's. What is not
            there is left out.

    Raises:
        RunError: a run is damaged, a file cannot be written, or there is no book and no folder was named.
    """
    folder = folder or explorer_folder()
    results = results or runs.results_root()
    runs_of = shown(results)
    faces = recorded(results, "celeba")
    files = {"gaussian-still.html": gaussian_still(), "toy-still.html": toy_still()}
    files["faces-still.html"] = faces_still(faces)
    for name, run in [(name, run) for name, group in runs_of.items() for run in group]:
        content = json.dumps(record(run, name), separators=(",", ":"))
        files[f"{name}-{run.experiment.method}.js"] = f"wwaeExplorer.add({content});\n"
    if runs_of:
        files["latent-still.html"] = latent_still(runs_of)
    if drawn := runs_of.get(DRAWN):
        files["draw-still.html"] = draw_still(drawn)
        for run in drawn:
            content = json.dumps(encoder_record(run), separators=(",", ":"))
            files[f"{DRAWN}-{run.experiment.method}-encoder.js"] = f"wwaeExplorer.add({content});\n"
    films = recorded_films(results)
    files["film-still.html"] = film_still(films)
    for name, film in films.items():
        files[f"film-{name}.js"] = f"wwaeExplorer.film({json.dumps(film, separators=(',', ':'))});\n"
    for name, text in files.items():
        with runs.write_atomically(folder / name) as part:
            part.write_text(text, encoding="utf-8")
    sheets = {f"celeba-{run.experiment.method}.png": sheet(run) for run in faces}
    sheets |= _samples(results)
    for name, pixels in sheets.items():
        with runs.write_atomically(folder / name) as part:
            Image.fromarray(pixels).save(part, "PNG", optimize=True)
    return [folder / name for name in files | sheets]


def _samples(results: Path) -> dict[str, np.ndarray]:
    """Ten new images of every method of the comparison, by file name: its first ones, none chosen."""
    grids = {}
    for run in runs.recorded("*", results=results):
        trained = run.experiment
        if trained.seed == 0 and not trained.variant:
            grid = run.grid("samples")
            side = grid.shape[1] // GRID
            shown = grid[: 2 * side, : 5 * side]
            grids[f"samples-{trained.dataset}-{trained.method}.png"] = (
                255 - shown if grid.ndim == 2 else shown
            )
    return grids


def recorded(results: Path, dataset: str, variant: str = "") -> list[runs.Run]:
    """The runs on a data set that the explorers show, of those in a results folder."""
    compared = ("wwae", RIVAL.get(dataset, "vae"))
    paths = [results / dataset / (method + variant) / "seed-0" for method in compared]
    return [runs.load(path) for path in paths if path.exists()]


def shown(results: Path) -> dict[str, list[runs.Run]]:
    """The runs whose codes the reader walks through, by the name of their scripts: the plane ones first.

    A map of codes of two dimensions leaves nothing out, so that a small step on it is a small change of the
    picture.
    """
    runs_of = {
        f"{dataset}_plane": [
            *recorded(results, dataset, "-latent_2"),
            *recorded(results / PLANE, dataset, "-latent_2"),
        ]
        for dataset in SHOWN
    }
    runs_of |= {dataset: recorded(results, dataset) for dataset in SHOWN}
    return {name: group for name, group in runs_of.items() if group}


# ---------------------------------------------------------------- a run as a script


def record(run: runs.Run, name: str | None = None) -> dict[str, Any]:
    """Everything that a page needs to decode with a run: layers, weights, codes of test images and planes.

    The page knows the run by a name, the data set's unless there is another, and by its method.

    Weights follow each other in the order of the layers, a layer's weight before its bias, in torch's own
    layout.
    """
    decoder = runs.load_method(run).decoder
    kept, experiment = run.codes(), run.experiment
    layers = _layers(decoder.layers)
    return {
        "dataset": name or experiment.dataset,
        "method": experiment.method,
        "latent": experiment.latent,
        "shape": list(decoder(torch.zeros(1, experiment.latent)).shape[1:]),
        "classes": list(DATASETS[experiment.dataset].classes),
        "layers": [layer.entry for layer in layers],
        "planes": planes(kept["mean"], kept["label"]),
        "labels": "".join(str(label) for label in kept["label"].tolist()),
        "codes": _half(kept["mean"]),
        "weights": _half(torch.cat([numbers for layer in layers for numbers in layer.numbers()])),
    }


def encoder_record(run: runs.Run) -> dict[str, Any]:
    """Everything that a page needs to find an image's mean code with a run, and some test images.

    An encoder has three times the weights of its decoder, nearly all in one dense layer. They are rounded to
    eight bits, with a scale for each output; tests hold the codes against torch's.
    """
    experiment = run.experiment
    layers = _layers(runs.load_method(run).encoder.layers)
    last = layers[-1]  # of its two outputs, mean and log-variance, the mean
    layers[-1] = last._replace(
        entry=last.entry | {"outputs": experiment.latent},
        weight=last.weight[: experiment.latent],
        bias=last.bias[: experiment.latent],
    )
    rounded, scales, biases = [], [], []
    for layer in layers:
        if layer.weight is not None:
            rows = layer.weight.flatten(1)
            scale = _half_precision((rows.abs().amax(1) / 127).clamp(min=1e-7))
            rounded.append((rows / scale[:, None]).round().clamp(-127, 127).to(torch.int8).flatten())
            scales.append(scale)
            biases.append(layer.bias)
    return {
        "dataset": experiment.dataset,
        "method": experiment.method,
        "part": "encoder",
        "layers": [layer.entry for layer in layers],
        "weights8": _base64(torch.cat(rounded).numpy()),
        "scales": _half(torch.cat(scales)),
        "biases": _half(torch.cat(biases)),
        "examples": [_base64(image) for image in _originals(run)[:EXAMPLES]],
    }


def _originals(run: runs.Run) -> np.ndarray:
    """The grey test images that the run reconstructed, uint8 ``(n, side, side)``."""
    grid = run.grid("reconstructions")
    side = grid.shape[1] // GRID
    rows = grid.reshape(-1, 2, side, GRID, side)[:, 0]  # below each row of them stands what became of it
    return np.ascontiguousarray(rows.transpose(0, 2, 1, 3)).reshape(-1, side, side)


class _Layer(NamedTuple):
    """A layer as the page reads it, and its numbers, if it has any."""

    entry: dict[str, Any]
    weight: Tensor | None = None
    bias: Tensor | None = None

    def numbers(self) -> list[Tensor]:
        return [] if self.weight is None else [self.weight.flatten(), self.bias]


@torch.no_grad()
def _layers(layers: nn.Sequential) -> list[_Layer]:
    """The layers as the page reads them; batch normalisation becomes part of the one before it."""
    layers_read: list[_Layer] = []
    for layer in layers:
        match layer:
            case nn.Linear():
                entry = {"kind": "dense", "inputs": layer.in_features, "outputs": layer.out_features}
            case nn.Conv2d() | nn.ConvTranspose2d():
                entry = {
                    "kind": "transposed" if isinstance(layer, nn.ConvTranspose2d) else "convolution",
                    "inputs": layer.in_channels,
                    "outputs": layer.out_channels,
                    "kernel": layer.kernel_size[0],
                    "stride": layer.stride[0],
                    "padding": layer.padding[0],
                }
            case nn.Flatten():
                layers_read.append(_Layer({"kind": "flatten"}))
                continue
            case nn.Unflatten():
                entry = {
                    "kind": "unflatten",
                    "channels": layer.unflattened_size[0],
                    "side": layer.unflattened_size[1],
                }
                layers_read.append(_Layer(entry))
                continue
            case nn.BatchNorm1d() | nn.BatchNorm2d():
                layers_read[-1] = _normalised(layers_read[-1], layer)
                continue
            case nn.ReLU():
                layers_read[-1].entry["relu"] = True
                continue
            case _:
                raise ValueError(f"networks.js does not know the layer {layer}")
        bias = torch.zeros(entry["outputs"]) if layer.bias is None else layer.bias.detach()
        layers_read.append(_Layer(entry, layer.weight.detach(), bias))
    return layers_read


def _normalised(before: _Layer, norm: nn.BatchNorm1d | nn.BatchNorm2d) -> _Layer:
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    outputs = (
        (1, -1, 1, 1) if before.entry["kind"] == "transposed" else (-1, *[1] * (before.weight.dim() - 1))
    )
    bias = (before.bias - norm.running_mean) * scale + norm.bias
    return before._replace(weight=before.weight * scale.view(outputs), bias=bias)


def planes(codes: Tensor, labels: Tensor) -> list[dict[str, Any]]:
    """The planes that codes ``(n, latent)`` are shown in, each through the prior's mean.

    * ``classes``: spanned by the two leading principal components of the classes' mean codes;
    * ``principal``: by those of the codes themselves.

    Codes of two dimensions have one plane, ``whole``.

    Returns:
        For each its name, two orthonormal vectors ``basis`` (six decimals, so that every machine finds the
        same), and the share of the codes' variance within it.
    """
    if codes.shape[1] == 2:
        return [{"name": "whole", "share": 1.0, "basis": [[1.0, 0.0], [0.0, 1.0]]}]
    codes = codes.double()
    means = torch.stack([codes[labels == label].mean(0) for label in labels.unique()])
    entries = []
    for name, points in (("classes", means), ("principal", codes)):
        basis = torch.linalg.svd(points - points.mean(0), full_matrices=False).Vh[:2]
        largest = basis.gather(1, basis.abs().argmax(1, keepdim=True))
        basis = basis * largest.sign()  # a component's sign is arbitrary
        share = (codes @ basis.T).var(0).sum() / codes.var(0).sum()
        entry = {"name": name, "share": round(share.item(), 4)}
        entries.append(entry | {"basis": [[round(x, 6) for x in row] for row in basis.tolist()]})
    return entries


def _half(values: Tensor) -> str:
    """Half-precision numbers in base64: the lower bytes of all, then the higher.

    The higher ones, sign and exponent, are much alike: side by side they are sent compressed in 6 % less.
    """
    halves = values.numpy().astype("<f2")
    return _base64(halves.view(np.uint8).reshape(-1, 2).T)


def _half_precision(values: Tensor) -> Tensor:
    """The numbers that :func:`_half` writes."""
    return values.half().float()


def _base64(numbers: np.ndarray) -> str:
    return base64.b64encode(numbers.tobytes()).decode()


# ---------------------------------------------------------------- still figures


def gaussian_still() -> str:
    """The first state of the Gaussian explorer: the figure of a page without JavaScript."""
    means = [np.array(shape["mean"]) for shape in GAUSSIANS]
    covs = [_covariance(shape["angle"], shape["axes"]) for shape in GAUSSIANS]
    matrix = transport_map(means[0], covs[0], means[1], covs[1])[0].numpy()
    step = (1 - TIME) * np.eye(2) + TIME * matrix
    middle = (1 - TIME) * means[0] + TIME * means[1], step @ covs[0] @ step
    bures = w2_squared(np.zeros(2), covs[0], np.zeros(2), covs[1]).item()
    mean = float(((means[0] - means[1]) ** 2).sum())

    points = [means[0] + x for x in _lattice(covs[0])]
    targets = [means[1] + matrix @ (x - means[0]) for x in points]
    shafts = "".join(f"M{_screen(a)}L{_screen(b)}" for a, b in zip(points, targets, strict=True))
    dots = "".join(f"M{_screen((1 - TIME) * a + TIME * b)}h0" for a, b in zip(points, targets, strict=True))
    bodies = "".join(
        _ellipse(m, s, name) for m, s, name in zip(means, covs, ("first", "second"), strict=True)
    )
    state = json.dumps({"shapes": GAUSSIANS, "t": TIME})
    return f"""\
<div class="explorer" id="gaussian-explorer" data-state='{state}'>
<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="Two Gaussians as ellipses, the optimal map \
between them as arrows, and the Gaussian half-way along the geodesic">
<g class="ex-bodies">{bodies}</g><path class="ex-arrows" d="{shafts}"/>
<g>{_ellipse(*middle, "middle")}<path class="ex-particles" d="{dots}"/></g>
</svg>
<p class="ex-equation">
<span class="ex-term"><b>{mean + bures:.2f}</b><small><i>W</i>₂², squared distance</small></span>
<span>=</span>
<span class="ex-term ex-mean"><b>{mean:.2f}</b><small>|<i>m</i>₁ &minus; <i>m</i>₂|², mean part</small></span>
<span>+</span>
<span class="ex-term ex-bures"><b>{bures:.2f}</b><small>Bures part</small></span>
</p>
<noscript><p class="ex-message">With JavaScript the ellipses can be dragged.</p></noscript>
</div>
"""


def _covariance(angle: float, axes: list[float]) -> np.ndarray:
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    return turn @ np.diag(np.square(axes)) @ turn.T


def _lattice(cov: np.ndarray) -> list[np.ndarray]:
    """Points within two standard deviations of the mean 0: a square lattice in a disc, stretched."""
    values, vectors = np.linalg.eigh(cov)
    reach = range(-math.floor(2 / LATTICE), math.floor(2 / LATTICE) + 1)
    inside = [(i, j) for i in reach for j in reach if math.hypot(i, j) * LATTICE <= 2]
    return [vectors @ (np.sqrt(values) * LATTICE * np.array(scale)) for scale in inside]


def _screen(point: np.ndarray) -> str:
    return f"{WIDTH / 2 + SCALE * point[0]:.1f} {HEIGHT / 2 - SCALE * point[1]:.1f}"


def _ellipse(mean: np.ndarray, cov: np.ndarray, name: str) -> str:
    values, vectors = np.linalg.eigh(cov)
    angle = math.degrees(math.atan2(vectors[1, 1], vectors[0, 1])) % 180
    sizes = SCALE * np.sqrt(values[::-1])
    turn = f"translate({_screen(mean)}) rotate({-angle:.1f})"
    return "".join(
        f'<ellipse class="ex-{name} ex-sigma{r}" rx="{r * sizes[0]:.1f}" ry="{r * sizes[1]:.1f}" '
        f'transform="{turn}"/>'
        for r in (1, 2)
    )


def latent_still(runs_of: dict[str, list[runs.Run]]) -> str:
    """The first state of the latent explorer: the maps, and a test image decoded by each run."""
    present = {name: [run.experiment.method for run in group] for name, group in runs_of.items()}
    first = {name: group[0].experiment for name, group in runs_of.items()}
    titles = {
        name: f"{DATASETS[trained.dataset].title}, {_counted(trained.latent)}"
        for name, trained in first.items()
    }
    pairs = {name: PAIRS[trained.dataset] for name, trained in first.items()}
    columns = "".join(_column(run) for run in next(iter(runs_of.values())))
    return f"""\
<div class="explorer" id="latent-explorer" data-runs='{json.dumps(present)}'
data-titles='{json.dumps(titles)}' data-pairs='{json.dumps(pairs)}'>
<div class="ex-columns">{columns}</div>
<p class="ex-message"><noscript>With JavaScript the decoders run wherever the map is touched.</noscript></p>
</div>
"""


def _counted(latent: int) -> str:
    words = {2: "two", 3: "three", 8: "eight", 16: "sixteen"}
    return f"codes of {words.get(latent, latent)} dimensions"


def typical(codes: Tensor, labels: Tensor, label: int) -> int:
    """Which image of a class has the code that is nearest to the mean of its class."""
    own_class = (labels == label).nonzero()[:, 0]
    return int(own_class[(codes[own_class] - codes[own_class].mean(0)).square().sum(1).argmin()])


@torch.inference_mode()
def _column(run: runs.Run) -> str:
    kept = run.codes()
    label = PAIRS[run.experiment.dataset][0]
    code = kept["mean"][typical(kept["mean"], kept["label"], label)]
    image = to_pixels(runs.load_method(run).decode(code[None]))[0, 0]
    classes, method = DATASETS[run.experiment.dataset].classes, _title(run)
    return f"""
<div class="ex-column"><p class="ex-title">{method}</p>
{_map(run, code)}
<img class="ex-picture dark-light" src="data:image/bmp;base64,{_bitmap(image)}"
alt="A test image of class {classes[label]}, encoded and decoded by the {method}">
<p class="ex-reading"></p></div>"""


def _map(run: runs.Run, code: Tensor) -> str:
    """The codes of a run's test images in the plane of their classes, and where one code is."""
    kept = run.codes()
    basis = torch.tensor(planes(kept["mean"], kept["label"])[0]["basis"])
    places = _on_map(kept["mean"], basis)
    classes, dots, names = DATASETS[run.experiment.dataset].classes, "", ""
    middles = [places[kept["label"] == label].mean(0).tolist() for label in range(len(classes))]
    for label, (x, y) in enumerate(_apart(middles, [_width(name) for name in classes])):
        own_class, long = places[kept["label"] == label], " ex-long" * (len(classes[label]) > 2)
        path = "".join(f"M{x:.0f} {y:.0f}h0" for x, y in own_class.tolist())
        dots += f'<path class="ex-dots ex-class{label}" d="{path}"/>'
        names += (
            f'<text class="ex-name ex-class{label}{long}" x="{x:.0f}" y="{y:.0f}">{classes[label]}</text>'
        )
    circles = "".join(
        f'<circle class="ex-prior" cx="{SIZE / 2:.0f}" cy="{SIZE / 2:.0f}" r="{r * SIZE / 2 / EXTENT:.0f}"/>'
        for r in (1, 2)
    )
    x, y = _on_map(code, basis).tolist()
    return f"""\
<svg class="ex-map" viewBox="0 0 {SIZE} {SIZE}" role="img"
aria-label="Map of the {_title(run)}'s codes of test images">
{circles}{dots}{names}<circle r="22" class="ex-here" transform="translate({x:.0f} {y:.0f})"/></svg>"""


def _width(name: str) -> float:
    """About how wide a class' name is on the map, in its units."""
    return 22.0 * len(name) if len(name) > 2 else 55.0


def _apart(places: list[list[float]], widths: list[float], height: float = 55.0) -> list[list[float]]:
    """Names moved from their places until none overlaps another: each pair steps apart the shorter way."""
    moved = [list(place) for place in places]
    for _ in range(200):
        for i, j in itertools.combinations(range(len(moved)), 2):
            gaps = (widths[i] + widths[j]) / 2, height
            by = [moved[j][k] - moved[i][k] for k in (0, 1)]
            missing = [gap - abs(distance) for gap, distance in zip(gaps, by, strict=True)]
            if min(missing) > 0:
                k = missing.index(min(missing))
                step = math.copysign(missing[k] / 2 + 0.5, by[k])
                moved[i][k], moved[j][k] = moved[i][k] - step, moved[j][k] + step
    return moved


def _on_map(codes: Tensor, basis: Tensor) -> Tensor:
    return (codes @ basis.T / EXTENT * torch.tensor([1, -1]) + 1) * SIZE / 2


@torch.inference_mode()
def draw_still(recorded_runs: list[runs.Run]) -> str:
    """The first state of the drawing: a test image, its code on each map, what each decoder makes of it."""
    image = _originals(recorded_runs[0])[0]
    columns = []
    for run in recorded_runs:
        method = runs.load_method(run)
        code = method.encoder(torch.from_numpy(image)[None, None] / 255)[0][0]
        again = to_pixels(method.decode(code[None]))[0, 0]
        columns.append(f"""
<div class="ex-column"><p class="ex-title">{_title(run)}</p>
{_map(run, code)}
<div class="ex-told"><img class="ex-again dark-light" src="data:image/bmp;base64,{_bitmap(again)}"
alt="The same image, encoded and decoded by the {_title(run)}">
<p class="ex-reading">drawn again</p></div></div>""")
    paper = _bitmap(torch.from_numpy(image))
    names = [run.experiment.method for run in recorded_runs]
    known = {"dataset": DRAWN, "methods": names, "titles": [*map(_title, recorded_runs)], "extent": EXTENT}
    return f"""\
<div class="explorer" id="draw-explorer" data-draw='{json.dumps(known)}'>
<div class="ex-draw"><div class="ex-pad"><p class="ex-title">Draw a digit</p>
<div class="ex-paper"><img class="dark-light" src="data:image/bmp;base64,{paper}"
alt="A handwritten digit, one of the test images"></div>
<p class="ex-seen ex-none"><span>draw here</span></p><div class="ex-buttons"></div></div>
<div class="ex-columns">{"".join(columns)}</div></div>
<p class="ex-message">
<noscript>With JavaScript you can draw on the paper, and the networks run.</noscript></p>
<div class="ex-hidden" role="status"></div>
</div>
"""


def sheet(run: runs.Run) -> np.ndarray:
    """Rows that lead from one test photograph to another, as uint8 RGBA ``(height, width, 4)``.

    Between the photographs lie ``GRID`` images that the run decoded along the straight line between their
    codes. All are cut from the grids that the run recorded, of its first test images: no pair was chosen.
    """
    lines, rebuilt = run.grid("interpolations"), run.grid("reconstructions")
    side = lines.shape[1] // GRID

    def originals(row: int) -> np.ndarray:
        """The first photographs in a row of the grid of reconstructions, one below the other."""
        return np.concatenate(
            [rebuilt[row * side : (row + 1) * side, k * side : (k + 1) * side] for k in range(FACES)]
        )

    gap = np.zeros((FACES * side, GAP, 4), dtype=np.uint8)
    first, middle, last = map(_opaque, (originals(0), lines[: FACES * side], originals(2)))
    return np.concatenate([first, gap, middle, gap, last], axis=1)


def _opaque(pixels: np.ndarray) -> np.ndarray:
    return np.concatenate([pixels, np.full_like(pixels[..., :1], 255)], axis=-1)


def faces_still(recorded_runs: list[runs.Run]) -> str:
    """The sheets of faces: the figure of a page without JavaScript."""
    if not recorded_runs:
        return '<p class="ex-message">This copy of the book holds no run on CelebA.</p>\n'
    side = recorded_runs[0].grid("interpolations").shape[1] // GRID
    size = f'width="{(GRID + 2) * side + 2 * GAP}" height="{FACES * side}"'
    sheets = "".join(
        f"""
<div class="ex-column"><p class="ex-title">{(name := _title(run))}</p><div class="ex-sheet">
<img class="dark-light" loading="lazy" {size} src="../_static/explorers/celeba-{run.experiment.method}.png"
alt="{FACES} rows of faces. Each leads from a test photograph, on the left, to another, on the right,
through {GRID} faces that the {name} decodes along the straight line between their codes">
</div></div>"""
        for run in recorded_runs
    )
    return f"""\
<div class="explorer" id="faces-explorer" data-side="{side}" data-gap="{GAP}" data-steps="{GRID}" \
data-rows="{FACES}">
<div class="ex-faces">{sheets}</div>
<noscript><p class="ex-message">With JavaScript a slider leads along each row.</p></noscript>
</div>
"""


# ---------------------------------------------------------------- trainings to look at


def toy_still() -> str:
    """What the training in the page begins with: the curve that it learns, and the prior's circles."""
    unit = SIZE / 2 / EXTENT_OF_TOY
    points = SIZE / 2 + unit * toy.curve(torch.linspace(0, 1, 81, dtype=torch.float64)).numpy() * [1, -1]
    curve = "M" + "L".join(f"{x:.0f} {y:.0f}" for x, y in points)
    circles = "".join(f'<circle class="ex-prior" cx="500" cy="500" r="{r * unit:.0f}"/>' for r in (1, 2))
    maps = "".join(
        f"""
<div class="ex-column"><p class="ex-title">{title}</p>
<svg class="ex-map" viewBox="0 0 {SIZE} {SIZE}" role="img" aria-label="{title}: {words}">{drawn}</svg>
<p class="ex-reading"></p></div>"""
        for title, words, drawn in (
            ("Data", "points of an S-shaped curve", f'<path class="ex-curved" d="{curve}"/>'),
            ("Codes", "the prior's circles", circles),
        )
    )
    terms = "<span aria-hidden='true'>{}</span>".join(
        f'<span class="ex-term{kind}"><b data-value="{name}">\N{EN DASH}</b><small>{words}</small></span>'
        for name, kind, words in (
            ("total", "", "penalty of all codes"),
            ("mean", " ex-mean", "|<i>m</i>|\N{SUPERSCRIPT TWO}, mean part"),
            ("bures", " ex-bures", "covariance part"),
        )
    ).format("=", "+")
    curves = _curves(penalty="penalty of all codes", error="squared error per point")
    return f"""\
<div class="explorer" id="toy-explorer" data-toy='{{"extent": {EXTENT_OF_TOY}}}'>
<div class="ex-row ex-toy-controls"></div>
<div class="ex-row ex-toy-run"></div>
<div class="ex-columns">{maps}</div>
<p class="ex-equation">{terms}</p>
<div class="ex-curves">{curves}</div>
<p class="ex-message"><noscript>With JavaScript the page trains this model before your eyes.</noscript></p>
<div class="ex-hidden" role="status"></div>
</div>
"""


def _curves(**titles: str) -> str:
    """Places for the curves of a training, by what they show, in this order."""
    return "".join(
        f'<div class="ex-curve" data-key="{key}" data-title="{title}"></div>' for key, title in titles.items()
    )


def recorded_films(results: Path) -> dict[str, dict[str, Any]]:
    """What tools/film.py recorded, by name; all of it, or nothing where one of the two is missing."""
    paths = {name: results / "film" / f"{name}.json" for name in FILMS}
    if not all(path.exists() for path in paths.values()):
        return {}
    return {name: json.loads(path.read_text(encoding="utf-8")) for name, path in paths.items()}


def film_still(films: dict[str, dict[str, Any]]) -> str:
    """The last moment of each training: the codes of test images, their ellipses and the prior's circles."""
    if not films:
        return '<p class="ex-message">This copy of the book holds no recorded training.</p>\n'
    known = json.dumps({"names": [*films], "titles": [FILMS[name] for name in films]})
    columns = "".join(_last_moment(name, film) for name, film in films.items())
    curves = _curves(error="squared error per image", penalty="penalty")
    return f"""\
<div class="explorer" id="film-explorer" data-films='{known}'>
<div class="ex-row ex-film-controls"></div>
<div class="ex-columns">{columns}</div>
<div class="ex-curves">{curves}</div>
<p class="ex-message"><noscript>With JavaScript a slider leads through the training.</noscript></p>
</div>
"""


def _last_moment(name: str, film: dict[str, Any]) -> str:
    last, unit = film["frames"][-1], SIZE / 2 / EXTENT_OF_FILM
    codes = np.frombuffer(base64.b64decode(last["codes"]), np.int8).reshape(-1, 2) / film["scale"]
    places = SIZE / 2 + unit * codes * [1, -1]
    labels = np.array([*map(int, film["labels"])])
    dots = ""
    for label in range(10):
        path = "".join(f"M{x:.0f} {y:.0f}h0" for x, y in places[labels == label])
        dots += f'<path class="ex-dots ex-class{label}" d="{path}"/>'
    circles = "".join(f'<circle class="ex-prior" cx="500" cy="500" r="{r * unit:.0f}"/>' for r in (1, 2))
    return f"""
<div class="ex-column"><p class="ex-title">{FILMS[name]}</p>
<svg class="ex-map" viewBox="0 0 {SIZE} {SIZE}" role="img"
aria-label="{FILMS[name]}: codes of test images after {last["step"]} steps">{dots}{circles}</svg>
<p class="ex-reading">squared error <b>{last["error"]:.1f}</b>, penalty <b>{last["penalty"]:.2f}</b>,
encoder's noise <b>{last["noise"]:.2f}</b></p></div>"""


def _bitmap(image: Tensor) -> str:
    """Grey pixels (H, W), ink on paper, as an uncompressed bitmap in base64: the same bytes everywhere."""
    encoded = io.BytesIO()
    Image.fromarray(255 - image.numpy()).save(encoded, "BMP")
    return base64.b64encode(encoded.getvalue()).decode()
