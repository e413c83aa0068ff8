"""Execute the book's notebooks and keep only what a reader needs of the result.

    python tools/execute_notebooks.py [NOTEBOOK ...] [-p NAME VALUE ...]    (default: every notebook of book/)

With the parameters that a notebook states itself it is replaced, once every cell ran. With others the result
goes to _build/reproduced and the book stays as it is; a name that no notebook has is an error. Nothing of
the machine or the time of day is kept, and cells tagged nbval-ignore-output, which measure times, keep
the outputs that they had while their code is unchanged: executing twice leaves the same bytes. --measure
replaces them too, and records what time and memory each notebook took, for the bar below its title. Each
notebook's set-up cell is made that of tools/setup_cell.py on the way; --cells does only that.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import sys
import tempfile
from pathlib import Path

import nbformat
import papermill
from jupyter_client.kernelspec import NoSuchKernel
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parents[1]
SETUP = (ROOT / "tools" / "setup_cell.py").read_text(encoding="utf-8").rstrip("\n")
PROFILES = ("quick", "full")  # of the book's notebooks
COSTS = Path("results") / "notebooks.json"  # beside the notebooks: what executing each of them took
# On Linux getrusage begins with the peak of the process that started this one, and /proc does not.
ASK = """\
import json, pathlib, re, resource, sys, time
status = pathlib.Path("/proc/self/status")
if status.exists():
    peak = 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", status.read_text())[1])
else:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
print(json.dumps({"processor_seconds": round(time.process_time(), 1), "peak_bytes": peak}))"""
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def tagged(notebook: NotebookNode, tag: str) -> NotebookNode | None:
    """The first cell with a tag."""
    return next((cell for cell in notebook.cells if tag in cell.metadata.get("tags", ())), None)


def parameters(notebook: NotebookNode, path: Path) -> dict[str, object]:
    """What the cell tagged ``parameters`` assigns, in the notebook from a file.

    Raises:
        ValueError: it holds anything but literals given to names.
    """
    values, cell = {}, tagged(notebook, "parameters")
    try:
        lines = ast.parse(cell.source).body if cell else ()
    except SyntaxError as error:
        raise ValueError(f"{path}: the cell of its parameters is no Python ({error}); correct it") from error
    for line in lines:
        try:
            (target,) = line.targets
            values[target.id] = ast.literal_eval(line.value)
        except (AttributeError, ValueError) as error:
            raise ValueError(
                f"{path}: not a literal given to a name, as parameters must be: {ast.unparse(line)}"
            ) from error
    return values


def changed(stated: dict[str, object], given: dict[str, str]) -> dict[str, object]:
    """The given parameters that a notebook has and that differ from its own.

    Raises:
        ValueError: one is of another type, or out of range.
    """
    values = {}
    for name in given.keys() & stated.keys():
        value = given[name] if isinstance(stated[name], str) else _literal(given[name])
        if isinstance(stated[name], float) and type(value) is int:
            value = float(value)
        if type(value) is not type(stated[name]):
            kind = {int: "a whole number", float: "a number", bool: "True or False", str: "text"}
            wanted = kind.get(type(stated[name]), f"like {stated[name]!r}")
            raise ValueError(f"{name} is {given[name]!r}; it must be {wanted}")
        if name == "PROFILE" and value not in PROFILES:
            raise ValueError(f"PROFILE is {value!r}; it must be {' or '.join(PROFILES)}")
        if name == "SEED" and not 0 <= value < 2**32:  # what every generator takes
            raise ValueError(f"SEED is {value}; it must be from 0 to {2**32 - 1}")
        if value != stated[name]:
            values[name] = value
    return values


def _literal(text: str) -> object:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def with_setup(notebook: NotebookNode) -> NotebookNode:
    """The notebook with the current set-up cell, before its first code cell where it had none."""
    cell = tagged(notebook, "setup")
    if cell is None:
        cell = nbformat.v4.new_code_cell(metadata={"tags": ["setup", "remove-cell"]})
        first = next((i for i, cell in enumerate(notebook.cells) if cell.cell_type == "code"), 0)
        notebook.cells.insert(first, cell)
    cell.source = SETUP
    return notebook


def clean(notebook: NotebookNode) -> NotebookNode:
    """The notebook without what differs from one execution, or machine, to the next."""
    notebook.metadata = NotebookNode(METADATA)
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"
        tags, alt = cell.metadata.get("tags", []), alternative_text(cell)
        cell.metadata = {"tags": tags} if tags else {}
        if alt:
            cell.metadata["mystnb"] = {"image": {"alt": alt}}
        if cell.cell_type == "code":
            cell.outputs = joined(cell.outputs)
    return notebook


def alternative_text(cell: NotebookNode) -> str:
    """The text that figures.show gave the cell's figure; the book's builder looks for it in the cell."""
    shown = [of for output in cell.get("outputs", []) for of in output.get("metadata", {}).values()]
    return " ".join(of["alt"] for of in shown if "alt" in of)


def joined(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """Outputs with neighbouring pieces of one stream made one: where it is cut is chance."""
    whole: list[NotebookNode] = []
    for output in outputs:
        if whole and output.output_type == "stream" and output.name == whole[-1].get("name"):
            whole[-1].text += output.text
        else:
            whole.append(output)
    return whole


def keep_measured(notebook: NotebookNode, before: NotebookNode) -> None:
    """Give cells tagged nbval-ignore-output the outputs that the same code had before."""
    had = {cell.source: cell.outputs for cell in before.cells if _measures(cell) and cell.outputs}
    for cell in notebook.cells:
        if _measures(cell):
            cell.outputs = had.get(cell.source, cell.outputs)


def _measures(cell: NotebookNode) -> bool:
    return "nbval-ignore-output" in cell.metadata.get("tags", ())


def notebook_path(path: Path, book: list[Path]) -> Path:
    """A notebook by its path, or by the name that it has in the book.

    Raises:
        ValueError: there is none.
    """
    if path.is_file():
        return path
    named = [notebook for notebook in book if notebook.stem == path.stem]
    if not named or path.parent != Path():
        raise ValueError(
            f"there is no notebook {path}; the book has {', '.join(notebook.stem for notebook in book)}"
        )
    return named[0]


def read(path: Path) -> NotebookNode:
    """A notebook from its file.

    Raises:
        ValueError: the file cannot be read, or holds no notebook.
    """
    try:
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
    except (OSError, ValueError, AttributeError, KeyError, TypeError, nbformat.ValidationError) as error:
        raise ValueError(f"{path} is no notebook ({_line(error)}); name one that ends in .ipynb") from error
    return notebook


def _line(error: BaseException) -> str:
    """What kind of error it is, and the first line of what it says."""
    said = str(error).strip().splitlines()
    return f"{type(error).__name__}: {said[0]}" if said else type(error).__name__


def check_writable(folder: Path) -> None:
    """Before hours are spent on what goes there.

    Raises:
        ValueError: nothing can be written there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ValueError(f"{folder} cannot be written to ({error}); name another folder with --to") from error


def execute(path: Path, target: Path, values: dict[str, object], measure: bool) -> None:
    """Execute a notebook in its own folder, with some parameters replaced, and write it to ``target``."""
    before = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        given, executed = Path(folder) / "given.ipynb", Path(folder) / path.name
        asking = with_setup(nbformat.read(path, as_version=4))
        asking.cells.append(nbformat.v4.new_code_cell(ASK))
        nbformat.write(clean(asking), given)
        options = {"cwd": path.parent, "kernel_name": "python3", "progress_bar": False}
        papermill.execute_notebook(given, executed, values, **options)
        notebook = clean(nbformat.read(executed, as_version=4))
    took = json.loads(notebook.cells.pop().outputs[0].text)
    if measure and not values:
        record_cost(path, took)
    elif not values:
        keep_measured(notebook, before)
    write(notebook, target)


def record_cost(path: Path, took: dict[str, float]) -> None:
    """Enter what executing a notebook took: seconds of its process on the processor, and bytes of memory."""
    record = path.parent / COSTS
    known = json.loads(record.read_text(encoding="utf-8")) if record.exists() else {}
    known[path.stem] = took
    record.parent.mkdir(exist_ok=True)
    record.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def write(notebook: NotebookNode, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_suffix(".part.ipynb")
    nbformat.write(notebook, aside)
    aside.replace(target)


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("notebooks", nargs="*", type=Path, metavar="NOTEBOOK")
    parser.add_argument("-p", "--parameter", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"))
    parser.add_argument("--to", type=Path, default=ROOT / "_build" / "reproduced", metavar="FOLDER")
    parser.add_argument("--measure", action="store_true", help="replace measured times too; record the cost")
    parser.add_argument("--cells", action="store_true", help="execute nothing, renew the set-up cells")
    arguments = parser.parse_args(words)
    os.environ.pop("WWAE_RESULTS", None)  # the book's notebooks read the book's records
    given = dict(arguments.parameter)
    names = [name for name, _ in arguments.parameter]
    book = sorted((ROOT / "book").glob("*.ipynb"))
    try:
        paths = [notebook_path(path, book) for path in arguments.notebooks] or book
        notebooks = {path: read(path) for path in paths}
        stated = {path: parameters(notebook, path) for path, notebook in notebooks.items()}
        known = sorted({name for names in stated.values() for name in names})
        if unknown := sorted(given.keys() - set(known)):
            raise ValueError(f"no parameter {', '.join(unknown)}; known: {', '.join(known) or 'none'}")
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"{', '.join(twice)} is given more than once; once is enough")
        values = {path: changed(stated[path], given) for path in paths}
        for path in () if arguments.cells else paths:
            check_writable(arguments.to if values[path] else path.parent)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for path in paths:
        target = arguments.to / path.name if values[path] else path
        if arguments.cells:
            write(with_setup(notebooks[path]), path)
        elif values[path] or not any(values.values()):
            words = "".join(f" {name}={value!r}" for name, value in values[path].items())
            print(f"executing {path}{words and f' with{words}, to {target}'}", flush=True)
            try:
                execute(path, target, values[path], arguments.measure)
            except papermill.PapermillExecutionError as error:
                failed = f"cell {error.exec_count}: {error.ename}: {error.evalue}"
            except KeyboardInterrupt:
                failed = "interrupted"
            except NoSuchKernel as error:
                failed = f"{error}; install one with: python -m ipykernel install --sys-prefix"
            except (OSError, RuntimeError) as error:
                failed = _line(error)  # the kernel died, say, or the disk is full
            else:
                continue
            print(f"error: {path}, {failed}; {target} is as it was", file=sys.stderr)
            return 1
        else:
            print(f"{path} has none of these parameters: left as it is")
    return 0


if __name__ == "__main__":
    sys.exit(main())
