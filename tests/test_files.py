"""Files are whole or not there, on any file system; what is damaged is noticed; a folder has one owner."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import platform
import signal
from pathlib import Path

import filelock
import killing
import pytest
import torch
from safetensors.torch import load_file, save_file

from wwae_lib import files
from wwae_lib.files import RunError, owned, read_tensors, write_atomically, write_tensors

# ---------------------------------------------------------------- writing


@pytest.mark.parametrize("umask", [0o022, 0o002, 0o077])
def test_files_have_the_mode_that_the_user_chose(tmp_path, umask):
    """Also those of safetensors, which their owner alone can read."""
    before = os.umask(umask)
    try:
        with write_atomically(tmp_path / "text") as part:
            part.write_text("x")
        write_tensors(tmp_path / "tensors", {"x": torch.zeros(3)})
    finally:
        os.umask(before)
    for name in ("text", "tensors"):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o666 & ~umask, name


def refusing(error: int):
    def refuse(*arguments, **options):
        raise OSError(error, os.strerror(error))

    return refuse


def test_a_file_system_that_refuses_chmod(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "chmod", refusing(errno.EPERM))
    write_tensors(tmp_path / "x", {"x": torch.zeros(3)})
    assert read_tensors(tmp_path / "x")[0]["x"].tolist() == [0] * 3


@pytest.mark.parametrize("error", [errno.EINVAL, errno.ENOSYS, errno.ENOTSUP])
def test_a_file_system_without_fsync(tmp_path, monkeypatch, error):
    monkeypatch.setattr(os, "fsync", refusing(error))
    files.write_json(tmp_path / "x.json", {})
    assert (tmp_path / "x.json").read_text() == "{}\n"


def test_an_error_of_the_disk_is_no_missing_fsync(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", refusing(errno.EIO))
    with pytest.raises(RunError, match=r"x.json cannot be written"):
        files.write_json(tmp_path / "x.json", {})


def test_what_is_synchronised_can_be_written_to(tmp_path, monkeypatch):
    """Windows refuses a handle that is open for reading."""
    import fcntl

    modes, fsync = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (modes.append(fcntl.fcntl(fd, fcntl.F_GETFL)), fsync(fd)))
    files.write_json(tmp_path / "x.json", {})
    assert modes and all(mode & os.O_ACCMODE == os.O_RDWR for mode in modes)


# ---------------------------------------------------------------- tensors


def test_tensors_come_back_with_what_is_said_about_them(tmp_path):
    given = {
        "a": torch.arange(6.0).view(2, 3).mT,
        "b": torch.tensor(3),
        "c": torch.ones(2, dtype=torch.bfloat16),
    }
    write_tensors(tmp_path / "x", given, state="{}")
    tensors, about = read_tensors(tmp_path / "x")
    assert about == {"state": "{}"} and tensors.keys() == given.keys()
    assert all(torch.equal(tensors[name], value) for name, value in given.items())


def test_what_is_read_is_no_longer_the_file(tmp_path):
    """A mapped file cannot be replaced on Windows, and its ghost stays on NFS."""
    path = tmp_path / "mapped.safetensors"
    write_tensors(path, {"x": torch.zeros(10_000)})
    read_back = read_tensors(path)
    assert "mapped.safetensors" not in Path("/proc/self/maps").read_text() and read_back


def flipped(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(bytes(content))


DAMAGE = {
    "a bit of a tensor": lambda path: flipped(path, -1),
    "another metadata": lambda path: save_file(
        load_file(path), path, {"state": "another", "sha256": read_tensors_checksum(path)}
    ),
    "a tensor less": lambda path: save_file(
        {"x": load_file(path)["x"]}, path, {"state": "{}", "sha256": read_tensors_checksum(path)}
    ),
    "another shape": lambda path: save_file(
        {name: value.view(3, 1) for name, value in load_file(path).items()},
        path,
        {"state": "{}", "sha256": read_tensors_checksum(path)},
    ),
}


def read_tensors_checksum(path: Path) -> str:
    from safetensors import safe_open

    with safe_open(path, "pt") as f:
        return f.metadata()["sha256"]


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_checksum_is_over_tensors_and_what_is_said_about_them(tmp_path, damage):
    path = tmp_path / "x.safetensors"
    write_tensors(path, {"x": torch.zeros(3), "y": torch.ones(3)}, state="{}")
    DAMAGE[damage](path)
    with pytest.raises(RunError, match=r"is not as it was written; .*delete it and make it again"):
        read_tensors(path)


def test_a_file_from_before_there_were_checksums_is_said_to_be_old(tmp_path):
    path = tmp_path / "x.safetensors"
    save_file({"x": torch.zeros(3)}, path, {"state": "{}"})
    with pytest.raises(RunError, match=r"no checksum: an earlier version .*; delete it and make it again"):
        read_tensors(path)
    assert read_tensors(path, checked=False)[1] == {"state": "{}"}


# ---------------------------------------------------------------- one owner


def test_a_second_owner_is_refused_and_told_who_is_the_first(tmp_path):
    path = tmp_path / "results" / "seed-0"
    with owned(path):
        with pytest.raises(RunError) as caught, owned(path):
            pytest.fail("two owners")
        with owned(tmp_path / "results" / "seed-1"):  # another run
            pass
    said = str(caught.value)
    for part in (str(path), f"process {os.getpid()}", platform.node(), "since 20", "wait for it, or end it"):
        assert part in said
    assert list(path.parent.iterdir()) == []
    with owned(path):  # once it has ended
        pass


def hold(path: Path, begun) -> None:
    with owned(path):
        begun.set()
        signal.pause()


def test_a_killed_owner_is_no_obstacle(tmp_path):
    path = tmp_path / "seed-0"
    context = multiprocessing.get_context("forkserver")
    begun = context.Event()
    process = context.Process(target=hold, args=(path, begun))
    process.start()
    assert begun.wait(60)
    with pytest.raises(RunError, match=rf"process {process.pid} on .* since"), owned(path):
        pytest.fail("two owners")
    process.kill()
    process.join()
    with owned(path):
        assert json.loads((tmp_path / ".seed-0.owner").read_text())["process"] == os.getpid()
    assert list(tmp_path.iterdir()) == []


def test_an_owner_who_has_not_said_its_name(tmp_path):
    with (
        filelock.FileLock(tmp_path / ".x.lock"),
        pytest.raises(RunError, match=r"x is in use \(another process\)"),
        owned(tmp_path / "x"),
    ):
        pytest.fail("two owners")


@pytest.mark.parametrize("error", [errno.EACCES, errno.EROFS, errno.ENOSPC])
def test_a_folder_that_cannot_be_written_to_has_no_owner(tmp_path, monkeypatch, error):
    monkeypatch.setattr(filelock.FileLock, "acquire", refusing(error))
    with (
        pytest.raises(RunError, match=r"cannot be written to \(.*choose another folder"),
        owned(tmp_path / "x"),
    ):
        pytest.fail("it was not written")


def own(path: Path) -> None:
    with owned(path):
        pass


def test_an_owner_killed_at_any_moment_leaves_nothing_that_is_in_the_way(tmp_path):
    path, kill_at = tmp_path / "seed-0", 0
    while killing.operations(own, path, kill_at=kill_at) is None:
        own(path)
        assert list(tmp_path.iterdir()) == []
        kill_at += 1
    assert kill_at >= 2
