"""What does a reader take away? A Sphinx extension: the whole book as one zip, and a bar on every notebook.

``_static/wwae-book.zip`` holds the library, the notebooks and the recorded runs, with the weights that
notebooks load, so that every notebook runs from it without a repository: its set-up cell finds the library in
the folder above. The bar links the page's own notebook and, where there is a repository on GitHub, Colab;
and it says what executing the notebook took when tools/execute_notebooks.py measured it.
"""

from __future__ import annotations

import json
import math
import zipfile
from pathlib import Path

import colab

ROOT = Path(__file__).resolve().parents[1]
NAME = "wwae-book.zip"
KEPT = (
    *("pyproject.toml", "constraints.txt", "README.md", "LICENSE", "CITATION.cff", "_toc.yml"),
    *("wwae_lib/**/*.py", "wwae_lib/py.typed", "tools/setup_cell.py", "tools/install_book.py"),
    *("book/*.ipynb", "book/*.md", "book/*.json", "book/*.bib", "book/results/**/*"),
)
WEIGHED = {  # notebooks that load networks, and of which runs
    "beyond": ("fashion_mnist/wwae/seed-0",),
    "celeba": ("celeba/wwae/seed-0", "celeba/ae/seed-0"),
    "comparison": tuple(
        f"{name}/{kind}/seed-0" for name in ("mnist", "fashion_mnist") for kind in ("wwae", "ae")
    ),
    "fashion_mnist": ("fashion_mnist/wwae/seed-0", "fashion_mnist/ae/seed-0"),
    "mnist": ("mnist/wwae-latent_2/seed-0",),
    "README": ("mnist/wwae/seed-0",),
}
WHEN = (1980, 1, 1, 0, 0, 0)  # the same bytes whenever it is made


def files(root: Path = ROOT) -> list[Path]:
    """What the zip holds: tracked kinds alone, and of the weights those that notebooks load."""
    found = {path for pattern in KEPT for path in root.glob(pattern) if path.is_file()}
    weighed = [root / "book" / "results" / name for names in WEIGHED.values() for name in names]
    return sorted(
        path
        for path in found
        if not any(part.startswith(".") or part == "__pycache__" for part in path.relative_to(root).parts)
        and (path.name != "weights.safetensors" or path.parent in weighed)
    )


def write(target: Path, root: Path = ROOT) -> None:
    with zipfile.ZipFile(target, "w") as archive:
        for path in files(root):
            entry = zipfile.ZipInfo(f"wwae-book/{path.relative_to(root).as_posix()}", WHEN)
            stored = path.suffix in (".png", ".safetensors")  # compressed, or noise
            entry.compress_type = zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED
            archive.writestr(entry, path.read_bytes())


def cost(name: str, root: Path = ROOT) -> str | None:
    """How long a notebook runs and how much memory it needs, as one phrase, if that was measured."""
    record = root / "book" / "results" / "notebooks.json"
    took = json.loads(record.read_text(encoding="utf-8")).get(name) if record.exists() else None
    if took is None:
        return None
    seconds, gigabytes = _up(took["processor_seconds"]), math.ceil(took["peak_bytes"] / 1e8) / 10
    time = f"{seconds} s" if seconds < 100 else f"{math.ceil(seconds / 60)} min"
    return f"runs for {time} on one core, in {gigabytes:.1f} GB of memory"


def _up(x: float) -> int:
    """Rounded up to one digit; below 10 to 10, which the start of Python and torch takes."""
    unit = 10 ** max(math.floor(math.log10(x)), 1)
    return math.ceil(x / unit) * unit


def _bar(app, page: str, template: str, context: dict, doctree) -> None:
    """Put the bar below the title of a notebook's page."""
    if doctree is None or not app.env.doc2path(page, base=False).endswith(".ipynb"):
        return
    source, up = f"_sources/{page}.ipynb", "../" * page.count("/")
    parts = [f'<a download href="{up}{source}">Download this notebook</a>']
    if repository := colab.address():
        owner = repository.removeprefix("https://github.com/")
        address = f"https://colab.research.google.com/github/{owner}/blob/{colab.BRANCH}/{source}"
        parts.append(f'<a href="{address}">Open in Colab</a>')
    parts.append(f'<a href="{up}book/run_it.html">How to run it</a>')
    if said := cost(Path(page).name):
        parts.append(f"<span>{said}</span>")
    bar = f'<p class="notebook-bar">{" ".join(parts)}</p>'
    context["body"] = context["body"].replace("</h1>", f"</h1>\n{bar}", 1)


def _write(app, exception) -> None:
    if exception is None and app.builder.format == "html":
        write(Path(app.outdir) / "_static" / NAME)


def setup(app) -> dict:
    app.connect("html-page-context", _bar)
    app.connect("build-finished", _write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
