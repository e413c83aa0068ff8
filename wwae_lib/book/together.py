"""How do several trainings share a GPU, so that one computes while another waits?"""

from __future__ import annotations

import collections
from collections.abc import Generator, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from .. import runs, training
from ..data import Images
from ..experiments import Experiment
from ..steps import Lane

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["fit_together", "round_robin"]


def fit_together(
    trainings: Iterable[tuple[Experiment, Images, runs.Draft | None]],
    *,
    at_once: int,
    fabric: Fabric | None = None,
    capture: bool = True,
    progress: bool = True,
) -> Iterator[tuple[Experiment, training.Fitted | Exception]]:
    """Train several experiments in turns on one device: together they use more of a GPU than one alone.

    Each computes what :func:`wwae_lib.training.fit_experiment` would alone, from random numbers of its own.
    The seconds that it reports include the share of the others.

    Args:
        trainings: experiment, images and draft of each, as the arguments of ``fit_experiment``; the next one
            is asked for when one has ended.
        at_once: how many take turns.
        fabric, capture, progress: as :func:`wwae_lib.training.fit`.

    Yields:
        An experiment and what ``fit_experiment`` returns, or the exception that it raises, as they end.
    """
    fabric = fabric or training.choose_fabric()
    how = {"at_once": at_once, "capture": capture, "progress": progress}
    works = ((given[0], training.fitting(*given, fabric, **how)) for given in trainings)
    return round_robin(works, [Lane(fabric.device) for _ in range(at_once)])


def round_robin(
    works: Iterable[tuple[Any, Generator[None, None, Any]]], lanes: Iterable[Lane]
) -> Iterator[tuple[Any, Any]]:
    """Run generators in turns, each on a lane of its own; the next one starts when a lane is free.

    Yields:
        The name of each generator, and what it returned or the exception that it raised, as they end.
    """
    waiting, free, busy = iter(works), collections.deque(lanes), collections.deque()
    while True:
        while free and (named := next(waiting, None)) is not None:
            busy.append((free.popleft(), *named))
        if not busy:
            return
        lane, name, work = busy.popleft()
        try:
            with lane.active():
                next(work)
        except StopIteration as done:
            outcome = done.value
        except Exception as error:  # its own: the others go on
            outcome = error
        else:
            busy.append((lane, name, work))
            continue
        free.append(lane)
        yield name, outcome
