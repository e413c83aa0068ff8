"""Figures: what is drawn is what is recorded, for runs of every kind, and each is told in words too."""

import base64
import importlib.util
import io
import shutil
from pathlib import Path

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
import torch
from conftest import cpu_fabric, small
from made_up import run as made_up
from PIL import Image
from scipy import stats

from wwae_lib import training
from wwae_lib.book import figures
from wwae_lib.methods import METHODS

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def _style():
    with plt.rc_context():
        figures.use_style()
        yield
        plt.close("all")


@pytest.fixture(scope="module")
def gan(tmp_path_factory, digits, test_digits):
    """A finished run without an encoder."""
    results = tmp_path_factory.mktemp("gan")
    planned = small("gan", epochs=1)
    return training.train(planned, digits, test_digits, results=results, fabric=cpu_fabric(), progress=False)


@pytest.fixture
def shown(monkeypatch):
    """What is displayed instead of being displayed: (data, metadata) of each."""
    drawn = []
    monkeypatch.setattr("IPython.display.display", lambda image: drawn.append(image._repr_mimebundle_()))
    return drawn


class TestShow:
    def test_a_figure_carries_its_text_and_is_closed(self, shown):
        figure, axis = plt.subplots()
        axis.plot([0, 1])
        figures.show(figure, "A line\n  that rises.")
        ((data, metadata),) = shown
        assert metadata["image/png"] == {"alt": "A line that rises."}
        assert len(Image.open(io.BytesIO(base64.b64decode(data["image/png"]))).getcolors()) <= 256
        assert not plt.get_fignums()

    def test_photographs_are_jpeg(self, shown):
        figures.show(plt.figure(), "Nothing.", photographs=True)
        ((data, metadata),) = shown
        assert set(data) == {"image/jpeg"}
        assert metadata["image/jpeg"] == {"alt": "Nothing."}

    @pytest.mark.parametrize("alt", ["", " \n"])
    def test_no_figure_without_words(self, shown, alt):
        with pytest.raises(ValueError, match="alternative text"):
            figures.show(plt.figure(), alt)
        assert not shown

    def test_the_tool_that_executes_notebooks_hands_the_text_to_the_builder(self):
        path = ROOT / "tools" / "execute_notebooks.py"
        spec = importlib.util.spec_from_file_location("execute_notebooks", path)
        tool = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(tool)
        output = nbformat.v4.new_output("display_data", metadata={"image/png": {"alt": "A line."}})
        stream = nbformat.v4.new_output("stream", text="x")
        assert tool.alternative_text(nbformat.v4.new_code_cell(outputs=[stream, output])) == "A line."
        assert tool.alternative_text(nbformat.v4.new_code_cell(outputs=[stream])) == ""


def test_the_users_own_style_changes_nothing(monkeypatch):
    """A matplotlibrc may ask for TeX, which need not be installed, or for other sizes."""
    ours = dict(plt.rcParams)
    plt.rcParams.update(
        {"text.usetex": True, "font.family": "serif", "axes.facecolor": "black", "font.size": 30}
    )
    figures.use_style()
    assert dict(plt.rcParams) == ours and not plt.rcParams["text.usetex"]


def test_every_method_has_a_line_of_its_own():
    lines = {kind.line for kind in METHODS.values()}
    assert len(lines) == len(METHODS) and {colour for colour, _ in lines} <= figures.COLOURS.keys()
    assert len(set(figures.CLASS_COLOURS)) == 10


def test_no_figure_is_wider_than_a_phone_can_show(finished, gan):
    runs = [finished, gan]
    drawn = [
        figures.training_curves(runs),
        figures.samples(runs),
        figures.reconstructions(runs),
        figures.interpolations(runs),
        figures.neighbours(runs),
        figures.posterior([finished, finished]),
        figures.overview(finished),
    ]
    assert {figure.get_figwidth() for figure in drawn} == {figures.WIDTH}


def test_curves_are_the_history(finished, gan):
    left, right = figures.training_curves([finished, gan]).axes
    (line,) = left.get_lines()  # the GAN has no reconstruction term
    history = finished.history()
    assert list(line.get_ydata()) == [epoch["reconstruction"] for epoch in history]
    assert list(right.get_lines()[0].get_ydata()) == [epoch["penalty"] for epoch in history]


def test_samples_stand_beside_test_images(finished, gan):
    axes = figures.samples([gan, finished], columns=4, rows=2).axes
    assert [axis.get_title(loc="left") for axis in axes] == ["test images", "DCGAN", "WWAE"]
    for axis, grid in zip(axes[1:], (gan.grid("samples"), finished.grid("samples")), strict=True):
        np.testing.assert_array_equal(axis.images[0].get_array(), grid[:56, :112])
    first = finished.grid("reconstructions")[:28]  # originals are every other row of this grid
    np.testing.assert_array_equal(axes[0].images[0].get_array()[:28], first[:, :112])


def test_samples_of_gans_alone_need_no_test_images(gan):
    assert [axis.get_title(loc="left") for axis in figures.samples([gan]).axes] == ["DCGAN"]


def test_strips_hold_each_runs_images_under_its_name(finished, gan):
    (axis,) = figures.reconstructions([gan, finished], columns=8).axes
    assert [label.get_text() for label in axis.get_yticklabels()] == ["test image", "WWAE"]
    canvas, grid = axis.images[0].get_array(), finished.grid("reconstructions")
    np.testing.assert_array_equal(canvas[:28], grid[:28, :224])
    np.testing.assert_array_equal(canvas[-28:], grid[28:56, :224])

    (axis,) = figures.interpolations([finished, gan], pair=3).axes
    np.testing.assert_array_equal(axis.images[0].get_array()[-28:], gan.grid("interpolations")[84:112])
    assert [label.get_text() for label in axis.get_yticklabels()] == ["WWAE", "DCGAN"]

    (axis,) = figures.neighbours([finished], columns=10).axes
    np.testing.assert_array_equal(axis.images[0].get_array(), finished.grid("neighbours"))


def test_a_neighbour_as_far_as_it_is(tmp_path, finished):
    folder = tmp_path / "run"
    shutil.copytree(finished.path, folder)
    above = np.full((28, 280), 100, np.uint8)
    below = above.copy()
    below[:, 28:56] = 110  # the second image is 10 levels lighter
    below[:14, 56:84] = 120  # half of the third is 20 levels lighter
    Image.fromarray(np.concatenate([above, below])).save(folder / "neighbours.png")
    figure = figures.neighbour_distances(type(finished)(folder, finished.record))
    np.testing.assert_allclose(figure, [0, 10, 20 / np.sqrt(2), *[0] * 7])


class TestCodes:
    def test_ellipses_are_those_of_the_kept_codes(self, finished):
        above, _ = figures.posterior([finished]).axes
        lines = {line.get_label(): line.get_xydata() for line in above.get_lines()}
        np.testing.assert_allclose(np.linalg.norm(lines["prior"], axis=1), 1)
        mean = finished.codes()["mean"].mean(0).numpy()
        centre = lines["aggregated posterior"][:-1].mean(0)  # its last point is its first
        assert all(np.isclose(mean, place, atol=1e-4).any() for place in centre)  # two of its coordinates

    def test_ellipses_are_one_and_two_standard_deviations_away(self):
        mean, covariance = np.array([1.0, -2.0]), np.array([[4.0, 1.5], [1.5, 1.0]])
        _, axis = plt.subplots()
        figures._ellipses(axis, mean, covariance, "black", "law", "-")
        for deviations, line in zip((1, 2), axis.get_lines(), strict=True):
            away = line.get_xydata() - mean
            squares = np.einsum("ni,ij,nj->n", away, np.linalg.inv(covariance), away)
            np.testing.assert_allclose(squares, deviations**2)

    def test_a_map_reads_the_plane_from_above_and_from_the_left(self, tmp_path, digits, test_digits):
        planned = small(latent=2, epochs=1)
        run = training.train(
            planned, digits, test_digits, results=tmp_path, fabric=cpu_fabric(), progress=False
        )
        seen = []

        def decode(plane: torch.Tensor) -> torch.Tensor:
            seen.append(plane)
            return torch.rand(len(plane), 1, 4, 4)

        names = [f"class {label}" for label in range(10)]
        left, right = figures.latent_map(run, decode, names, side=5).axes
        (plane,) = seen
        rows = plane.reshape(5, 5, 2)
        assert (rows[:, :, 0].diff(dim=1) > 0).all()
        assert (rows[:, :, 1].diff(dim=0) < 0).all()
        assert torch.equal(rows[2, 2], torch.zeros(2))  # the prior's median
        assert rows[0, 0, 0].item() == pytest.approx(-1.2815516)  # its first decile
        assert right.images[0].get_array().shape == (20, 20)
        assert [text.get_text() for text in left.texts] == names

    def test_more_dimensions_have_no_map(self, finished):
        with pytest.raises(ValueError, match="2 latent dimensions"):
            figures.latent_map(finished, lambda plane: plane, [""] * 10)


def test_choices_show_what_was_measured():
    runs = [made_up("wwae", squared_error=12.0, fid=30.0), made_up("wwae", squared_error=10.0)]
    errors, distances = figures.metrics_by_choice(runs, ["0.1", "10"], 1, ["squared_error", "fid"]).axes
    assert list(errors.get_lines()[0].get_ydata()) == [12, 10]
    assert list(errors.get_lines()[1].get_xdata()) == [1]  # the baseline
    np.testing.assert_array_equal(distances.get_lines()[0].get_ydata(), [30, np.nan])
    assert [label.get_text() for label in errors.get_xticklabels()] == ["0.1", "10"]


def test_variances_are_the_records_and_stand_on_each_other():
    run = made_up("wwae")
    run.record["latent"] = {"code_variance": [0.2, 0.9, 0.5], "posterior_variance": [0.7, 0.0, 0.4]}
    (axis,) = figures.code_variances([run]).axes
    heights = [round(float(bar.get_height()), 9) for bar in axis.patches]
    assert heights == [0.9, 0.5, 0.2, 0.0, 0.4, 0.7], "in falling order of the means' variance, noise alike"
    assert [bar.get_y() for bar in axis.patches[3:]] == heights[:3]


def test_a_ranking_draws_means_and_their_intervals():
    """The data drawn, to the last digit: a percent is not seen in a picture."""
    seeds = {"wwae": (29.0, 30.5, 32.0), "vae": (41.0, 40.0, 45.0), "ae": (35.0,)}
    recorded_runs = [
        made_up(name, seed=seed, fid=x) for name, each in seeds.items() for seed, x in enumerate(each)
    ]
    (axis,) = figures.ranking(recorded_runs, "fid").axes
    rows = [label.get_text() for label in axis.get_yticklabels()]
    assert rows == ["VAE", "AE", "WWAE"]  # the best on top
    dots = {
        int(dot.get_ydata()[0]): dot.get_xdata()[0] for dot in axis.get_lines() if dot.get_marker() == "o"
    }
    bars = {int(ends[0, 1]): ends[:, 0] for bar in axis.collections for ends in bar.get_segments()}
    for height, name in enumerate(("vae", "ae", "wwae")):
        each = np.array(seeds[name])
        assert dots[height] == pytest.approx(each.mean(), rel=1e-12)
        half = stats.t.ppf(0.975, len(each) - 1) * stats.sem(each) if len(each) > 1 else 0
        assert bars[height] == pytest.approx([each.mean() - half, each.mean() + half], rel=1e-9)


def test_a_method_out_of_proportion_is_written_at_the_edge():
    runs = [made_up(name, fid=fid) for name, fid in (("wwae", 30.0), ("vae", 40.0), ("ae", 250.0))]
    (axis,) = figures.ranking(runs, "fid").axes
    assert [text.get_text() for text in axis.texts] == ["250.0 \u2192"]
    assert 40 < axis.get_xlim()[1] < 250
    (axis,) = figures.ranking(runs[:2], "fid").axes
    assert not axis.texts and axis.get_xlim()[1] > 40


def test_intervals_are_shown_whole():
    runs = [made_up("wwae", seed=seed, fid=fid) for seed, fid in enumerate((10.0, 30.0, 50.0))]
    (axis,) = figures.ranking([*runs, made_up("vae", fid=28.0)], "fid").axes
    bars = [segment[:, 0] for bar in axis.collections for segment in bar.get_segments()]
    low, high = axis.get_xlim()
    assert bars and low <= min(map(min, bars)) < 0 and max(map(max, bars)) < high


def test_precision_stands_against_recall_without_what_has_no_prior():
    some = [
        *[made_up("wwae", seed, precision=0.1 + seed / 100, recall=0.3) for seed in range(3)],
        made_up("gan", precision=0.4, recall=0.5),
        made_up("ae", precision=0.9, recall=0.9),
        made_up("wwae", dataset="celeba", precision=0.001, recall=0.0),
    ]
    figure = figures.precision_recall(some)
    drawn = [axis for axis in figure.axes if axis.get_title(loc="left")]
    assert [axis.get_title(loc="left") for axis in drawn] == ["MNIST"]
    marks = {one.get_label(): one.lines[0] for one in drawn[0].containers}
    assert {name: (mark.get_xdata()[0], mark.get_ydata()[0]) for name, mark in marks.items()} == {
        "WWAE": (0.3, pytest.approx(0.11)),
        "DCGAN": (0.5, 0.4),
    }
    assert marks["DCGAN"].get_markerfacecolor() == "white" != marks["WWAE"].get_markerfacecolor()
    assert not figures.precision_recall(some[-1:]).axes[0].get_title(loc="left")


def test_what_the_prior_costs_stands_against_the_nats_of_runs_that_have_both():
    nats = {"mixture_nats": 2.0, "mixture_nats_floor": -0.5}
    some = [
        made_up("wwae", fid=60.0, fid_mixture=44.0, fid_error=0.6, fid_mixture_error=0.8, **nats),
        made_up("wwae", seed=1, fid=90.0, **nats),  # from the prior alone
        made_up("ae", fid=200.0, fid_mixture=48.0, **nats),  # which has no prior
    ]
    (axis,) = figures.cost_of_the_prior(some).axes
    (mark,) = axis.containers
    assert (mark.get_label(), *mark.lines[0].get_xdata(), *mark.lines[0].get_ydata()) == ("WWAE", 2.5, 16.0)
    (bar,) = mark.lines[2][0].get_segments()
    assert (bar[1, 1] - bar[0, 1]) / 2 == pytest.approx(1.0)


def test_the_players_curves_are_the_history(finished, gan):
    (axis,) = figures.adversaries([finished, gan]).axes
    discriminator, generator, undecided = axis.lines
    history = gan.history()
    assert list(discriminator.get_ydata()) == [row["discriminator_loss"] for row in history]
    assert list(generator.get_ydata()) == [row["generator_loss"] for row in history]
    assert undecided.get_ydata()[0] == pytest.approx(1.386, abs=1e-3)


def test_new_images_of_each_law_are_decoded_from_draws_of_it(finished, monkeypatch):
    asked = []

    def law(name):
        def draw(codes, n, seed):
            asked.append((name, codes.shape, n))
            return torch.full((n, codes.shape[1]), 9.0 if name == "mixture" else 0.0)

        return draw

    monkeypatch.setattr(figures.latents, "draw_gaussian", law("Gaussian"))
    monkeypatch.setattr(figures.latents, "draw_mixture", law("mixture"))
    figure = figures.by_law([finished])
    (axis,) = figure.axes
    labels = [label.get_text().replace("\n", " ") for label in axis.get_yticklabels()]
    assert labels == ["WWAE, prior", "WWAE, Gaussian", "WWAE, mixture"]
    assert asked == [(name, finished.codes()["mean"].shape, 10) for name in ("Gaussian", "mixture")]
    drawn = axis.images[0].get_array()
    side, gap = 28, 4
    method = figures.load_method(finished)
    for row, value in ((1, 0.0), (2, 9.0)):
        expected = method.decode(torch.full((1, method.latent), value))[0, 0]
        top = row * (side + gap)
        assert np.abs(drawn[top : top + side, :side] - 255 * expected.numpy()).max() <= 1
    (axis,) = figures.by_law([finished], ("prior", "Gaussian")).axes
    assert len(axis.get_yticklabels()) == 2


def test_a_map_of_codes_is_refused_when_the_codes_are_others(finished):
    places = np.arange(2 * len(finished.codes()["mean"])).astype(np.uint8)
    made = {
        "codes_sha256": finished.record["files"]["codes.safetensors"],
        "places": base64.b64encode(places.tobytes()).decode(),
    }
    record = {"maps": {finished.experiment.name: made}}
    (axis,) = figures.code_map(record, [finished]).axes
    assert (axis.collections[0].get_offsets() == places.reshape(-1, 2)).all()
    made["codes_sha256"] = "other"
    with pytest.raises(ValueError, match=r"run tools/code_maps\.py"):
        figures.code_map(record, [finished])


def test_the_recorded_maps_are_of_the_books_present_runs_and_the_page_tells_whose_the_sizes_are(monkeypatch):
    monkeypatch.setenv("WWAE_RESULTS", str(ROOT / "book" / "results"))
    from wwae_lib import runs
    from wwae_lib.measures import inception

    maps = figures.read("code_maps")["maps"]
    for name, made in maps.items():
        assert runs.load(name).record["files"]["codes.safetensors"] == made["codes_sha256"]
    sizes = figures.read("fid_sizes")
    page = (ROOT / "book" / "protocol.ipynb").read_text(encoding="utf-8")
    replaced = sizes["weights_sha256"] != runs.load(sizes["run"]).record["files"]["weights.safetensors"]
    assert (f"have the SHA-256 `{sizes['weights_sha256'][:12]}...`" in page) == replaced
    assert sizes["inception_sha256"] == inception.TENSORS


def test_a_distance_stands_at_the_inverse_of_its_images():
    some = {
        "by_size": {"10": [3.0], "5": [4.0, 6.0]},
        "extrapolated": [[2.5, 0.5], [3.5, 0.5]],
    }
    figure = figures.fid_by_size({"sets": {"prior": some, "training": some}})
    few, whole, line = (figure.axes[0].lines[k] for k in (0, 1, 2))
    assert list(few.get_xdata()) == [0.2, 0.2] and list(few.get_ydata()) == [4.0, 6.0]
    assert list(whole.get_xdata()) == [0.1] and list(line.get_ydata()) == [5.0, 3.0]
    assert [label.get_text() for label in figure.axes[1].get_xticklabels()] == ["5", "10"]
