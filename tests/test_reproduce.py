"""The matrix of runs: the finished are skipped, the killed resumed, and one failure stops no other."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import made_up
import pytest
from conftest import small, subprocess_environment

from wwae_lib import data, runs, training
from wwae_lib.__main__ import main
from wwae_lib.book import reproduce
from wwae_lib.book.ablations import ABLATIONS
from wwae_lib.book.reproduce import PROFILES, Profile
from wwae_lib.experiments import experiment
from wwae_lib.methods import METHODS
from wwae_lib.penalties import ESTIMATORS


def few(*methods: str, **changes) -> Profile:
    """A profile of small runs on the embedded digits, an epoch a second or less."""
    return Profile(tuple(small(method, epochs=2, **changes) for method in methods), embedded=True, sets=())


def run(profile: Profile, results, **options) -> dict[str, str]:
    options = {"accelerator": "cpu", "progress": False} | options
    return reproduce.reproduce(profile, profile.experiments, results, **options)


def test_profiles_hold_every_method_and_no_name_twice():
    for name, datasets, seeds in (
        ("quick", {"mnist"}, {0}),
        ("long", set(data.DATASETS), {0, 1, 2}),
        ("full", set(data.DATASETS), set(range(5))),
    ):
        profile = PROFILES[name]
        assert len({planned.name for planned in profile.experiments}) == len(profile.experiments)
        assert {planned.dataset for planned in profile.experiments} == datasets
        assert {planned.seed for planned in profile.experiments} == seeds
        for dataset in datasets:
            methods = {planned.method for planned in profile.experiments if planned.dataset == dataset}
            every = set(METHODS) - ({"vae_bernoulli"} if dataset == "celeba" else set())
            some = {("celeba", "long"): {"wwae", "vae_learned", "ae", "swae", "wae_mmd", "gan"}}
            assert methods == some.get((dataset, name), every)
    assert [name for name, profile in PROFILES.items() if profile.held_out != "test"] == [
        "selection", "remedies", "dimensions", "convergence"
    ]  # fmt: skip
    assert PROFILES["quick"].embedded and not PROFILES["quick"].sets
    assert {planned.seed for planned in PROFILES["full"].experiments if planned.dataset == "celeba"} == {
        0,
        1,
        2,
    }
    assert {planned.network for planned in PROFILES["full"].experiments} == {"reference"}
    ablations = set(PROFILES["ablations"].experiments)
    assert ablations == {planned for answers in ABLATIONS.values() for planned in answers}
    assert len({planned.name for planned in ablations}) == len(ablations)
    assert {planned.estimator for planned in ablations} == set(ESTIMATORS) - {"sliced"}
    assert not ablations & set(PROFILES["long"].experiments)


def test_quick_runs_are_none_of_the_books():
    assert runs.results_root() not in (
        reproduce.results_folder("quick"),
        *reproduce.results_folder("quick").parents,
    )
    for name in ("long", "full"):
        assert reproduce.results_folder(name) == runs.results_root()
    # trials are not among the runs that are compared
    assert reproduce.results_folder("selection").parent == runs.results_root()


def test_a_wgan_gp_is_trained_for_longer():
    for name in ("quick", "long", "full"):
        for planned in PROFILES[name].experiments:
            if planned.method == "wgan_gp":
                (other,) = {
                    other.epochs
                    for other in PROFILES[name].experiments
                    if (other.dataset, other.variant, other.method)
                    == (planned.dataset, planned.variant, "gan")
                }
                assert planned.epochs == other * (2 if planned.dataset == "celeba" else 3)


def test_only_selects_by_name():
    quick = PROFILES["quick"]
    names = {selected.name for selected in reproduce.select(quick, "*vae*")}
    assert names == {f"mnist/{name}/seed-0" for name in ("vae", "vae_learned", "vae_bernoulli")}
    assert [selected.name for selected in reproduce.select(quick, "*/wgan*/seed-?")] == [
        "mnist/wgan_gp/seed-0"
    ]
    assert [selected.method for selected in reproduce.select(quick, "*/gan/*", "*cwae*", "*/gan/*")] == [
        "cwae",
        "gan",
    ]
    assert reproduce.select(quick) == quick.experiments
    with pytest.raises(ValueError, match="no run's name is 'nothing'"):
        reproduce.select(quick, "*vae*", "nothing")


def test_runs_are_made_once_and_one_failure_stops_no_other(tmp_path, capfd):
    profile = few("gan", "wwae", "vae")
    broken = tmp_path / profile.experiments[1].name
    broken.mkdir(parents=True)
    (broken / "run.json").write_text("no record")
    failures = run(profile, tmp_path, jobs=2, progress=True)
    assert (
        failures.keys() == {profile.experiments[1].name}
        and "damaged" in failures[profile.experiments[1].name]
    )
    assert "2 of 2 runs" in capfd.readouterr().err
    made = [
        tmp_path / planned.name / "run.json" for planned in (profile.experiments[0], profile.experiments[2])
    ]
    times = [path.stat().st_mtime_ns for path in made]
    shutil.rmtree(broken)
    assert run(profile, tmp_path) == {}
    assert [path.stat().st_mtime_ns for path in made] == times
    assert runs.load(broken).experiment == profile.experiments[1]


def test_states_as_they_are_read_from_the_folder(tmp_path, finished):
    planned = small()
    cheap = Profile((planned,), embedded=True, sets=())
    prior, mixture = (dataclasses.replace(cheap, sets=sets) for sets in (("prior",), ("prior", "mixture")))
    assert reproduce.state(planned, tmp_path, cheap).words == "3 epochs to train"
    path = tmp_path / planned.name
    shutil.copytree(finished.path, path)
    assert reproduce.state(planned, tmp_path, cheap).name == "finished"
    without_sets = dataclasses.replace(cheap, embedded=False)
    assert reproduce.state(planned, tmp_path, without_sets).words == "trained, to measure: codes"
    assert reproduce.state(planned, tmp_path, prior).name == "to measure"
    runs.load(path).add_metrics({"fid": 1.0}, evaluation={"prior": {"protocol": "full"}})
    assert reproduce.state(planned, tmp_path, prior).name == "finished"
    brief = dataclasses.replace(prior, protocol="brief")
    assert reproduce.state(planned, tmp_path, brief).name == "to measure"
    assert reproduce.state(planned, tmp_path, mixture).words == "trained, to measure: mixture"
    other = reproduce.state(small(latent=4), tmp_path, cheap)
    assert other.name == "differs" and "latent was 3, is now 4" in other.words
    assert "latent was 3, is now 4" in run(few("wwae", latent=4), tmp_path)[planned.name]
    assert runs.load(path).experiment == planned  # left as it was


def test_a_slice_of_time_ends_and_the_next_goes_on(tmp_path, monkeypatch):
    planned = dataclasses.replace(small(), epochs=2000)  # more than the slice has time for
    profile = Profile((planned,), embedded=True, sets=())
    start = time.monotonic()
    assert run(profile, tmp_path, minutes=0.1) == {}
    assert time.monotonic() - start < 60
    assert not (tmp_path / planned.name).exists()


def test_two_in_one_folder(tmp_path):
    with (
        reproduce.locked(tmp_path),
        pytest.raises(runs.RunError, match="another reproduce is at work"),
        reproduce.locked(tmp_path),
    ):
        pass
    with reproduce.locked(tmp_path):  # once it has ended
        pass


def test_a_run_that_raises_is_reported_with_what_it_said(tmp_path):
    profile = few("wwae", batch_size=4_001)
    (failure,) = run(profile, tmp_path).values()
    assert failure.startswith("a batch of 4001 is larger than the 4000 images")


def test_a_process_that_is_killed_is_reported_and_its_run_resumes(tmp_path, monkeypatch):
    profile, start = few("vae"), reproduce._Worker.__init__

    def killed_at_once(self, *arguments):
        start(self, *arguments)
        self.process.kill()

    with monkeypatch.context() as patch:
        patch.setattr(reproduce._Worker, "__init__", killed_at_once)
        (failure,) = run(profile, tmp_path).values()
    assert "signal SIGKILL" in failure
    assert run(profile, tmp_path) == {}


COMMAND = [sys.executable, "-m", "wwae_lib", "reproduce", "--profile", "quick", "--accelerator", "cpu"]


def start(results, *more: str) -> subprocess.Popen:
    command = [*COMMAND, "--only", "mnist/[gs]*", "--results", str(results), *more]
    return subprocess.Popen(
        command,
        env=subprocess_environment(PYTHONUNBUFFERED="1"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell that starts the tests in the background has them, and so this, ignore SIGINT.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def test_killed_and_restarted_three_times(tmp_path):
    """The parent alone is killed; its children must not go on beside those of the next."""
    generator = random.Random()
    delays = [generator.uniform(2, 6) for _ in range(3)]
    print("killed after", delays)  # shown where the test fails
    for delay in delays:
        process = start(tmp_path)
        time.sleep(delay)
        process.kill()
        process.communicate()  # returns once no child holds its pipes
    process = start(tmp_path)
    out, err = process.communicate(timeout=500)
    assert process.returncode == 0, err
    assert out.rstrip().endswith("2 finished, 0 failed")
    for name in ("gan", "swae"):
        recorded = runs.load(tmp_path / f"mnist/{name}/seed-0")
        assert len(recorded.history()) == recorded.experiment.epochs
    # a lock outlives a process that was killed, and is no obstacle; nothing else does
    hidden = {path.name for path in tmp_path.rglob(".*")}
    assert hidden <= {".reproduce.lock", ".seed-0.lock", ".seed-0.owner"}


def test_runs_are_measured_as_their_profile_says(monkeypatch, finished, digits, test_digits):
    """By its protocol, on its sets and its split."""
    measured, loaded = [], []
    monkeypatch.setattr(reproduce.evaluation, "evaluate", lambda *given, **how: measured.append((given, how)))
    monkeypatch.setattr(
        data, "load", lambda dataset, split, **how: loaded.append((dataset, split, how)) or digits
    )
    for name in ("long", "selection", "convergence", "full"):
        profile = PROFILES[name]
        reproduce.measure(finished, profile, digits, test_digits, "cpu")
        given, how = measured.pop()
        assert given == (finished, digits, test_digits)
        assert how == {
            "protocol": {"long": "extrapolated", "full": "full"}.get(name, "selection"), "sets": profile.sets,
            "device": "cpu", "progress": False,
        }  # fmt: skip
        reproduce.images_of(profile, "celeba")
        split = "valid" if name in ("selection", "convergence") else "test"
        assert [asked[:2] for asked in loaded] == [("celeba", "train"), ("celeba", split)]
        assert all(asked[2] == {"fall_back": False} for asked in loaded)
        loaded.clear()


def test_as_many_runs_are_made_at_a_time_as_were_asked_for(monkeypatch, tmp_path):
    """And with threads that share the cores."""
    running, most, asked = [], [], []

    class Worker:
        def __init__(self, experiment, profile, results, accelerator, threads):
            running.append(self)
            most.append(len(running))
            asked.append((accelerator, threads))
            reader, self.writer = multiprocessing.Pipe(duplex=False)
            self.process = SimpleNamespace(sentinel=reader, is_alive=lambda: False)
            self.writer.close()

        def failure(self):
            running.remove(self)
            return ""

    monkeypatch.setattr(reproduce, "_Worker", Worker)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    profile = Profile(tuple(experiment("mnist", "wwae", seed=seed) for seed in range(7)))
    options = {"accelerator": "cuda", "progress": False}
    assert reproduce.reproduce(profile, profile.experiments, tmp_path, jobs=3, **options) == {}
    assert max(most) == 3 and len(most) == 7 and set(asked) == {("cuda", 2)}


def test_asked_to_end(tmp_path):
    process = start(tmp_path)
    assert process.stdout.readline()  # it has begun
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGINT
    assert "interrupted; what was finished is kept" in err and "Traceback" not in err


def test_dry_run_lists_and_changes_nothing(tmp_path, capsys):
    assert main(["reproduce", "--dry-run", "--results", str(tmp_path / "none")]) == 0
    output = capsys.readouterr().out
    assert len(output.splitlines()) == 1 + len(PROFILES["quick"].experiments)
    assert "mnist/wgan_gp/seed-0" in output and "epochs to train" in output
    assert not (tmp_path / "none").exists()


def test_exit_code_is_1_where_a_run_failed(tmp_path, capsys, monkeypatch):
    profile = few("wwae", batch_size=4_001)
    monkeypatch.setitem(PROFILES, "quick", profile)
    assert main(["reproduce", "--results", str(tmp_path), "--accelerator", "cpu"]) == 1
    output = capsys.readouterr()
    assert "0 finished, 1 failed" in output.out
    assert f"failed: {profile.experiments[0].name}: a batch of 4001" in output.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--jobs", "0"], "--jobs is 0; it must be at least 1"),
        (["--only", "nothing"], "no run's name is 'nothing'"),
    ],
)
def test_words_that_cannot_be_followed(words, said, capsys):
    assert main(["reproduce", *words]) == 1
    assert said in capsys.readouterr().err


# ---------------------------------------------------------------- faults of a single training


TRAIN = [sys.executable, "-m", "wwae_lib", "train", "mnist", "--embedded", "--network", "tiny"]
TRAIN += ["--accelerator", "cpu", "--epochs", "50", "--batch-size", "500", "--results"]


def test_train_asked_to_end_keeps_its_checkpoint(tmp_path):
    process = subprocess.Popen(
        [*TRAIN, tmp_path], env=subprocess_environment(), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
    )
    draft = runs.Draft(tmp_path / "mnist/wwae/seed-0")
    while not draft.checkpoint.exists():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    err = process.communicate(timeout=60)[1].decode()
    assert process.returncode == 128 + signal.SIGTERM
    assert "interrupted; the last checkpoint is kept in" in err and "Traceback" not in err
    assert draft.load_checkpoint()[1]["epoch"] >= 1
    assert not list(draft.folder.glob("*.part*"))


def test_sigterm_is_the_callers_again_afterwards(tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    assert main(["reproduce", "--dry-run", "--results", str(tmp_path)]) == 0
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.skipif(os.name != "posix", reason="needs resource limits")
def test_a_disk_that_is_full_ends_in_a_line_and_keeps_the_last_checkpoint(tmp_path):
    """A limit on the size of files, which fails a write as a full disk does (EFBIG for ENOSPC)."""
    whole = subprocess.run(
        [*TRAIN, tmp_path, "--epochs", "1"], env=subprocess_environment(), capture_output=True, text=True
    )
    assert whole.returncode == 0, whole.stderr
    limit = "import resource, runpy, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
    limit += "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)); "
    limit += "runpy.run_module('wwae_lib', run_name='__main__', alter_sys=True)"
    full = subprocess.run(
        [sys.executable, "-B", "-c", limit, *TRAIN[3:], tmp_path, "--epochs", "2", "--restart"],
        env=subprocess_environment(),
        capture_output=True,
        text=True,
    )
    assert full.returncode == 1 and "Traceback" not in full.stderr
    assert "checkpoint.safetensors cannot be written" in full.stderr
    assert runs.load(tmp_path / "mnist/wwae/seed-0").experiment.epochs == 1  # what was there is kept


def test_other_data_than_a_finished_run_was_trained_on(tmp_path, monkeypatch):
    """Between two calls of reproduce a data file changed: the run is not taken for finished."""
    profile = few("wwae")
    assert run(profile, tmp_path) == {}
    path = tmp_path / profile.experiments[0].name
    record = runs.load(path).record
    record["data"]["train"]["sha256"] = "0" * 64
    runs.write_json(path / "run.json", record)
    recorded = runs.load(path)
    digits = data.embedded_digits("train")
    with pytest.raises(runs.RunError, match="is finished, and another run: its images had SHA-256"):
        training.train(
            recorded.experiment, digits, data.embedded_digits("test"), results=tmp_path, resume=True
        )


def test_a_notebook_reads_the_records_or_the_same_experiments_trained_again(tmp_path, monkeypatch, finished):
    recorded = runs.results_root()
    for name in ("wwae", "wwae-other"):
        shutil.copytree(finished.path, recorded / "mnist" / name / "seed-0")
    other = recorded / "mnist" / "wwae-other" / "seed-0" / "run.json"
    other.write_text(other.read_text().replace('"variant": ""', '"variant": "other"'))
    (read,) = reproduce.records("quick", "mnist/wwae/seed-*")
    assert read.path == recorded / "mnist/wwae/seed-0"

    made = []

    def train(profile, experiments, results):
        made.extend(experiments)
        assert profile.sets == () and profile.protocol == "full"  # as was recorded of these runs
        if len(made) > 1:
            return {"mnist/wwae/seed-0": "no data"}
        shutil.copytree(finished.path, results / "mnist/wwae/seed-0")
        return {}

    monkeypatch.setattr(reproduce, "reproduce", train)
    (again,) = reproduce.records("full", "mnist/wwae/seed-*")
    assert made == [finished.experiment] and again.path == data.data_root() / "full/mnist/wwae/seed-0"
    assert runs.results_root() == recorded  # nothing else is read from elsewhere

    with pytest.raises(runs.RunError, match="mnist/wwae/seed-0: no data"):
        reproduce.records("full", "mnist/*/seed-0")
    with pytest.raises(ValueError, match="no profile 'fast'"):
        reproduce.records("fast", "mnist/wwae/seed-0")
    with pytest.raises(ValueError, match="no recorded run's name is 'mnist/nosuch"):
        reproduce.records("quick", "mnist/wwae/*", "mnist/nosuch/*")


def test_runs_that_are_made_again_are_measured_as_they_were(monkeypatch):
    """Each by its own protocol, on the sets of any of that protocol; codes alone are of none."""
    measured = {
        "a": {"codes": {}, "prior": {"protocol": "brief"}},
        "b": {"prior": {"protocol": "extrapolated"}, "training": {"protocol": "extrapolated"}},
        "c": {"prior": {"protocol": "extrapolated"}, "mixture": {"protocol": "extrapolated"}},
        "d": {"codes": {}},
    }
    known = []
    for variant, entries in measured.items():
        run = made_up.run("wwae", variant=variant)
        known.append(dataclasses.replace(run, record=run.record | {"evaluation": entries}))
    monkeypatch.setattr(runs, "recorded", lambda *patterns: known)
    monkeypatch.setattr(runs, "load", lambda path: path.parent.name)
    asked = []
    monkeypatch.setattr(reproduce, "reproduce", lambda *given: asked.append(given) or {})
    assert reproduce.records("full") == [f"wwae-{variant}" for variant in measured]
    assert [(profile.protocol, profile.sets, len(some)) for profile, some, _ in asked] == [
        ("brief", ("prior",), 1),
        ("extrapolated", ("prior", "mixture", "training"), 2),
        ("full", (), 1),
    ]


def test_the_bar_weighs_runs_by_pixels_and_counts_what_is_done(tmp_path):
    """Costs are in passes over 60,000 images of MNIST, by hand: channels, sides, images, epochs, players."""
    grey = experiment("mnist", "gan", epochs=6)
    faces = experiment("celeba", "wwae", epochs=2)
    profile = Profile((grey, faces), sets=("prior", "gaussian", "training"))
    view = reproduce._ProgressBar(profile, profile.experiments, tmp_path, 1, False)
    passes = {grey: 2 * 6 * 55_000 / 60_000, faces: 2 * 162_770 * 3 * 64 * 64 / (60_000 * 784)}
    a_set = 4 * reproduce.FID_PASSES  # of 10,000 images
    assert view.bar.total == pytest.approx(sum(passes.values()) + 3 * a_set), "a GAN has no fitted Gaussian"
    assert view.bar.n == 0

    draft = runs.Draft(tmp_path / faces.name)
    draft.write_history([{"epoch": 1}])
    view.show([faces])
    assert view.bar.n == pytest.approx(passes[faces] / 2)
    view.ended(faces, failed=True)
    view.show([])
    assert view.bar.n == pytest.approx(passes[faces] + 2 * a_set)
    assert "1 of 2 runs, 2 failed" in view.bar.postfix


def test_the_bar_counts_the_sets_that_a_trained_run_has(tmp_path, monkeypatch):
    run = made_up.run("wwae", fid=30.0)
    entries = {"prior": {"protocol": "full"}, "training": {"protocol": "full"}}
    trained = dataclasses.replace(run, record=run.record | {"evaluation": entries})
    monkeypatch.setattr(runs, "exists", lambda path: True)
    monkeypatch.setattr(runs, "load", lambda path: trained)
    profile = Profile((run.experiment,), sets=("prior", "gaussian", "training"))
    view = reproduce._ProgressBar(profile, profile.experiments, tmp_path, 0, False)
    assert view.bar.total - view.bar.n == pytest.approx(4 * reproduce.FID_PASSES)
