"""A data set and a method, added as CONTRIBUTING.md says: a row and a class, and nothing else."""

from __future__ import annotations

import matplotlib as mpl
import matplotlib.pyplot as plt
import pytest
import torch
from conftest import stand_in

from wwae_lib import data, experiments, runs
from wwae_lib.__main__ import main
from wwae_lib.book import figures, reproduce, selection, tables
from wwae_lib.methods import METHODS, AutoEncoder

SIZES = {"train": 300, "valid": 100, "test": 120}


def load_stripes(root, split: str) -> data.Images:
    """Horizontal or vertical stripes of random phase, drawn and not read."""
    count, generator = SIZES[split], torch.Generator().manual_seed(len(split))
    labels = torch.arange(count) % 2
    phase = torch.randint(6, (count, 1, 1), generator=generator)
    rows = ((torch.arange(28).view(1, 28, 1) + phase) % 6 < 3).expand(-1, -1, 28)
    pixels = torch.where(labels.view(-1, 1, 1) == 1, rows, rows.mT)[:, None] * 255
    return data.Images(pixels.to(torch.uint8), labels, "stripes", split, "drawn")


@pytest.fixture
def toy(monkeypatch):
    """The row and the class, which are taken away again."""
    row = data.Dataset(
        title="Stripes",
        shape=(1, 28, 28),
        sizes=SIZES,
        load=load_stripes,
        licence="none needed",
        classes=("horizontal", "vertical"),
    )
    monkeypatch.setitem(data.DATASETS, "stripes", row)
    monkeypatch.setitem(METHODS, "norm", None)  # so that it is taken away
    del METHODS["norm"]

    class NormAE(AutoEncoder):
        """The squared error and the mean squared norm of the codes."""

        name, title, line = "norm", "Norm-AE", ("grey", ":")
        defaults = {"penalty_weight": 0.5}  # noqa: RUF012

        def penalty(self, mean, log_variance, codes):
            return codes.square().sum(1).mean()

    return NormAE


@mpl.rc_context()
def test_they_are_fetched_trained_measured_shown_and_tried(toy, tmp_path, monkeypatch, capsys):
    stand_in(monkeypatch)
    assert main(["data", "stripes"]) == 0
    output = capsys.readouterr().out
    assert "stripes test: 120 images" in output and "stripes terms: none needed" in output
    tiny = ["--network", "tiny", "--latent", "2", "--epochs", "1", "--batch-size", "50"]
    for method in ("norm", "wwae"):
        assert main(["train", "stripes", "--method", method, *tiny, "--accelerator", "cpu"]) == 0
        assert main(["evaluate", f"stripes/{method}/seed-0", "--protocol", "brief"]) == 0
    recorded = [runs.load(f"stripes/{method}/seed-0") for method in ("norm", "wwae")]
    ours = recorded[0]
    assert ours.experiment.penalty_weight == 0.5 and {"fid", "linear_accuracy"} <= ours.metrics.keys()

    (contest,) = tables.contests(recorded)
    assert contest.title.startswith("Stripes")
    for text in (
        tables.table(recorded),
        tables.comparisons(recorded),
        tables.metric_across_datasets(recorded, "fid"),
    ):
        assert "Norm-AE" in text and "WWAE" in text
    assert "Stripes" in tables.metric_across_datasets(recorded, "fid") and "Stripes" in tables.training_hours(
        recorded
    )
    assert tables.rankings(recorded, "fid", "norm") and tables.configured(recorded, "latent", "norm")
    figures.use_style()
    drawn = [figures.ranking(recorded, "fid"), figures.training_curves(recorded), figures.samples(recorded)]
    drawn += [figures.posterior(recorded, data.DATASETS["stripes"].classes)]
    drawn += [figures.overview(ours)]
    assert "Norm-AE" in [label.get_text() for label in drawn[0].axes[0].get_yticklabels()]
    plt.close("all")

    tried = [planned for planned in selection.trials("stripes") if planned.method == "norm"]
    assert sorted(planned.penalty_weight for planned in tried) == [0.05, 0.15, 0.5, 1.5, 5]


def test_the_whole_matrix_takes_them(toy, tmp_path):
    planned = [experiments.experiment("stripes", "norm", network="tiny", latent=2, epochs=1, batch_size=50)]
    profile = reproduce.Profile(tuple(planned), sets=())
    reproduce._train_and_measure(planned[0], profile, tmp_path, "cpu")
    assert reproduce.state(planned[0], tmp_path, profile).name == "finished"
    view = reproduce._ProgressBar(profile, planned, tmp_path, 0, False)
    assert view.bar.total == view.bar.n == pytest.approx(300 / 60_000)


def test_a_method_that_is_there_already_is_an_error(toy):
    with pytest.raises(ValueError, match="two methods are called 'norm'"):
        type("Again", (AutoEncoder,), {"name": "norm"})


def test_a_part_of_a_method_without_a_name_is_no_method(toy):
    before = list(METHODS)
    type("Variant", (toy,), {})
    assert list(METHODS) == before
