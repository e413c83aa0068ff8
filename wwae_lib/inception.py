"""What does the network of the Frechet inception distance see in an image?

The network is pytorch-fid's, with the weights of the original TensorFlow implementation (Heusel et al. 2017).
What follows from its weights is done once, before any image: batch normalisation is folded into the
convolutions, and on a processor the weights are laid out as its convolutions read them, which then apply
the ReLU to what they have just computed.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval
from tqdm import tqdm

from . import processes
from .data import to_unit

__all__ = ["FEATURES", "PRECISIONS", "features", "full_float32", "network", "sha256"]

FEATURES = 2048
PRECISIONS = ("float32", "bfloat16")
KEPT_FLOAT = 5  # with bfloat16: the first convolutions, which see the most pixels, stay in float32
BATCH = {"cpu": 8, "cuda": 128}  # a small batch stays in a processor's cache


def network(precision: str = "float32") -> nn.Module:
    """pytorch-fid's Inception network up to the 2048 pooled features, ready to infer.

    Its weights come from torch.hub's cache (``TORCH_HOME``), or are downloaded into it.

    Args:
        precision: of the convolutions. ``bfloat16``, from the sixth convolution on, is a choice for
            processors that compute in it, and slow on others; features differ by about a hundredth of their
            spread.

    Raises:
        ValueError: the precision is unknown.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"there is no precision {precision!r}; known: {', '.join(PRECISIONS)}")
    from pytorch_fid.inception import InceptionV3

    whole = InceptionV3([InceptionV3.BLOCK_INDEX_BY_DIM[FEATURES]]).eval()
    number = 0
    for module in list(whole.modules()):
        for name, child in module.named_children():
            if isinstance(getattr(child, "bn", None), nn.BatchNorm2d):
                dtype = torch.bfloat16 if precision == "bfloat16" and number >= KEPT_FLOAT else torch.float32
                setattr(module, name, _Rectified(fuse_conv_bn_eval(child.conv, child.bn), dtype))
                number += 1
    whole.precision = precision
    return whole


class _Rectified(nn.Module):
    """ReLU of a convolution: one pass where oneDNN is at hand."""

    def __init__(self, conv: nn.Conv2d, dtype: torch.dtype):
        super().__init__()
        self.conv = conv.to(dtype=dtype, memory_format=torch.channels_last).requires_grad_(False)
        self.dtype = dtype
        self.laid_out: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        conv, x = self.conv, x.to(self.dtype)
        if x.device.type != "cpu" or not _onednn_computes_in(self.dtype):
            return functional.relu_(conv(x))
        how = conv.padding, conv.stride, conv.dilation, conv.groups
        if self.laid_out is None:
            reorder = torch._C._nn.mkldnn_reorder_conv2d_weight
            self.laid_out = reorder(conv.weight.detach().to_mkldnn(), *how, list(x.shape))
        return torch.ops.mkldnn._convolution_pointwise(x, self.laid_out, conv.bias, *how, "relu", [], "")


def _onednn_computes_in(dtype: torch.dtype) -> bool:
    """Whether this processor's convolutions can be oneDNN's in that dtype; where not, torch's own serve."""
    if dtype == torch.bfloat16:
        return torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return torch.backends.mkldnn.is_available()


@torch.inference_mode()
def features(
    images: Tensor, network: nn.Module, device: torch.device | str = "cpu", progress: bool = True
) -> Tensor:
    """Features ``(N, 2048)`` float32 of uint8 images ``(N, C, H, W)``, on the CPU.

    Grey images are repeated to three channels; the network resizes each to 299 x 299 (bilinear, without
    antialiasing) and scales pixels to [-1, 1], as pytorch-fid does. Each process of ``torchrun`` sees its
    share of the images and has the features of all.
    """
    network = network.to(device)
    share = math.ceil(len(images) / processes.count())
    own = images[share * processes.rank() :][:share]
    found = torch.zeros(share, FEATURES, device=device)  # the last share may be smaller: its end is cut off
    size = BATCH.get(torch.device(device).type, BATCH["cpu"])
    hidden = not progress or processes.rank() > 0
    bar = tqdm(total=len(own), desc="Inception features", unit="img", disable=hidden)
    with bar, full_float32():
        for start in range(0, len(own), size):
            batch = to_unit(own[start : start + size].to(device)).expand(-1, 3, -1, -1)
            (out,) = network(batch.contiguous(memory_format=torch.channels_last))
            found[start : start + len(batch)] = out.flatten(1).float()
            bar.update(len(batch))
    return processes.gather(found)[: len(images)].cpu()


@contextlib.contextmanager
def full_float32() -> Iterator[None]:
    """No TensorFloat-32 in convolutions, which cuDNN otherwise uses: it keeps three digits."""
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield


def sha256() -> str:
    """Checksum of the file of weights, which the features depend on."""
    from pytorch_fid.inception import FID_WEIGHTS_URL

    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(FID_WEIGHTS_URL).name
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
