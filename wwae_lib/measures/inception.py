"""What does the network of the Frechet inception distance see in an image?

The network is pytorch-fid's, with the weights of the original TensorFlow implementation (Heusel et al. 2017).
What follows from its weights is done once in a process, before any image: batch normalisation is folded into
the convolutions, and on a processor the weights are laid out as oneDNN's convolutions read them, which apply
the ReLU to what they have just computed.

The precision is float32. On a GPU it is float16, with sums in float32, where :func:`choose` finds that this
changes next to nothing. TensorFloat-32 and bfloat16 are never used: emulated on images of the book's runs on
CelebA, truncated TensorFloat-32 moved a distance of 238 by 1.4, and bfloat16 by 2.8, where float16 moved it
by 0.1.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import http.client
import json
import math
import pickle
import sys
import textwrap
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, cast

import filelock
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval
from tqdm import tqdm

from .. import files, processes
from ..data import DataError, check_pixels, checksum, data_root, to_unit
from . import fidelity

__all__ = [
    "FEATURES",
    "PRECISIONS",
    "Choice",
    "choose",
    "features",
    "full_float32",
    "network",
    "of_tensors",
    "sha256",
]

FEATURES = 2048
PRECISIONS = ("float32", "float16")
BATCH = {"cpu": 8, "cuda": 128}  # a small batch stays in a processor's cache
KEPT = 5  # with float16, so many of the first convolutions stay in float32: a third of the error is theirs
TRIED = FEATURES  # images of either kind that float16 is tried on
FEATURE_ERROR = 5e-3  # the most that float16 may change the features, of their spread,
FID_CHANGE = 2e-3  # and the distance, of itself
# The checksums of the network's tensors, and of the file that holds them, which earlier records name.
TENSORS = "3612917ec4e0763b92007bf8e06cfa683560a50e2e51570535a0cf9ef863db3e"
FILE = "0f1f4df9890f969ae36a5c6762dbab40af49fe435766ce6a9af2175d4c289ef9"
# What torch.load raises of a file that is cut short, a page of HTML, or something else.
UNREADABLE = (RuntimeError, ValueError, TypeError, KeyError, AttributeError, EOFError, pickle.UnpicklingError)


def network(precision: str = "float32") -> nn.Module:
    """pytorch-fid's Inception network up to the 2048 pooled features, ready to infer.

    It is built once in a process. Its weights come from torch.hub's cache (``TORCH_HOME``), or are downloaded
    into it.

    Args:
        precision: of the convolutions' operands; ``float16``, from the sixth convolution on, is for GPUs.

    Raises:
        ValueError: the precision is unknown.
        DataError: the weights' file is damaged or another network's, or cannot be downloaded.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"there is no precision {precision!r}; known: {', '.join(PRECISIONS)}")
    return _built(precision)


def _whole() -> nn.Module:
    """pytorch-fid's own network, its weights fetched where they are missing, and checked."""
    from pytorch_fid.inception import FID_WEIGHTS_URL, InceptionV3

    path = Path(torch.hub.get_dir()) / "checkpoints" / FID_WEIGHTS_URL.rpartition("/")[2]
    if not path.exists():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(FID_WEIGHTS_URL, str(path), FILE)
        except (OSError, RuntimeError, http.client.HTTPException) as error:
            raise DataError(
                f"the network of the Frechet inception distance is not in {path.parent} and could not be "
                f"downloaded ({_one_line(error)}). Put {FID_WEIGHTS_URL} there, or name its folder in "
                "TORCH_HOME."
            ) from error
    remedy = f"delete it, and it is fetched again from {FID_WEIGHTS_URL}"
    try:
        whole: Any = InceptionV3([InceptionV3.BLOCK_INDEX_BY_DIM[FEATURES]]).eval()
    except (*UNREADABLE, OSError) as error:
        raise DataError(f"{path} is no network that torch can read ({_one_line(error)}); {remedy}") from error
    whole.sha256 = _checksum(whole)
    if whole.sha256 != TENSORS:
        raise DataError(
            f"{path} holds another network: its weights have SHA-256 {whole.sha256[:16]}..., "
            f"expected {TENSORS[:16]}...; {remedy}"
        )
    return whole


def _one_line(error: Exception) -> str:
    """The beginning of what an error says: torch explains at length how to read what it cannot."""
    return textwrap.shorten(str(error) or type(error).__name__, 160)


@functools.cache
def _built(precision: str) -> nn.Module:
    whole: Any = _whole()
    number = 0
    for module in list(whole.modules()):
        for name, child in module.named_children():
            if isinstance(getattr(child, "bn", None), nn.BatchNorm2d):
                dtype = torch.float32 if number < KEPT else getattr(torch, precision)
                setattr(module, name, _Rectified(fuse_conv_bn_eval(child.conv, child.bn), dtype))
                number += 1
    whole.precision = precision
    return whole


class _Rectified(nn.Module):
    """ReLU of a convolution, whose bias is always float32; in one pass by oneDNN where it can be."""

    def __init__(self, conv: nn.Conv2d, dtype: torch.dtype):
        super().__init__()
        self.conv = conv.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self.conv.requires_grad_(False)
        self.conv.weight.data = conv.weight.to(dtype)
        self.laid_out: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        conv, x = self.conv, x.to(self.conv.weight.dtype)
        if x.device.type == "cpu" and x.dtype == torch.float32 and _onednn_can():
            if self.laid_out is None:
                self.laid_out = _laid_out(conv, list(x.shape))
            return _rectified(x, self.laid_out, conv)
        convolved = functional.conv2d(
            x, conv.weight, None, conv.stride, conv.padding, conv.dilation, conv.groups
        )
        return functional.relu_(convolved.add_(conv.bias[:, None, None]))


def _laid_out(conv: nn.Conv2d, shape: list[int]) -> Tensor:
    """Weights in the order in which oneDNN reads them for inputs of a shape."""
    how = conv.padding, conv.stride, conv.dilation, conv.groups
    onednn: Any = torch._C  # whose types do not tell of it
    return onednn._nn.mkldnn_reorder_conv2d_weight(conv.weight.detach().to_mkldnn(), *how, shape)


def _rectified(x: Tensor, laid_out: Tensor, conv: nn.Conv2d) -> Tensor:
    how = conv.padding, conv.stride, conv.dilation, conv.groups
    return torch.ops.mkldnn._convolution_pointwise(x, laid_out, conv.bias, *how, "relu", [], "")


@functools.cache
def _onednn_can() -> bool:
    """Whether torch's private operators are here, and compute what the public ones do.

    They are those to which ``torch.compile`` leads, and some of torch's wheels lack them, Apple's among them.
    The public ways to the same features take longer or bring a burden. Of the time that these operators take
    (one thread, batches of 8, interleaved), a convolution and a ReLU took 1.3, and TorchScript, frozen and
    optimised for inference, 1.4; ``torch.compile`` needs a compiler on the reader's machine. ONNX Runtime
    took 0.82 and OpenVINO 0.86, for a second copy of the network, which has to be converted first, in a
    format of its own by packages of their own.
    """
    conv = nn.Conv2d(16, 16, 3, padding=1)
    x = torch.linspace(-1, 1, 16 * 64).view(1, 16, 8, 8).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        try:
            rectified = _rectified(x, _laid_out(conv, list(x.shape)), conv)
        except (AttributeError, NotImplementedError, RuntimeError, TypeError):
            return False
        return torch.allclose(rectified, functional.relu(conv(x)), atol=1e-5)


@torch.inference_mode()
def features(
    images: Tensor, network: nn.Module, device: torch.device | str = "cpu", progress: bool = True
) -> Tensor:
    """Features ``(N, 2048)`` float32 of uint8 images ``(N, C, H, W)``, on the CPU.

    Grey images are repeated to three channels; the network resizes each to 299 x 299 (bilinear, without
    antialiasing) and scales pixels to [-1, 1], as pytorch-fid does. Each process of ``torchrun`` sees its
    share of the images and has the features of all.

    Raises:
        ValueError: the images are not uint8.
    """
    check_pixels(images)
    network = network.to(device)
    share = math.ceil(len(images) / processes.count())
    own = images[share * processes.rank() :][:share]
    seen = torch.zeros(share, FEATURES, device=device)  # the last share may be smaller: its end is cut off
    size = BATCH.get(torch.device(device).type, BATCH["cpu"])
    hidden = not progress or processes.rank() > 0
    bar = tqdm(total=len(own), desc="Inception features", unit="img", disable=hidden)
    with bar, full_float32():
        for start in range(0, len(own), size):
            batch = to_unit(own[start : start + size].to(device)).expand(-1, 3, -1, -1)
            (out,) = network(batch.contiguous(memory_format=torch.channels_last))
            seen[start : start + len(batch)] = out.flatten(1).float()
            bar.update(len(batch))
    return processes.gather(seen)[: len(images)].cpu()


class Choice(NamedTuple):
    """A precision of the network, and what decided it.

    Attributes:
        precision: a name in ``PRECISIONS``.
        feature_error: what float16 changes in a feature, over the features' standard deviation (root mean
            squares of both); the larger of made and real images. None where float16 was not tried.
        fid_change: what it changes in the distance, over the distance. None where it was not tried.
    """

    precision: str
    feature_error: float | None = None
    fid_change: float | None = None

    def record(self) -> dict[str, Any]:
        """What a run's record says of it: ``features``, and ``float16`` where that was tried."""
        tried = {"feature_error": self.feature_error, "fid_change": self.fid_change}
        return {"features": self.precision} | ({} if self.feature_error is None else {"float16": tried})


def choose(made: Tensor, real: Tensor, device: torch.device | str = "cpu", progress: bool = True) -> Choice:
    """The precision in which to compare images: float32, or on a GPU float16 where it serves.

    On a GPU the first 2,048 made and real images are seen in both. Float16 serves where no more than 5e-3 of
    the features' spread changes, and no more than 0.2 % of their distance. That is decided, and said, once
    for a device and real images, by the images that are made first. The data folder keeps the decision, so
    that all processes of a machine measure alike.

    Args:
        made, real: uint8 ``(N, C, H, W)``.
        device: where the network is to run.
        progress: show progress bars, and say what was chosen.
    """
    if torch.device(device).type != "cuda":
        return Choice("float32")
    about = {"device": _named(device), "images": checksum(real[:TRIED]), "torch": torch.__version__}
    key = json.dumps(about, sort_keys=True)
    if key not in _CHOSEN:
        decide = functools.partial(_try_float16, made[:TRIED], real[:TRIED], device, progress)
        # processes that share the work decide together
        _CHOSEN[key] = decide() if processes.count() > 1 else _kept(key, decide)
    return _CHOSEN[key]


_CHOSEN: dict[str, Choice] = {}


def _named(device: torch.device | str) -> str:
    return torch.cuda.get_device_name(device)


def _kept(key: str, decide: Callable[[], Choice]) -> Choice:
    """What the first process of this machine decided under a key; the others wait for it."""
    path = data_root() / "fid" / f"precision-{hashlib.sha256(key.encode()).hexdigest()[:16]}.json"
    choice = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(path.with_suffix(".lock")):
            if path.exists():
                return Choice(**json.loads(path.read_text(encoding="utf-8")))
            choice = decide()
            files.write_json(path, choice._asdict())
    except (OSError, files.RunError, TypeError, ValueError) as error:
        warnings.warn(f"the precision is decided in each process: {error}", stacklevel=2)
    return choice or decide()


def _try_float16(made: Tensor, real: Tensor, device: torch.device | str, progress: bool) -> Choice:
    exact, near = (
        [features(images, network(precision), device, progress) for images in (made, real)]
        for precision in PRECISIONS
    )
    if not all(seen.isfinite().all() for seen in near):
        choice, reason = Choice("float32"), "float16 overflows"
    else:
        error = max(map(_off, near, exact))
        distance, other = (
            fidelity.frechet_distance(made.to(device), real.to(device)).value for made, real in (exact, near)
        )
        change = abs(other - distance) / max(distance, torch.finfo(torch.float64).tiny)
        suffices = torch.tensor([int(error <= FEATURE_ERROR and change <= FID_CHANGE)], device=device)
        agreed = bool(processes.gather(suffices).all())  # processes may round differently, and must agree
        choice = Choice(PRECISIONS[agreed], error, change)
        reason = f"float16 changes {error:.1e} of the features' spread and {change:.1e} of the distance"
    if progress and processes.rank() == 0:
        tqdm.write(f"Inception features on {device} in {choice.precision}: {reason}", file=sys.stderr)
    return choice


def _off(near: Tensor, exact: Tensor) -> float:
    return ((near - exact).square().mean() / exact.var(0).mean()).sqrt().item()


@contextlib.contextmanager
def full_float32() -> Iterator[None]:
    """Float32 is float32: neither TensorFloat-32, which keeps three digits, nor bfloat16, which keeps two.

    cuDNN's convolutions otherwise use the former; matrix products use either where someone asked for it.
    """
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


def sha256() -> str:
    """Checksum of the weights that the features follow from, however the file is packed that holds them."""
    return cast(str, network().sha256)


def _checksum(whole: nn.Module) -> str:
    """Of the tensors' names, in alphabetical order, shapes and float32 numbers, batches' counters aside."""
    digest = hashlib.sha256()
    for name, value in sorted(whole.state_dict().items()):
        if not name.endswith("num_batches_tracked"):
            digest.update(f"{name} {tuple(value.shape)}\n".encode())
            digest.update(value.float().contiguous().numpy().astype("<f4").tobytes())
    return digest.hexdigest()


def of_tensors(recorded: str) -> str:
    """The checksum of the weights that a record names: its own, or that of what was in the file it names."""
    return TENSORS if recorded == FILE else recorded
