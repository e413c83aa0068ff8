"""Data and code for a machine without a network, in pieces small enough to be sent one after another.

    python tools/pack.py pack FOLDER --data mnist fashion_mnist inception
    python tools/pack.py pack FOLDER --data celeba inception --jpegs FOLDER_OF_ZIPS --wheels pot*.whl
    python tools/pack.py unpack FOLDER          there, whenever a piece has come; safe to run again

``FOLDER/tree.tar.gz`` is the code: library and tools as the last commit has them, whose name is written in
it, pytorch-fid's module of the Inception network, and what the given wheels hold. ``FOLDER/piece-00`` and so
on are the data in the order named, --piece MB each; an item that ends in a later piece waits for it. What is
unpacked is what was packed, by SHA-256:

* MNIST and Fashion-MNIST are the official .gz files;
* CelebA is the JPEGs of 64 x 64 that its array was decoded from, in zips, under the names that
  ``celeba_64.csv`` lists; their headers, much alike, are compressed together;
* the Inception network is compressed by byte planes: its exponents give way, its other bits do not.

WWAE_DATA names the data folder and TORCH_HOME that of torch.hub's cache, here and there.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import hashlib
import importlib.util
import io
import itertools
import json
import lzma
import subprocess
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

from wwae_lib import data, runs

ROOT = Path(__file__).resolve().parents[1]
CODE = ("wwae_lib", "tools", "pyproject.toml", "LICENSE")
NETWORK = "checkpoints/pt_inception-2015-12-05-6726825d.pth"
CELEBA = ("celeba/celeba_64.csv", "celeba/celeba_64.npy")


# ---------------------------------------------------------------- how a file's content is packed


def join(parts: Sequence[bytes]) -> bytes:
    """Byte strings after one another, before them their number and lengths."""
    return b"".join([np.array([len(parts), *map(len, parts)], "<u4").tobytes(), *parts])


def split(joined: bytes) -> list[bytes]:
    """What :func:`join` was given."""
    count = int(np.frombuffer(joined, "<u4", 1)[0])
    ends = (4 + 4 * count + np.frombuffer(joined, "<u4", count, 4).cumsum(dtype=np.int64)).tolist()
    return [joined[start:end] for start, end in zip([4 + 4 * count, *ends], ends, strict=False)]


def planes(content: bytes) -> bytes:
    """Every fourth byte compressed with its like, as suits float32 numbers."""
    padded = np.frombuffer(content + bytes(-len(content) % 4), np.uint8).reshape(-1, 4)
    return join([str(len(content)).encode(), *(zlib.compress(plane.tobytes(), 9) for plane in padded.T)])


def from_planes(packed: bytes) -> bytes:
    size, *parts = split(packed)
    columns = [np.frombuffer(zlib.decompress(part), np.uint8) for part in parts]
    return np.stack(columns, 1).tobytes()[: int(size)]


def jpegs(blobs: Iterable[bytes]) -> bytes:
    """JPEGs, with all that comes before the code of their pixels compressed together."""
    heads, bodies = [], []
    for blob in blobs:
        cut = blob.index(b"\xff\xda") + 14  # past the header of a scan of three colours
        heads.append(blob[:cut])
        bodies.append(blob[cut:])
    return join([lzma.compress(join(heads)), join(bodies)])


def from_jpegs(packed: bytes) -> bytes:
    """The file of the array of their pixels, uint8 ``(n, H, W, 3)``."""
    from PIL import Image

    heads, bodies = split(packed)
    blobs = map(bytes.__add__, split(lzma.decompress(heads)), split(bodies))
    with ThreadPoolExecutor() as pool:  # Pillow decodes outside the interpreter's lock
        pixels = list(pool.map(lambda blob: np.asarray(Image.open(io.BytesIO(blob)).convert("RGB")), blobs))
    np.save(file := io.BytesIO(), np.stack(pixels))
    return file.getvalue()


UNPACK = {CELEBA[1]: from_jpegs, NETWORK: from_planes}  # all else is what zlib compressed


def folder_of(file: str) -> Path:
    return Path(torch.hub.get_dir()) if file == NETWORK else data.data_root()


# ---------------------------------------------------------------- pack


def items(name: str, zips: Path | None) -> Iterator[tuple[str, bytes]]:
    """Files of a data set, or the network, and how their content is packed."""
    if name in data.IDX_FILES:
        folder = f"{data.TORCHVISION_NAME[name]}/raw"
        for file in (f"{folder}/{file}.gz" for file in data.IDX_FILES[name]):
            yield file, zlib.compress(_read(file))
    elif name == "celeba":
        if zips is None:
            raise data.DataError(
                "celeba needs --jpegs, the folder of the zips that its array was decoded from"
            )
        index = _read(CELEBA[0])
        names = [row["image"] for row in csv.DictReader(index.decode().splitlines())]
        opened = [zipfile.ZipFile(path) for path in sorted(zips.glob("*.zip"))]
        where = {name: file for file in opened for name in file.namelist()}
        if missing := [name for name in names if name not in where]:
            raise data.DataError(f"no zip in {zips} holds {missing[0]}; {len(missing)} images are missing")
        packed = jpegs(where[name].read(name) for name in names)
        array = data.data_root() / CELEBA[1]
        if not np.array_equal(np.load(io.BytesIO(from_jpegs(packed))), np.load(array, mmap_mode="r")):
            raise data.DataError(f"the JPEGs in {zips} are not those that {array} was decoded from")
        yield CELEBA[0], zlib.compress(index)
        yield CELEBA[1], packed
    else:
        yield NETWORK, planes(_read(NETWORK))


def _read(file: str) -> bytes:
    if not (path := folder_of(file) / file).exists():
        raise data.DataError(f"{path} is not there; WWAE_DATA and TORCH_HOME name the folders to pack from")
    return path.read_bytes()


def pack(
    out: Path, names: Sequence[str], zips: Path | None, wheels: Sequence[Path], megabytes: float
) -> None:
    out.mkdir(parents=True, exist_ok=True)
    about: dict = {"commit": code(out / "tree.tar.gz", wheels), "pieces": [], "items": []}
    stream = bytearray()
    for file, packed in itertools.chain(*(items(name, zips) for name in names)):
        content = unpacked(file, packed)
        about["items"].append({"file": file, "size": len(packed), "sha256": sha256(content)})
        stream += packed
        print(f"{file}: {len(content) / 1e6:.1f} MB packed in {len(packed) / 1e6:.1f}", flush=True)
    for old in out.glob("piece-*"):
        old.unlink()
    for start in range(0, len(stream), size := int(megabytes * 1e6)):
        piece = bytes(stream[start : start + size])
        (out / f"piece-{len(about['pieces']):02}").write_bytes(piece)
        about["pieces"].append(sha256(piece))
    (out / "manifest.json").write_text(json.dumps(about, indent=1))
    for path in sorted(out.iterdir()):
        print(f"{path.stat().st_size / 1e6:6.1f} MB  {path.name}")


def code(path: Path, wheels: Sequence[Path]) -> str:
    """Write the code that travels, as the last commit has it; the commit, which the records will name.

    Raises:
        DataError: something in it differs from the last commit.
    """
    if changed := git("status", "--porcelain", "--untracked-files=no", "--", *CODE).decode():
        raise data.DataError(f"commit first, for the records name a commit and this is in none:\n{changed}")
    commit = git("rev-parse", "HEAD").decode().strip()
    more = {"WWAE_COMMIT": commit.encode()}
    package = Path(importlib.util.find_spec("pytorch_fid").origin).parent
    more |= {f"pytorch_fid/{name}": (package / name).read_bytes() for name in ("__init__.py", "inception.py")}
    for wheel in map(zipfile.ZipFile, wheels):
        more |= {name: wheel.read(name) for name in wheel.namelist() if not name.endswith("/")}
    with (
        tarfile.open(path, "w:gz") as tar,
        tarfile.open(fileobj=io.BytesIO(git("archive", "HEAD", *CODE))) as own,
    ):
        for member in own:
            tar.addfile(member, own.extractfile(member) if member.isfile() else None)
        for name, content in more.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o644
            tar.addfile(member, io.BytesIO(content))
    return commit


def git(*words: str) -> bytes:
    return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, check=True).stdout


# ---------------------------------------------------------------- unpack


def unpack(folder: Path) -> list[str]:
    """Write each item whose pieces have come; say and return what is still to come."""
    about, stream = json.loads((folder / "manifest.json").read_text()), bytearray()
    for number, expected in enumerate(about["pieces"]):
        if not (path := folder / f"piece-{number:02}").exists():
            break
        stream += (piece := path.read_bytes())
        if sha256(piece) != expected:
            raise data.DataError(f"{path} is not what was packed; send it again")
    start, missing = 0, []
    for item in about["items"]:
        packed, start = bytes(stream[start : start + item["size"]]), start + item["size"]
        if start > len(stream):
            missing.append(item["file"])
        elif not (path := folder_of(item["file"]) / item["file"]).exists():
            content = unpacked(item["file"], packed)
            if sha256(content) != item["sha256"]:
                raise data.DataError(f"{path} came out other than it was packed")
            if path.suffix == ".gz":
                _write(path.with_suffix(""), gzip.decompress(content))
            _write(path, content)
    print("still to come: " + ", ".join(missing) if missing else "all is unpacked")
    return missing


def _write(path: Path, content: bytes) -> None:
    with runs.write_atomically(path) as part:
        part.write_bytes(content)
    print(f"unpacked {path}", flush=True)


def unpacked(file: str, packed: bytes) -> bytes:
    return UNPACK.get(file, zlib.decompress)(packed)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("pack", "unpack"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", nargs="*", default=[], choices=(*data.DATASETS, "inception"))
    parser.add_argument("--jpegs", type=Path, help="folder of the zips that CelebA's array was decoded from")
    parser.add_argument("--wheels", nargs="*", type=Path, default=[], help="packages that the machine lacks")
    parser.add_argument("--piece", type=float, default=60, help="MB of a piece (default: %(default)s)")
    arguments = parser.parse_args()
    try:
        if arguments.what == "pack":
            pack(arguments.folder, arguments.data, arguments.jpegs, arguments.wheels, arguments.piece)
        else:
            unpack(arguments.folder)
    except (data.DataError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
