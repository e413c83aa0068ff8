"""What the tests share: no network, folders of their own, a few embedded digits and one trained run."""

from __future__ import annotations

import contextlib
import os
import urllib.request
from importlib.util import find_spec
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
from torch import nn
from torch.nn import functional

# In the modules of tensors, types and shapes of signatures are checked at every call. Not in data, which
# checks what enters by itself, for every user, and is tested by what it refuses.
CAN_CHECK = find_spec("jaxtyping") and find_spec("beartype")  # else test_shapes.py is skipped, and says so
CHECKED = ("book.geometry", "exact_draws", "gaussian", "measures", "methods", "networks", "penalties")
with contextlib.ExitStack() as hooks:
    if CAN_CHECK:
        from jaxtyping import install_import_hook

        hooks.enter_context(
            install_import_hook([f"wwae_lib.{name}" for name in CHECKED], "typechecking.checked")
        )
    import browsing

    from wwae_lib import data, training
    from wwae_lib.book import explorers
    from wwae_lib.experiments import Experiment, experiment
    from wwae_lib.measures import evaluation, inception

torch.set_num_threads(1)  # small batches gain nothing from more, and sums keep one order

# What takes a worker longest, in that order: the others fill up what is left when these are done.
LONGEST = (
    "test_pages",
    "test_reproduce",
    "test_training",
    "test_explorers",
    "test_distributed",
    "test_benchmark",
)
REAL_DATA = data.data_root()  # the user's: read where it is there, never written to
NOWHERE = "http://127.0.0.1:9"  # a proxy that refuses: no test, nor a process it starts, reaches the network


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(places)))


@pytest.fixture(scope="session", autouse=True)
def _no_network():
    with pytest.MonkeyPatch.context() as patch:
        for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
            patch.setenv(name, NOWHERE)
        patch.delenv("no_proxy", raising=False)
        patch.delenv("NO_PROXY", raising=False)
        yield


@pytest.fixture(autouse=True)
def _own_folders(tmp_path, monkeypatch):
    """No test writes into the user's data or results."""
    monkeypatch.setenv("WWAE_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("WWAE_RESULTS", str(tmp_path / "results"))


@pytest.fixture
def no_network(monkeypatch):
    """Every download of torchvision's fails, at once, as it does without a network."""

    def refuse(*args, **kwargs):
        raise URLError("no network in this test")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)


@pytest.fixture(scope="session")
def digits() -> data.Images:
    """The first 40 embedded training digits of each class."""
    return first_of_each_class(data.embedded_digits("train"), 40)


@pytest.fixture(scope="session")
def test_digits() -> data.Images:
    return first_of_each_class(data.embedded_digits("test"), 10)


def first_of_each_class(images: data.Images, n: int) -> data.Images:
    kept = torch.cat([(images.labels == label).nonzero()[:n, 0] for label in range(10)])
    return data.Images(images.pixels[kept], images.labels[kept], images.dataset, images.split, images.source)


def small(method: str = "wwae", **changes) -> Experiment:
    """An experiment of a fraction of a second on ``digits``."""
    settings = {"network": "tiny", "latent": 3, "epochs": 3, "batch_size": 64} | changes
    return experiment("mnist", method, **settings)


def cpu_fabric():
    return training.choose_fabric("cpu", "32-true")


@pytest.fixture(scope="session")
def finished(tmp_path_factory, digits, test_digits):
    """A finished run of :func:`small`; tests that change it copy its folder first."""
    results = tmp_path_factory.mktemp("finished")
    return training.train(small(), digits, test_digits, results=results, fabric=cpu_fabric(), progress=False)


@pytest.fixture(scope="session")
def shelf(tmp_path_factory, digits, test_digits):
    """A results folder with small runs of all that the explorers show; clothes and faces are digits."""
    results = tmp_path_factory.mktemp("shelf")
    for dataset in ("mnist", "fashion_mnist", "celeba"):
        images, test_images = (posing_as(dataset, some) for some in (digits, test_digits))
        for method in ("wwae", explorers.RIVAL.get(dataset, "vae")):
            planned = experiment(dataset, method, network="tiny", latent=3, epochs=1, batch_size=64)
            training.train(planned, images, test_images, results=results, fabric=cpu_fabric(), progress=False)
    return results


def posing_as(dataset: str, images: data.Images) -> data.Images:
    """Digits in the shape of another data set's images."""
    pixels = images.pixels
    if dataset == "celeba":
        pixels = torch.nn.functional.interpolate(pixels.expand(-1, 3, -1, -1), size=64)
    return data.Images(pixels, images.labels, dataset, images.split, images.source)


def real_data(dataset: str) -> Path:
    """The user's data folder, or a skip that says what it lacks."""
    if dataset == "celeba":
        wanted = [REAL_DATA / "celeba" / name for name in ("celeba_64.npy", "celeba_64.csv")]
    else:
        folder = REAL_DATA / data.TORCHVISION_NAME[dataset] / "raw"
        wanted = [folder / name for name in data.IDX_FILES[dataset]]
    if missing := [path for path in wanted if not path.exists()]:
        pytest.skip(f"needs the real {dataset}, and {missing[0]} is not there (WWAE_DATA names the folder)")
    return REAL_DATA


def inception_file() -> Path:
    """pytorch-fid's network in torch.hub's cache, or a skip: tests do not download it."""
    path = Path(torch.hub.get_dir()) / "checkpoints" / "pt_inception-2015-12-05-6726825d.pth"
    if not path.exists():
        pytest.skip(f"needs pytorch-fid's network, and {path} is not there (TORCH_HOME names the folder)")
    return path


class StandIn(nn.Module):
    """In place of Inception: the means of an image's quarters are its four features."""

    precision = "float32"

    def forward(self, images):
        return (functional.adaptive_avg_pool2d(images.mean(1, keepdim=True), 2),)


def stand_in(patch: pytest.MonkeyPatch) -> None:
    """Evaluation by :class:`StandIn`, of few images: its features are few, and no network is needed."""
    patch.setattr(inception, "network", lambda precision="float32": StandIn())
    patch.setattr(inception, "sha256", lambda: "stand-in")
    patch.setattr(inception, "FEATURES", 4)
    patch.setattr(evaluation, "MINIMUM_FID_IMAGES", 20)
    patch.setitem(evaluation.PROTOCOLS, "full", evaluation.Protocol(61, 1))
    patch.setitem(evaluation.PROTOCOLS, "extrapolated", evaluation.Protocol(31, 1, 61))
    patch.setitem(evaluation.PROTOCOLS, "brief", evaluation.Protocol(31, 2))


def subprocess_environment(**changes: str) -> dict[str, str]:
    """For a process that a test starts: this checkout's library, few threads."""
    root = str(Path(__file__).resolve().parents[1])
    return os.environ | {"PYTHONPATH": root, "OMP_NUM_THREADS": "1"} | changes


@pytest.fixture(scope="module")
def chromium():
    """Chromium without a network."""
    playwright = pytest.importorskip("playwright.sync_api")
    if browsing.CHROMIUM is None:
        pytest.skip("needs Chromium on PATH")
    options = ["--host-resolver-rules=MAP * ~NOTFOUND", "--disable-gpu"]
    options += ["--no-sandbox"] if os.geteuid() == 0 else []
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=browsing.CHROMIUM, args=options)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def browser(request):
    """Chromium, and a site that holds what the book was exported with."""
    if not browsing.EXPLORERS.exists():
        pytest.skip("needs the built site: make book")
    browsing.assert_current()
    return request.getfixturevalue("chromium")
