"""Where is the book's repository, and how does a reader open a notebook of it in Colab?

A Sphinx extension. The address is that of git's remote ``origin`` at the time of building, so that a fork's
buttons lead to the fork. Colab opens what the build published, the notebooks in ``_sources`` of the branch
``gh-pages``: into their set-up cells the build writes the address and its commit, which is therefore the
version that the reader gets. Without a repository on GitHub there are no buttons.
"""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BRANCH = "gh-pages"  # to which .github/workflows/book.yml publishes
GITHUB = re.compile(
    r"(?:https?://(?:[^/@]*@)?|ssh://git@|git@)github\.com[:/]([\w.-]+)/([\w.-]+?)(?:\.git)?/?"
)


def address(root: Path = ROOT) -> str | None:
    """``https://github.com/owner/name`` of the checkout's remote ``origin``, if that is on GitHub."""
    top = _git(root, "rev-parse", "--show-toplevel")
    if top is None or Path(top).resolve() != root.resolve():  # no checkout, or somebody else's around it
        return None
    match = GITHUB.fullmatch(_git(root, "remote", "get-url", "origin") or "")
    return f"https://github.com/{match[1]}/{match[2]}" if match else None


def _git(root: Path, *words: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", root, *words], capture_output=True, text=True)
    except FileNotFoundError:  # git itself
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def stamp(path: Path, repository: str, commit: str) -> None:
    """Write address and commit into the set-up cell of a notebook.

    Raises:
        ValueError: it has no such cell.
    """
    notebook = json.loads(path.read_text(encoding="utf-8"))
    setup = [cell for cell in notebook["cells"] if "setup" in cell["metadata"].get("tags", ())]
    if len(setup) != 1:
        raise ValueError(f"{path} has {len(setup)} cells tagged setup")
    source = "".join(setup[0]["source"])
    for name, value in (("REPOSITORY", repository), ("COMMIT", commit)):
        source, times = re.subn(rf'^(    {name} = )"[^"]*"', rf'\g<1>"{value}"', source, flags=re.MULTILINE)
        if times != 1:
            raise ValueError(f"the set-up cell of {path} assigns {name} {times} times")
    setup[0]["source"] = source.splitlines(keepends=True)
    path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _add_buttons(app, config) -> None:
    if (repository := address()) is None:
        return
    config.html_theme_options |= {
        "repository_url": repository,
        "use_repository_button": True,
        "repository_branch": BRANCH,
        "path_to_docs": "_sources",
    }
    config.html_theme_options["launch_buttons"] |= {"colab_url": "https://colab.research.google.com"}


def _stamp_all(app, exception) -> None:
    if exception is None and app.builder.format == "html" and (repository := address()):
        commit = _git(ROOT, "rev-parse", "HEAD")
        for path in sorted((Path(app.outdir) / "_sources").rglob("*.ipynb")):
            stamp(path, repository, commit)


def setup(app) -> dict:
    app.connect("config-inited", _add_buttons)
    app.connect("build-finished", _stamp_all)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
