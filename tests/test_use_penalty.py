"""The page "Use the penalty in your own model": its example is short, complete, and the README's."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

from conftest import subprocess_environment

ROOT = Path(__file__).resolve().parents[1]


def example() -> str:
    cells = json.loads((ROOT / "book" / "use_penalty.ipynb").read_text(encoding="utf-8"))["cells"]
    (found,) = ["".join(c["source"]) for c in cells if "example" in c["metadata"].get("tags", ())]
    return found


def test_the_example_is_short_and_the_readme_has_the_same():
    assert len(example().splitlines()) < 15
    assert "w2_penalty(codes)" in example().splitlines()[9]  # "the tenth line", says the page
    shown = re.findall(r"```python\n(.*?)\n```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert example() in shown


def test_the_example_runs_by_itself_and_its_samples_have_the_law_of_the_data(tmp_path):
    script = tmp_path / "own_model.py"
    script.write_text(
        f"{example()}\n"
        "from wwae_lib.gaussian import moments, w2_squared\n"
        "apart = w2_squared(*moments(samples.detach()), *moments(data)).item()\n"
        "assert apart < 0.01 * data.var(0).sum().item(), apart\n"
    )
    command = [sys.executable, "-W", "error", script]
    done = subprocess.run(command, env=subprocess_environment(), cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_formula_may_be_copied_by_itself():
    """gaussian.py needs torch and nothing else, as page and reference say."""
    tree = ast.parse((ROOT / "wwae_lib" / "gaussian.py").read_text(encoding="utf-8"))
    imported = {
        name.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in (
            [node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
        )
    }
    assert imported - set(sys.stdlib_module_names) == {"torch"}
