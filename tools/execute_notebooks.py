"""Execute the book's notebooks in place and keep only what a reader needs of the result.

    python tools/execute_notebooks.py [NOTEBOOK ...]      (default: every notebook of book/)

A notebook is replaced only when every cell ran; timings and machine details are dropped, so
that running it twice leaves the same file.
"""

import sys
import tempfile
from pathlib import Path

import nbformat
import papermill

BOOK = Path(__file__).resolve().parents[1] / "book"


def execute(path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        executed = Path(folder) / path.name
        papermill.execute_notebook(path, executed, cwd=path.parent, kernel_name="python3", progress_bar=False)
        notebook = nbformat.read(executed, as_version=4)
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"
        tags, alt = cell.metadata.get("tags", []), alternative_text(cell)
        cell.metadata = {"tags": tags} if tags else {}
        if alt:
            cell.metadata["mystnb"] = {"image": {"alt": alt}}
    aside = path.with_suffix(".part.ipynb")
    nbformat.write(notebook, aside)
    aside.replace(path)


def alternative_text(cell: nbformat.NotebookNode) -> str:
    """The text that figures.show gave the cell's figure; the book's builder looks for it in the cell."""
    shown = [of for output in cell.get("outputs", []) for of in output.get("metadata", {}).values()]
    return " ".join(of["alt"] for of in shown if "alt" in of)


if __name__ == "__main__":
    for path in map(Path, sys.argv[1:]) if sys.argv[1:] else sorted(BOOK.glob("*.ipynb")):
        print("executing", path, flush=True)
        execute(path)
