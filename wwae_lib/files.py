"""How are files written so that none is ever half there, and read so that nothing damaged passes?"""

from __future__ import annotations

import contextlib
import datetime
import errno
import hashlib
import json
import os
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import filelock
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

__all__ = ["RunError", "owned", "read_tensors", "sha256", "write_atomically", "write_json", "write_tensors"]

# What fsync says where a file system has none.
UNSYNCED = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP)


class RunError(Exception):
    """A run or a file of it is missing, damaged, foreign or in use; the message says which and what to do."""


@contextlib.contextmanager
def write_atomically(path: Path) -> Iterator[Path]:
    """Yield a temporary name to write to, and rename that file to ``path`` if nothing was raised.

    Raises:
        RunError: the file cannot be written: the disk is full, or the folder is read-only.
    """
    part = path.with_name(f"{path.name}.part{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.touch()
        mode = part.stat().st_mode  # as the user's umask has it
        yield part
        with open(part, "rb+") as f:  # for writing, or Windows does not synchronise it
            _synchronise(f.fileno())
        with contextlib.suppress(OSError):  # some file systems of other systems refuse
            part.chmod(mode)  # safetensors writes files that only their owner can read
        part.replace(path)
    except (OSError, SafetensorError) as error:
        raise RunError(f"{path} cannot be written ({error}); what was there before is kept") from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def _synchronise(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in UNSYNCED:
            raise


def write_json(path: Path, content: Any) -> None:
    """Write a value as JSON, at once, for people too.

    Raises:
        RunError: as :func:`write_atomically`.
        ValueError: a number is not finite.
    """
    text = json.dumps(content, indent=2, sort_keys=True, allow_nan=False) + "\n"
    with write_atomically(path) as part:
        part.write_text(text, encoding="utf-8")


def write_tensors(path: Path, tensors: dict[str, Tensor], **about: str) -> None:
    """Write tensors and what is said about them as one safetensors file, with a checksum of both.

    Raises:
        RunError: as :func:`write_atomically`.
    """
    tensors = {name: value.contiguous() for name, value in tensors.items()}
    with write_atomically(path) as part:
        save_file(tensors, part, about | {"sha256": _checksum(tensors, about)})


def read_tensors(path: Path, checked: bool = True) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file, in memory: the file may go.

    Args:
        path: the file.
        checked: as :func:`write_tensors` left it; a file whose checksum is kept elsewhere has none.

    Raises:
        RunError: the file is missing, cut short, no safetensors file, without a checksum, or not as it was
            written.
    """
    try:
        with safe_open(path, "pt") as f:
            tensors = {key: f.get_tensor(key).clone() for key in f.keys()}  # noqa: SIM118
            about = f.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise RunError(
            f"{path} cannot be read as safetensors ({error}); restore it, or delete it and make it again"
        ) from error
    recorded = about.pop("sha256", None)
    if checked and recorded is None:
        raise RunError(
            f"{path} has no checksum: an earlier version of this library, or another program, wrote it; "
            "delete it and make it again"
        )
    if checked and recorded != _checksum(tensors, about):
        raise RunError(f"{path} is not as it was written; restore it, or delete it and make it again")
    return tensors, about


def _checksum(tensors: dict[str, Tensor], about: dict[str, str]) -> str:
    """Of names, types, shapes and bytes, and of what is said about them."""
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for name, value in sorted(tensors.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def sha256(path: Path) -> str:
    """Checksum of a file.

    Raises:
        RunError: it cannot be read.
    """
    try:
        with open(path, "rb") as f:
            return hashlib.file_digest(f, "sha256").hexdigest()
    except OSError as error:
        raise RunError(f"{path} cannot be read ({error}); restore it or train again") from error


@contextlib.contextmanager
def owned(path: Path, busy: str = "") -> Iterator[None]:
    """Be the only process that changes what is at ``path``: by a lock beside it.

    The system gives the lock back when a process ends, however it ends, so that a stale one is no obstacle.

    Args:
        path: a run's folder, say; it need not exist.
        busy: what to say where another process is the owner; by default that ``path`` is in use.

    Raises:
        RunError: another process is the owner, who is named; or nothing can be written there.
    """
    lock, owner = path.with_name(f".{path.name}.lock"), path.with_name(f".{path.name}.owner")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        held = filelock.FileLock(lock).acquire(timeout=0)
    except filelock.Timeout as error:
        raise RunError(f"{busy or f'{path} is in use'} ({_named(owner)}); wait for it, or end it") from error
    except OSError as error:
        raise RunError(f"{path.parent} cannot be written to ({error}); choose another folder") from error
    with held:
        try:
            since = datetime.datetime.now().astimezone().isoformat(" ", "seconds")
            who = {"host": platform.node(), "process": os.getpid(), "since": since}
            owner.write_text(
                json.dumps(who), encoding="utf-8"
            )  # a killed write may leave half of it, no more
            yield
        finally:
            for file in (owner, lock):  # the lock last, while it is held: who waits for it looks again
                with contextlib.suppress(OSError):
                    file.unlink(missing_ok=True)


def _named(owner: Path) -> str:
    try:
        who = json.loads(owner.read_text(encoding="utf-8"))
        return f"process {who['process']} on {who['host']}, since {who['since']}"
    except (OSError, ValueError, KeyError, TypeError):  # it has only just begun, or is ending
        return "another process"
