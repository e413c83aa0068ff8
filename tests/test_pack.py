"""What travels to a machine without a network comes out there as it was, and damage is noticed."""

from __future__ import annotations

import csv
import gzip
import io
import subprocess
import tarfile
import zipfile

import numpy as np
import pack
import pytest
from PIL import Image

from wwae_lib import data


def face(rng: np.random.Generator) -> bytes:
    """A JPEG, with tables of its own."""
    pixels = np.kron(rng.integers(0, 256, (8, 8, 3), np.uint8), np.ones((8, 8, 1), np.uint8))
    Image.fromarray(pixels).save(file := io.BytesIO(), "JPEG", quality=95, subsampling=0, optimize=True)
    return file.getvalue()


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A data folder, zips of faces and a network, all made up; the code is another test's."""
    monkeypatch.setattr(pack, "code", lambda path, wheels: "commit")
    use(tmp_path / "home", monkeypatch)
    rng = np.random.default_rng(0)
    contents = {pack.NETWORK: rng.normal(size=999).astype("f4").tobytes() + b"odd"}
    for file in data.IDX_FILES["mnist"]:
        contents[f"MNIST/raw/{file}.gz"] = gzip.compress(rng.bytes(1000))
    faces = {f"{number:06}.jpg": face(rng) for number in rng.permutation(30)}
    with (
        zipfile.ZipFile(tmp_path / "some.zip", "w") as one,
        zipfile.ZipFile(tmp_path / "more.zip", "w") as two,
    ):
        for number, (name, content) in enumerate(faces.items()):
            (one if number % 2 else two).writestr(name, content)
    pixels = [np.asarray(Image.open(io.BytesIO(faces[name]))) for name in sorted(faces)]
    np.save(array := io.BytesIO(), np.stack(pixels))
    index = io.StringIO()
    csv.writer(index).writerows([("image", "identity"), *((name, 1) for name in sorted(faces))])
    contents |= dict(zip(pack.CELEBA, (index.getvalue().encode(), array.getvalue()), strict=True))
    for file, content in contents.items():
        path = pack.folder_of(file) / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return contents


def use(folder, monkeypatch) -> None:
    monkeypatch.setenv("WWAE_DATA", str(folder / "data"))
    monkeypatch.setenv("TORCH_HOME", str(folder / "torch"))


def test_what_is_unpacked_is_what_was_packed(home, tmp_path, monkeypatch, capsys):
    pack.pack(tmp_path / "out", ["mnist", "celeba", "inception"], tmp_path, [], 0.008)
    pieces = sorted((tmp_path / "out").glob("piece-*"))
    assert len(pieces) > 2 and all(piece.stat().st_size <= 8_000 for piece in pieces)
    use(tmp_path / "there", monkeypatch)
    last = pieces[-1].rename(tmp_path / "on its way")
    assert pack.unpack(tmp_path / "out") == [pack.NETWORK]
    last.rename(pieces[-1])
    assert pack.unpack(tmp_path / "out") == []
    for file, content in home.items():
        path = pack.folder_of(file) / file
        assert path.read_bytes() == content, file
        if path.suffix == ".gz":
            assert path.with_suffix("").read_bytes() == gzip.decompress(content)
    capsys.readouterr()
    assert pack.unpack(tmp_path / "out") == [] and "unpacked /" not in capsys.readouterr().out  # safe again


def test_a_damaged_piece_is_noticed(home, tmp_path, monkeypatch):
    pack.pack(tmp_path / "out", ["mnist"], None, [], 60)
    piece = tmp_path / "out" / "piece-00"
    piece.write_bytes(piece.read_bytes()[:-1] + b"x")
    use(tmp_path / "there", monkeypatch)
    with pytest.raises(data.DataError, match=r"piece-00 is not what was packed"):
        pack.unpack(tmp_path / "out")
    assert not (tmp_path / "there").exists()


def test_faces_that_are_not_the_arrays_are_noticed(home, tmp_path):
    path = pack.folder_of(pack.CELEBA[1]) / pack.CELEBA[1]
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(data.DataError, match="are not those that"):
        pack.pack(tmp_path / "out", ["celeba"], tmp_path, [], 60)
    (tmp_path / "some.zip").unlink()
    with pytest.raises(data.DataError, match="15 images are missing"):
        pack.pack(tmp_path / "out", ["celeba"], tmp_path, [], 60)


def test_the_code_is_that_of_a_commit(tmp_path, monkeypatch):
    def git(*words):
        return subprocess.run(
            ["git", "-C", tmp_path, *words], check=True, capture_output=True, text=True
        ).stdout

    for folder in pack.CODE[:2]:
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "module.py").write_text("")
    for file in pack.CODE[2:]:
        (tmp_path / file).write_text("")
    git("init", "-q")
    git("add", ".")
    git("-c", "user.name=A", "-c", "user.email=a@b.example", "commit", "-q", "-m", "one")
    monkeypatch.setattr(pack, "ROOT", tmp_path)
    with zipfile.ZipFile(tmp_path / "made.whl", "w") as wheel:
        wheel.writestr("made/__init__.py", "1")
    commit = pack.code(tmp_path / "tree.tar.gz", [tmp_path / "made.whl"])
    assert commit == git("rev-parse", "HEAD").strip()
    with tarfile.open(tmp_path / "tree.tar.gz") as tar:
        assert tar.extractfile("WWAE_COMMIT").read().decode() == commit
        names = set(tar.getnames())
    assert {"wwae_lib/module.py", "tools/module.py", "pytorch_fid/inception.py", "made/__init__.py"} <= names
    (tmp_path / "tools" / "module.py").write_text("changed")
    with pytest.raises(data.DataError, match="commit first"):
        pack.code(tmp_path / "tree.tar.gz", [])
