"""The network sees in an image what pytorch-fid's sees, faster."""

from __future__ import annotations

import hashlib
import http.client
import io
import pickle
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace
from urllib.error import URLError

import conftest
import numpy as np
import pytest
import pytorch_fid.inception
import torch
from conftest import inception_file, subprocess_environment
from PIL import Image
from torch import nn
from torch.nn import functional

from wwae_lib import data, processes
from wwae_lib.measures import evaluation, inception


def save_pngs(images: torch.Tensor, folder: Path) -> list[Path]:
    folder.mkdir()
    paths = [folder / f"{number:05}.png" for number in range(len(images))]
    for image, path in zip(images.permute(0, 2, 3, 1).numpy(), paths, strict=True):
        Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).save(path)
    return paths


@pytest.mark.parametrize("colours", [1, 3])
def test_features_are_pytorch_fids(tmp_path, digits, colours):
    inception_file()
    from pytorch_fid.fid_score import get_activations
    from pytorch_fid.inception import InceptionV3

    images = digits.pixels[::50]
    if colours == 3:
        images = torch.stack([images[:, 0], images[:, 0].flip(1), images[:, 0].mT], dim=1)
    theirs = InceptionV3([InceptionV3.BLOCK_INDEX_BY_DIM[2048]]).eval()
    expected = get_activations(save_pngs(images, tmp_path / "png"), theirs, batch_size=8, num_workers=0)
    seen = inception.features(images, inception.network(), progress=False)
    assert expected.shape == seen.shape == (8, 2048) and np.abs(expected).max() > 0.5
    assert np.abs(seen.numpy() - expected).max() < 1e-4


def test_without_onednns_operators_the_features_are_the_same(monkeypatch, digits):
    """As with Apple's wheels, which lack them."""
    inception_file()
    images = digits.pixels[:2]
    expected = inception.features(images, inception.network(), progress=False)
    monkeypatch.setattr(inception, "_onednn_can", lambda: False)
    monkeypatch.setattr(inception, "_rectified", lambda *arguments: pytest.fail("it was used unasked"))
    seen = inception.features(images, inception.network(), progress=False)
    assert (seen - expected).square().mean().sqrt() < 1e-5 * expected.std()


@pytest.mark.parametrize("error", [AttributeError, RuntimeError, TypeError, NotImplementedError])
@pytest.mark.parametrize("operator", ["_laid_out", "_rectified"])
def test_operators_that_are_not_there_are_not_used(monkeypatch, operator, error):
    def lacking(*arguments):
        raise error("no such operator")

    monkeypatch.setattr(inception, operator, lacking)
    assert not inception._onednn_can.__wrapped__()


def test_operators_that_compute_something_else_are_not_used(monkeypatch):
    """A later torch may give them another meaning."""
    monkeypatch.setattr(inception, "_laid_out", lambda conv, shape: conv.weight)
    monkeypatch.setattr(inception, "_rectified", lambda x, laid_out, conv: conv(x))  # no ReLU
    assert not inception._onednn_can.__wrapped__()
    monkeypatch.setattr(inception, "_rectified", lambda x, laid_out, conv: conv(x).relu())
    assert inception._onednn_can.__wrapped__()


def test_the_network_is_built_once():
    inception_file()
    network = inception.network()
    assert network is inception.network("float32") and network.precision == "float32"


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Path:
    """Where the network's file would be, in an empty cache of torch.hub's."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    path = tmp_path / "hub" / "checkpoints" / "pt_inception-2015-12-05-6726825d.pth"
    path.parent.mkdir(parents=True)
    return path


def saved(content, path: Path) -> bytes:
    torch.save(content, path)
    return path.read_bytes()


BAD_FILES = {
    "cut short": lambda path: saved({"weight": torch.zeros(1000)}, path)[:-200],
    "HTML": lambda path: b"<!DOCTYPE html><html>Not found</html>",
    "empty": lambda path: b"",
    "other tensors": lambda path: saved({"weight": torch.zeros(3)}, path),
    "no dictionary": lambda path: saved(torch.zeros(3), path),
    "a pickle of something": lambda path: pickle.dumps({"weight": Path("x")}),
    "a zip of something": lambda path: zipped("readme.txt"),
}


def zipped(name: str) -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        archive.writestr(name, "hello")
    return written.getvalue()


@pytest.mark.filterwarnings("ignore:Falling back to the old format")
@pytest.mark.parametrize("kind", BAD_FILES)
def test_a_file_that_is_no_network_is_named_with_what_to_do(hub, kind):
    hub.write_bytes(BAD_FILES[kind](hub))
    with pytest.raises(data.DataError, match=r"delete it, and it is fetched again from https://") as caught:
        inception._whole()
    assert str(hub) in str(caught.value) and "\n" not in str(caught.value) and len(str(caught.value)) < 600


def test_a_network_of_other_weights_is_refused(hub, monkeypatch):
    """As another port of the network, or a bit that flipped."""
    monkeypatch.setattr(pytorch_fid.inception, "InceptionV3", Whole)
    hub.write_bytes(b"in the shape of a network")
    with pytest.raises(data.DataError, match=r"holds another network: its weights have SHA-256"):
        inception._whole()
    monkeypatch.setattr(inception, "TENSORS", inception._checksum(Weights()))
    assert inception._whole().sha256 == inception.TENSORS


class Whole:
    """In place of pytorch-fid's, which reads the file."""

    BLOCK_INDEX_BY_DIM = {2048: 3}  # noqa: RUF012

    def __new__(cls, blocks):
        return Weights()


@pytest.mark.parametrize(
    "error",
    [URLError("no network"), ConnectionResetError("peer"), RuntimeError("invalid hash value"),
     http.client.IncompleteRead(b"half")],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
def test_a_network_that_cannot_be_downloaded_is_one_line(hub, monkeypatch, error):
    def refuse(*arguments, **options):
        raise error

    monkeypatch.setattr(torch.hub, "urlopen", refuse)
    with pytest.raises(data.DataError, match=r"could not be downloaded .*TORCH_HOME") as caught:
        inception._whole()
    assert str(hub.parent) in str(caught.value) and "\n" not in str(caught.value)
    assert list(hub.parent.iterdir()) == []


def test_a_download_of_something_else_is_not_kept(hub, monkeypatch):
    """A server's page of regret, or half of the file."""
    page = io.BytesIO(b"<html>quota exceeded</html>")
    page.info = lambda: SimpleNamespace(get_all=lambda name: None)
    monkeypatch.setattr(torch.hub, "urlopen", lambda request: page)
    with pytest.raises(data.DataError, match="invalid hash value"):
        inception._whole()
    assert list(hub.parent.iterdir()) == []


@pytest.mark.parametrize("name", ["float8", "bfloat16", "tf32"])
def test_an_unknown_precision(name):
    with pytest.raises(ValueError, match=f"no precision '{name}'; known: float32, float16"):
        inception.network(name)


@pytest.mark.parametrize("asked", ["high", "medium"])
def test_full_float32_is_full(asked):
    """Also where someone asked for less: TensorFloat-32, or bfloat16 on processors that compute in it."""
    a = torch.randn(64, 64, generator=torch.Generator().manual_seed(0))
    expected = a @ a
    torch.set_float32_matmul_precision(asked)
    try:
        with inception.full_float32():
            assert torch.get_float32_matmul_precision() == "highest"
            assert not torch.backends.cudnn.allow_tf32 and not torch.backends.cuda.matmul.allow_tf32
            assert torch.equal(a @ a, expected)
        assert torch.get_float32_matmul_precision() == asked
    finally:
        torch.set_float32_matmul_precision("highest")


# ---------------------------------------------------------------- the weights' checksum


class Weights(nn.Module):
    def __init__(self, **changes):
        super().__init__()
        self.norm = nn.BatchNorm2d(2)
        for name, value in changes.items():
            getattr(self.norm, name).data.fill_(value)


def test_the_checksum_is_that_of_the_tensors():
    checksum = inception._checksum(Weights())
    text = b"".join(
        f"norm.{name} (2,)\n".encode() + np.array([value] * 2, "<f4").tobytes()
        for name, value in (("bias", 0), ("running_mean", 0), ("running_var", 1), ("weight", 1))
    )
    assert checksum == hashlib.sha256(text).hexdigest()
    assert checksum == inception._checksum(Weights(num_batches_tracked=7))  # decides no feature
    assert checksum != inception._checksum(Weights(running_var=1.5))


def test_records_that_name_the_file_name_the_same_network():
    """Those of before; another file, and a checksum of tensors, are what they are."""
    inception_file()
    assert inception.of_tensors(inception.FILE) == inception.sha256() == inception.TENSORS
    assert inception.of_tensors(inception.TENSORS) == inception.TENSORS
    assert inception.of_tensors("another") == "another"


# ---------------------------------------------------------------- float16 on a GPU


class Rounding(nn.Module):
    """A small network, or what a GPU makes of it in another dtype: operands rounded, sums in float32."""

    def __init__(self, dtype: torch.dtype = torch.float32):
        super().__init__()
        self.weight = torch.randn(4, 3, 4, 4, generator=torch.Generator().manual_seed(0)).to(dtype)
        self.dtype = dtype

    def forward(self, images):
        seen = functional.conv2d(images.to(self.dtype).float(), self.weight.float(), stride=4)
        return (seen.relu().mean((2, 3), keepdim=True),)


class Off(Rounding):
    """Whose features are off in another way."""

    def __init__(self, change):
        super().__init__()
        self.change = change

    def forward(self, images):
        return (self.change(super().forward(images)[0]),)


@pytest.fixture
def trial(monkeypatch, digits, capsys):
    """Try a network in the place of float16's, with what is said."""

    def tried(near):
        monkeypatch.setattr(inception, "FEATURES", 4)
        networks = {"float32": Rounding(), "float16": near}
        monkeypatch.setattr(inception, "network", networks.__getitem__)
        images = digits.pixels[::4].flip(3), digits.pixels[1::4]
        choice = inception._try_float16(*images, "cpu", progress=True)
        return choice, capsys.readouterr().err

    return tried


def test_float16_serves_where_it_changes_next_to_nothing(trial):
    choice, said = trial(Rounding(torch.float16))
    assert choice.precision == "float16"
    assert 0 < choice.feature_error < 1e-3 and 0 < choice.fid_change < 2e-3
    assert choice.record() == {
        "features": "float16",
        "float16": {"feature_error": choice.feature_error, "fid_change": choice.fid_change},
    }
    assert "Inception features on cpu in float16: float16 changes" in said


def test_features_that_differ_are_refused(trial):
    choice, said = trial(Off(lambda x: x + 0.02))  # which changes no distance
    assert choice.precision == "float32" and choice.record()["features"] == "float32"
    assert choice.feature_error > 5e-3 and choice.fid_change < 1e-4
    assert "Inception features on cpu in float32: float16 changes" in said
    assert trial(Rounding(torch.bfloat16))[0].precision == "float32"


def test_a_distance_that_differs_is_refused(trial):
    """Features that are a little too large are nearly the same; their distance is off by twice that."""
    choice, _ = trial(Off(lambda x: x * 1.0012))
    assert choice.precision == "float32"
    assert choice.feature_error < 5e-3 and choice.fid_change > 2e-3


def test_the_limits_are_those_that_are_said(trial, monkeypatch):
    choice, _ = trial(Rounding(torch.bfloat16))
    monkeypatch.setattr(inception, "FEATURE_ERROR", choice.feature_error)
    monkeypatch.setattr(inception, "FID_CHANGE", choice.fid_change)
    assert trial(Rounding(torch.bfloat16))[0].precision == "float16"


def test_an_overflow_is_refused(trial):
    choice, said = trial(Off(lambda x: x / 0))
    assert choice == inception.Choice("float32") and choice.record() == {"features": "float32"}
    assert "float16 overflows" in said


def test_processes_agree(trial, monkeypatch):
    monkeypatch.setattr(
        processes, "gather", lambda own: torch.cat([own, 0 * own]) if own.numel() == 1 else own
    )
    assert trial(Rounding(torch.float16))[0].precision == "float32"  # the other process found otherwise


def test_it_is_decided_once_for_a_device_and_real_images(monkeypatch, digits, tmp_path):
    asked = []
    monkeypatch.setenv("WWAE_DATA", str(tmp_path))
    monkeypatch.setattr(inception, "_named", str)

    def tried(made, real, device, progress):
        asked.append((len(made), len(real), device))
        return inception.Choice("float16", 1e-3, 1e-3)

    monkeypatch.setattr(inception, "_try_float16", tried)
    monkeypatch.setattr(inception, "_CHOSEN", {})
    monkeypatch.setattr(inception, "TRIED", 30)
    made, real = digits.pixels[:50], digits.pixels[50:]
    assert inception.choose(made, real) == inception.Choice("float32") and not asked  # on a CPU
    for _ in range(2):
        assert inception.choose(made, real, "cuda").precision == "float16"
    assert asked == [(30, 30, "cuda")]
    inception.choose(made, made, "cuda")
    inception.choose(made, real, "cuda:1")
    assert [device for *_, device in asked] == ["cuda", "cuda", "cuda:1"]

    monkeypatch.setattr(inception, "_CHOSEN", {})  # in another process
    assert inception.choose(made, real, "cuda") == inception.Choice("float16", 1e-3, 1e-3)
    assert len(asked) == 3
    for kept in (tmp_path / "fid").glob("precision-*.json"):
        kept.write_text("half of i")
    monkeypatch.setattr(inception, "_CHOSEN", {})
    with pytest.warns(UserWarning, match="in each process"):
        assert inception.choose(made, real, "cuda").precision == "float16"


def test_float16_of_the_network_itself_is_near(digits):
    """In half precision on a processor, which is slow."""
    inception_file()
    images = digits.pixels[::150]
    exact, near = (
        inception.features(images, inception.network(precision), progress=False)
        for precision in inception.PRECISIONS
    )
    assert near.dtype == torch.float32
    assert 0 < inception._off(near, exact) < inception.FEATURE_ERROR


def test_batches_are_put_together_in_order(monkeypatch, digits):
    conftest.stand_in(monkeypatch)
    monkeypatch.setitem(inception.BATCH, "cpu", 7)
    images = digits.pixels[:23]
    seen = inception.features(images, conftest.StandIn(), progress=False)
    expected = images.double().div(255).unflatten(3, (2, 14)).unflatten(2, (2, 14)).mean((1, 3, 5))
    torch.testing.assert_close(seen.double(), expected.flatten(1), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("n", [1, 6, 23])
def test_each_process_sees_its_share(monkeypatch, digits, n):
    """One process after another, in turn taken for each of three."""
    conftest.stand_in(monkeypatch)
    images = digits.pixels[:n]
    whole = inception.features(images, conftest.StandIn(), progress=False)
    monkeypatch.setattr(processes, "count", lambda: 3)
    shares = []
    for rank in range(3):
        monkeypatch.setattr(processes, "rank", lambda rank=rank: rank)
        monkeypatch.setattr(processes, "gather", lambda own: shares.append(own) or own)
        inception.features(images, conftest.StandIn(), progress=False)
    assert len({len(share) for share in shares}) == 1  # gathering needs equal shares
    torch.testing.assert_close(torch.cat(shares)[:n], whole)


@pytest.mark.slow
def test_fid_is_that_of_pytorch_fids_own_command(tmp_path):
    inception_file()
    every = torch.cat([data.embedded_digits(split).pixels for split in ("train", "test")])
    every = every[torch.randperm(5000, generator=torch.Generator().manual_seed(0))]
    first, second = every[:2048], every[2048:4096]
    save_pngs(first, tmp_path / "one")
    save_pngs(second, tmp_path / "other")
    command = [sys.executable, "-m", "pytorch_fid", str(tmp_path / "one"), str(tmp_path / "other")]
    done = subprocess.run(
        [*command, "--device", "cpu", "--num-workers", "0"],
        capture_output=True, text=True, check=True, env=subprocess_environment(OMP_NUM_THREADS="2"),
    )  # fmt: skip
    expected = float(re.search(r"FID:\s*([\d.eE+-]+)", done.stdout)[1])
    assert evaluation.fid(first, second, progress=False) == pytest.approx(expected, rel=1e-3)
