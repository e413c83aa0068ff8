"""Processes that are really killed (SIGKILL: no clean-up code runs), for the tests of runs and training.

A fork server imports the library once; each process then starts in milliseconds.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["pytest", "wwae_lib.training", "wwae_lib.measures.evaluation"])
# Every way in which the library changes what a folder holds, but for the content of files written aside.
OPERATIONS = ("replace", "rename", "unlink", "rmdir", "mkdir")


def _run(task: Callable, arguments: tuple, kill_at: int | None, report) -> None:
    import torch

    torch.set_num_threads(1)
    done = 0

    def killing(operation: Callable) -> Callable:
        def wrapped(*args, **kwargs):
            nonlocal done
            if done == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            done += 1
            return operation(*args, **kwargs)

        return wrapped

    for name in OPERATIONS:
        setattr(os, name, killing(getattr(os, name)))
    task(*arguments)
    report.value = done


def operations(task: Callable, *arguments, kill_at: int | None = None) -> int | None:
    """Run a task in a process that kills itself before its ``kill_at``-th change of a folder.

    Returns:
        How many changes the task made, or None if it was killed first.
    """
    report = _CONTEXT.Value("i", -1)
    process = _CONTEXT.Process(target=_run, args=(task, arguments, kill_at, report))
    process.start()
    process.join()
    if process.exitcode == 0:
        return report.value
    assert process.exitcode == -signal.SIGKILL, process.exitcode
    return None


def start(task: Callable, *arguments):
    """A process that runs a task."""
    report = _CONTEXT.Value("i", -1)
    process = _CONTEXT.Process(target=_run, args=(task, arguments, None, report))
    process.report = report  # or it is gone before the process has it
    process.start()
    return process


def run_for(seconds: float | None, task: Callable, *arguments) -> float:
    """Run a task in a process and kill it after so long, if it lives; the seconds it took."""
    begun = time.perf_counter()
    process = start(task, *arguments)
    process.join(seconds)
    process.kill()
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL), process.exitcode
    return time.perf_counter() - begun
