"""Wasserstein-Wasserstein auto-encoders: model, loss and training code of the reproduction book.

What most users need is here by name, and imported when it is asked for, so that ``import wwae_lib`` alone
imports neither torch nor anything else::

    import wwae_lib

    method = wwae_lib.load("mnist/wwae/seed-0")  # a recorded run of the book's checkout
    images = method.sample(100)  # (100, 1, 28, 28), numbers in [0, 1]
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .data import Images as Images
    from .experiments import experiment as experiment
    from .gaussian import moments as moments
    from .gaussian import w2_penalty as w2_penalty
    from .gaussian import w2_squared as w2_squared
    from .measures.evaluation import fid as fid
    from .methods import VAE as VAE
    from .methods import WWAE as WWAE
    from .networks import Decoder as Decoder
    from .networks import Encoder as Encoder
    from .runs import load_method as load  # noqa: F401
    from .training import fit as fit
    from .training import train as train

__version__ = "0.1.0"

# Where each public name is defined: module and, after a colon, its name there if that is another.
_HOMES = {
    "Decoder": "networks",
    "Encoder": "networks",
    "Images": "data",
    "VAE": "methods",
    "WWAE": "methods",
    "experiment": "experiments",
    "fid": "measures.evaluation",
    "fit": "training",
    "load": "runs:load_method",
    "moments": "gaussian",
    "train": "training",
    "w2_penalty": "gaussian",
    "w2_squared": "gaussian",
}
__all__ = [*_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, there = _HOMES[name].partition(":")
    return getattr(import_module(f".{module}", __name__), there or name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
