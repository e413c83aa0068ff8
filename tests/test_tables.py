"""Tables say what the records say: every number is one of theirs, and follows when they change."""

from __future__ import annotations

import copy

import made_up
import matplotlib.pyplot as plt
import numpy as np
import pytest
from made_up import seeds
from scipy import stats

from wwae_lib.book import figures, tables
from wwae_lib.book.tables import METRICS
from wwae_lib.methods import METHODS
from wwae_lib.runs import Run


def rows(table: str) -> list[dict[str, str]]:
    """A Markdown table as a dictionary a row; a title that comes twice counts up."""
    head, rule, *body = (
        [plain(cell.strip()) for cell in line.strip("|").split("|")] for line in table.strip().splitlines()
    )
    assert set("".join(rule)) <= set("-:")
    named = [title if head.index(title) == i else f"{title} {i}" for i, title in enumerate(head)]
    return [dict(zip(named, cells, strict=True)) for cells in body]


def plain(text: str) -> str:
    return text.replace(tables.GLUE, " ")


def column(table: str, title: str) -> list[str]:
    return [row[title] for row in rows(table)]


@pytest.fixture
def runs() -> list[Run]:
    made = seeds("wwae", fid=[24.11, 25.32, 23.83], squared_error=[10.0, 10.1, 10.2], kid=[0.01, 0.02, 0.03])
    made += [made_up.run("vae", fid=31.44, fid_error=0.21, kid=0.05, kid_error=0.0001)]
    made += [made_up.run("gan", fid=17.5, fid_error=0.2)]
    made += seeds("gan", "fashion_mnist", fid=[40.0, 41.0])
    made += [made_up.run("wwae", dataset="fashion_mnist", fid=52.123)]
    return [*made, made_up.run("wwae", variant="lambda_1", fid=1.0)]


# ---------------------------------------------------------------- single runs


def test_readings_are_the_values_in_words():
    some = [made_up.run("wwae", fid=31.44, squared_error=12.0), made_up.run("wwae", squared_error=9.5)]
    words = tables.values_in_words(some, ["0.1", "10"], ["squared_error", "fid"])
    assert words == "squared error per image: 12.00 at 0.1, 9.50 at 10. FID of prior samples: 31.4 at 0.1."


@pytest.mark.parametrize(
    ("key", "values", "share", "near"),
    [
        ("fid", [30.0, 20.0, 22.0, 22.1], 0.1, [1, 2]),
        ("fid", [30.0, None, 33.0], 0.1, [0, 2]),
        ("fid", [30.0, 59.0, 61.0], 1.0, [0, 1]),
        ("knn_accuracy", [0.90, 0.95, 0.80], 0.06, [0, 1]),
    ],
)
def test_near_the_best_is_within_the_share_of_it(key, values, share, near):
    runs = [made_up.run("wwae", **({key: value} if value else {})) for value in values]
    assert tables.near_best(runs, key, share) == [runs[place] for place in near]


@pytest.mark.parametrize(("key", "metrics"), [("fid", {}), ("sharpness", {"sharpness": 0.1})])
def test_there_is_no_best_of_what_is_not_measured_or_judged(key, metrics):
    with pytest.raises(ValueError, match="no best"):
        tables.near_best([made_up.run("wwae", **metrics)], key)


def test_a_run_a_row():
    runs = [made_up.run("wwae", fid=24.11, squared_error=10.0), made_up.run("gan", variant="x_1", fid=17.5)]
    assert rows(tables.table(runs)) == [
        {"method": "WWAE", METRICS["fid"].label: "24.1", METRICS["squared_error"].label: "10.00"},
        {"method": "DCGAN (x 1)", METRICS["fid"].label: "17.5", METRICS["squared_error"].label: "-"},
    ]


@pytest.mark.parametrize("key", METRICS)
def test_every_metric_can_be_shown(key):
    some = [made_up.run("wwae", sharpness=0.03, sharpness_reconstruction=0.02, sharpness_data=0.04)]
    if key not in ("sharpness_gap", "sharpness_reconstruction_gap", "train_minutes", "epoch_seconds"):
        some = [made_up.run("wwae", **{key: 0.5, "sharpness_data": 0.04} | {key: 0.5})]
    assert METRICS[key].label in rows(tables.table(some, [key]))[0]
    assert METRICS[key].label in tables.comparisons(some, [key])


def test_settings_show_the_configuration_of_the_record():
    run = made_up.run("wwae", seconds=1234.0)
    shown = dict(zip(column(tables.settings([run]), ""), column(tables.settings([run]), "WWAE"), strict=True))
    for key, value in run.record["config"].items():
        if key not in ("dataset", "method", "variant", "warm_up"):
            words = tables.ESTIMATORS[value] if key == "estimator" else str(value)
            assert shown[tables.SETTINGS[key]] == words
    assert shown["training time"] == "21 min"
    rises = tables.SETTINGS["warm_up"]
    assert rises not in shown  # where none has a warm-up, nothing is said of it
    warmed_up = made_up.run("vae")
    warmed_up.record["config"]["warm_up"] = 400
    both = tables.settings([run, warmed_up])
    assert dict(zip(column(both, ""), column(both, "VAE"), strict=True))[rises] == "400"
    assert dict(zip(column(both, ""), column(both, "WWAE"), strict=True))[rises] == "0"
    moments = tables.SETTINGS["estimator"]
    assert dict(zip(column(both, ""), column(both, "VAE"), strict=True))[moments] == "-", "a VAE has none"


# ---------------------------------------------------------------- methods over seeds


def test_cells_hold_mean_and_interval_or_value_and_error(runs):
    (mnist, fashion) = tables.contests(runs)
    fid, kid = METRICS["fid"].label, METRICS["kid"].label
    cells = {row["method"]: row for row in rows(tables.comparison(mnist, ["fid", "kid"]))}
    values = [24.11, 25.32, 23.83]
    half = stats.t.ppf(0.975, 2) * stats.sem(values)
    assert cells["WWAE"][fid] == f"{np.mean(values):.1f} ± {half:.1f}"
    assert cells["WWAE"]["seeds"] == "3"
    assert cells["VAE"][fid] == "31.4 (0.2)"
    assert cells["VAE"][kid] == "0.0500 (0.0001)"
    assert cells["DCGAN"][kid] == "-"
    cells = {row["method"]: row for row in rows(tables.comparison(fashion, ["fid"]))}
    assert cells["WWAE"][fid] == "52.1"  # no error known
    assert (cells["DCGAN"][fid], cells["DCGAN"]["seeds"]) == ("40.5", "2")


def test_a_cell_of_fewer_seeds_than_its_row_says_so():
    runs = seeds("wwae", fid=[24.1, 25.3, 23.8])
    runs[1].record["metrics"]["fid_mixture"] = 20.0
    (row,) = rows(tables.comparison(tables.contests(runs)[0], ["fid", "fid_mixture"]))
    assert row[METRICS["fid_mixture"].label] == "20.0, 1 seed"
    assert "seed" not in row[METRICS["fid"].label]


def control(**ae: list[float]) -> list[Run]:
    runs = seeds("wwae", fid=[37.0, 37.5, 36.8], fid_gaussian=[38.0, 38.7, 38.0])
    return (
        runs + seeds("swae", fid=[36.0, 36.2, 35.9]) + seeds("gan", fid=[9.0, 9.1, 9.2]) + seeds("ae", **ae)
    )


def test_the_penalty_is_held_against_whitening_after_the_fact():
    ae = [32.0, 32.4, 31.9]
    runs = control(fid=[250.0, 251.0, 252.0], fid_gaussian=ae, fid_training=[3.9, 3.9, 3.9])
    text = plain(tables.ex_post_sampling(runs))
    assert "DCGAN" not in text, "a GAN has no codes"
    assert "The floor, the FID of training images, is 3.9." in text
    assert "sampled from the prior, SWAE has the lowest FID, 36.0 ± 0.4 (3 seeds)" in text
    expected = stats.ttest_ind(ae, [36.0, 36.2, 35.9], equal_var=False)
    half = np.diff(expected.confidence_interval()).item() / 2
    assert f"Less that of SWAE this is -3.9 ± {half:.1f} (3 and 3 seeds, Welch); this is more than" in text
    assert "The AE without penalty is not measured from a mixture of ten" in text
    change = stats.ttest_rel([38.0, 38.7, 38.0], [37.0, 37.5, 36.8]).confidence_interval()
    half = np.diff(change).item() / 2
    assert f"the FID changes thus: WWAE +1.1 ± {half:.1f} and AE -" in text
    assert text.count("(each 3 seeds, paired)") == 1, "what is alike is said once"


def test_what_the_records_do_not_show_of_the_control_is_not_said():
    text = plain(tables.ex_post_sampling(control(fid_gaussian=[32.0])))
    assert "The floor, the FID of training images, is not measured." in text
    assert "one of the two has not 3 seeds, so that this decides nothing" in text
    text = plain(tables.ex_post_sampling(seeds("wwae", fid=[37.0])))
    assert "There is no run of an auto-encoder without penalty." in text
    assert tables.ex_post_sampling(seeds("gan", fid=[9.0])) == ""


def test_distances_say_of_how_many_images_they_are():
    (run,) = seeds("wwae", fid=[37.0])
    how = {"images": 2500, "reference_images": 5000}
    run.record["evaluation"] = {"prior": how}
    assert tables.fid_sample_sizes([run]).startswith("- MNIST: 2,500 images against 5,000.")
    (other,) = seeds("vae", fid=[37.0])
    other.record["evaluation"] = {"prior": {"images": 10_000, "reference_images": 10_000}}
    words = "2,500 images against 5,000 and 10,000 images against 10,000, which do not compare"
    assert words in tables.fid_sample_sizes([run, other])
    assert tables.fid_sample_sizes(seeds("wwae", fid=[37.0])) == ""


def test_enumerations():
    assert [tables.enumeration(["a", "b", "c"][:n]) for n in range(4)] == ["", "a", "a and b", "a, b and c"]
    assert tables.enumeration(["a", "b, long", "c"]) == "a; b, long; and c"


def test_small_spreads_get_the_decimals_they_need():
    assert plain(tables.plus_minus(24.123456, 0.0234, "{:.1f}")) == "24.12 ± 0.02"
    assert plain(tables.plus_minus(24.123456, 0.2, "{:.1f}")) == "24.1 ± 0.2"
    assert tables.plus_minus(-24.15, float("nan"), "{:.1f}", "+") == "-24.1"
    assert plain(tables.plus_minus(4.25, 0.0, "{:.1f}", "+")) == "+4.2 ± 0.0"


def test_variants_take_no_part(runs):
    assert "1.0" not in column(tables.metric_across_datasets(runs, "fid"), "MNIST")
    assert column(tables.metric_across_datasets(runs, "fid"), "seeds") == ["3", "1", "1"]


def test_the_reference_network_is_a_contest_of_its_own(runs):
    runs += [made_up.run("vae", variant="reference", fid=12.0)]
    titles = [contest.title for contest in tables.contests(runs)]
    assert titles == ["MNIST", "MNIST, reference network", "Fashion-MNIST"]


def marked(*runs: Run, key: str = "fid") -> list[str]:
    (contest,) = tables.contests([run for run in runs])
    shown = rows(tables.comparison(contest, [key]))
    return [row["method"] for row in shown if row[METRICS[key].label].startswith("**")]


def test_the_best_is_marked_only_where_it_is_surely_best():
    def single(method, value, error):
        return made_up.run(method, fid=value, fid_error=error)

    assert marked(single("wwae", 20.0, 0.1), single("vae", 99.0, 0.1)) == [], "no spread is known"
    assert marked(single("wwae", 20.0, 0.1)) == [], "nothing to be better than"
    steady = seeds("wwae", fid=[20.0, 20.1, 19.9])
    assert marked(*steady, single("vae", 21.0, 0.1)) == ["WWAE"]
    assert marked(*steady, single("vae", 20.2, 0.1)) == []
    assert marked(*steady, single("vae", 21.0, 0.1), *seeds("gan", fid=[80, 90, 99])) == [], (
        "lent a spread of 10"
    )
    assert marked(*seeds("wwae", fid=[1, 2, 3]), *seeds("gan", fid=[9, 10, 11])) == ["WWAE"]
    assert marked(*seeds("wwae", fid=[1, 9, 20]), *seeds("gan", fid=[9, 10, 21])) == []
    higher = seeds("wwae", recall=[0.1, 0.11, 0.12]) + seeds("gan", recall=[0.5, 0.51, 0.52])
    assert marked(*higher, key="recall") == ["DCGAN"]
    neither = seeds("wwae", sharpness=[0.1, 0.11, 0.12]) + seeds("gan", sharpness=[0.5, 0.51, 0.52])
    assert marked(*neither, key="sharpness") == []


def test_places(runs):
    assert [plain(line) for line in tables.rankings(runs, "fid")] == [
        "On MNIST the WWAE has an FID of 24.4 ± 2.0, second of three methods. "
        "The DCGAN has the lowest, 17.5 (0.2) with 1 seed.",
        "On Fashion-MNIST the WWAE has an FID of 52.1, second of two methods. "
        "The DCGAN has the lowest, 40.5 with 2 seeds.",
    ]
    (one,) = tables.rankings([made_up.run("wwae", recall=0.1), made_up.run("gan", recall=0.2)], "recall")
    assert "a recall of 0.100" in one and "The DCGAN has the highest" in one


def test_places_within_the_uncertainty():
    ours = seeds("wwae", fid=[20.0, 21.0, 19.0])
    others = [made_up.run(name, fid=fid) for name, fid in (("vae", 19.5), ("swae", 21.0), ("gan", 90.0))]
    (line,) = tables.rankings([*ours, *others], "fid")
    assert "second of four methods; the uncertainty allows any place from first to third." in line
    assert "The VAE has the lowest" in line
    (line,) = tables.rankings([*ours, others[2]], "fid")
    assert line.endswith("first of two methods."), "a place that is sure is said alone"
    (line,) = tables.rankings([made_up.run("wwae", fid=20.0), *others], "fid")
    assert "second of four methods, with too few seeds to tell neighbouring places apart." in line
    (line,) = tables.rankings([*ours, others[0]], "fid")
    assert plain(line) == (
        "On MNIST the WWAE has an FID of 20.0 ± 2.5, and the VAE 19.5. The two cannot be told apart."
    )


def test_a_method_without_a_prior_takes_no_place_where_prior_samples_are_judged():
    runs = [
        made_up.run(name, fid=30.0 + k, squared_error=9.0 + k) for k, name in enumerate(("ae", "wwae", "vae"))
    ]
    (line,) = tables.rankings(runs, "fid")
    assert "two cannot be told apart" in line or "first of two methods" in line
    (line,) = tables.rankings(runs, "squared_error")
    assert "second of three methods" in line


def test_fits_of_training_and_test_images_and_an_optimum_that_was_not_reached(monkeypatch):
    last = {"wwae": 8.0, "ae": 9.0}
    monkeypatch.setattr(
        Run,
        "history",
        lambda run: [{"reconstruction": 50.0}, {"reconstruction": last[run.experiment.method]}],
    )
    some = [made_up.run(name, squared_error=10.0) for name in (*last, "gan")]
    text = tables.fits(some)
    assert "| MNIST | WWAE | 1 | 8.00 | 10.00 | +25% |" in text and "DCGAN" not in text
    assert "On MNIST the AE, which minimises nothing but this error" in text
    last["ae"] = 7.0
    assert "optimum" not in tables.fits(some)


def test_nothing_recorded_makes_empty_tables():
    assert tables.comparisons([]) == ""
    assert tables.rankings([], "fid") == []
    assert rows(tables.metric_across_datasets([], "fid")) == []


def all_tables(runs: list[Run]) -> str:
    keys = list(METRICS)
    parts = [
        tables.comparisons(runs, keys),
        tables.metric_across_datasets(runs, "fid"),
        tables.table(runs, keys),
    ]
    parts += [tables.settings(runs), tables.training_hours(runs), *tables.rankings(runs, "fid")]
    return "\n\n".join(parts)


def test_a_record_that_changes_changes_the_tables(runs):
    before = all_tables(runs)
    for number, run in enumerate(runs):
        for key in run.metrics:
            changed = copy.deepcopy(runs)
            changed[number].record["metrics"][key] = 1.5 * run.metrics[key] + 1
            if key.endswith("_error") and run.metrics[key] < 0.001:
                continue
            assert all_tables(changed) != before, f"{run.experiment.name}: {key}"


# ---------------------------------------------------------------- choices and cost


def test_choices_are_read_from_the_runs(runs):
    assert tables.configured(runs, "penalty_weight") == "10"
    assert tables.configured([*runs, made_up.run("wwae", dataset="celeba")], "latent") == (
        "8 (MNIST, Fashion-MNIST); 64 (CelebA)"
    )


def test_hours_of_training(runs):
    hours = rows(tables.training_hours(runs))
    assert [(row["data set"], row["runs"]) for row in hours] == [
        ("MNIST", "6"),
        ("Fashion-MNIST", "3"),
        ("together", "9"),
    ]
    assert hours[-1]["hours of training"] == "1.5"


def test_times_of_the_penalty():
    timings = {
        "measured": [
            {"n": 100, "d": 8, "method": "w2_penalty", "seconds": 0.0005},
            {"n": 100, "d": 8, "method": "mmd", "seconds": 0.0025},
            {"n": 4096, "d": 256, "method": "w2_penalty", "seconds": 0.02},
        ]
    }
    shown = rows(tables.penalty_times(timings, {"w2_penalty": "W2", "mmd": "MMD"}))
    assert [list(row.values()) for row in shown] == [["W2", "0.50", "20.00"], ["MMD", "2.50", "-"]]


# ---------------------------------------------------------------- the figure of the same numbers


def test_the_figure_of_standings_draws_the_numbers_of_the_table(runs):
    figure = figures.ranking(runs, "fid")
    mnist, fashion = figure.axes
    assert [label.get_text() for label in mnist.get_yticklabels()] == ["VAE", "WWAE", "DCGAN"], "best on top"
    assert [bar.lines[0].get_xdata()[0] for bar in mnist.containers] == pytest.approx([31.44, 24.42, 17.5])
    (bar,) = mnist.containers[1].lines[2]
    (low, _), (high, _) = bar.get_segments()[0]
    half = stats.t.ppf(0.975, 2) * stats.sem([24.11, 25.32, 23.83])
    assert (high - low) / 2 == pytest.approx(half)
    assert fashion.get_title() == "Fashion-MNIST"
    plt.close(figure)


def test_a_reading_of_the_distance_has_its_p_value():
    """10,000 times the reading of as many exact draws is about chi^2 of 8 and half a chi^2 of 36."""
    draws = np.random.default_rng(0).chisquare((8, 36), (100_000, 2)) @ (1, 0.5)
    assert np.mean(draws > 26) == pytest.approx(0.467, abs=0.01)
    near, far = (made_up.run("wwae", posterior_w2_squared=value) for value in (0.0026, 0.02))
    assert tables.table([near], ("posterior_w2_p",)).endswith("| WWAE | 0.467 |")
    assert tables.table([far], ("posterior_w2_p",)).endswith("| WWAE | < 0.001 |")
    faces = made_up.run("wwae", dataset="celeba", posterior_w2_squared=0.11)  # of 64 dimensions
    assert tables.table([faces], ("posterior_w2_p",)).endswith("| WWAE | 0.553 |")
    assert tables.table([made_up.run("gan", fid=1.0)], ("posterior_w2_p", "fid")).endswith("| DCGAN | 1.0 |")
    (contest,) = tables.contests(made_up.seeds("wwae", posterior_w2_squared=[0.02, 0.0026, 0.003]))
    assert tables.comparison(contest, ("posterior_w2_p",)).endswith("| WWAE | 3 | 0.467 |")  # the largest
    for sure in ([0.02, 0.03], [0.02]):
        (contest,) = tables.contests(made_up.seeds("wwae", posterior_w2_squared=sure))
        assert tables.comparison(contest, ("posterior_w2_p",)).endswith("| < 0.001 |")


def test_methods_that_are_still_to_be_trained_are_named():
    (contest,) = tables.contests(
        [made_up.run("wwae", dataset="celeba"), made_up.run("vae", dataset="celeba")]
    )
    text = tables.methods_recorded(contest)
    assert text.startswith("These methods are recorded: WWAE and VAE. Still to be trained: ")
    assert "DCGAN" in text and "Bernoulli" not in text, "which is for grey images alone"
    everything = tables.Contest("MNIST", "mnist", {name: [made_up.run(name)] for name in METHODS})
    assert "Still" not in tables.methods_recorded(everything)
