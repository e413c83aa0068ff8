"""The page "Use the penalty in your own model": its example is short, complete, and the README's."""

from __future__ import annotations

import json
import re
import shutil
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


def test_the_formula_may_be_copied_by_itself(tmp_path):
    """gaussian.py needs torch and nothing else, as page and reference say."""
    shutil.copy(ROOT / "wwae_lib" / "gaussian.py", tmp_path)
    code = """
import sys
import torch
before = set(sys.modules)
import gaussian
x, y = torch.randn(2, 20, 3).double()
print(gaussian.w2_penalty(x).item() > 0, gaussian.w2(*gaussian.moments(x), *gaussian.moments(y)).item() > 0)
print({name.split(".")[0] for name in set(sys.modules) - before} - sys.stdlib_module_names - {"torch"})
"""
    environment = subprocess_environment(PYTHONPATH=str(tmp_path))
    done = subprocess.run(
        [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{code}"],
        capture_output=True, text=True, env=environment,
    )  # fmt: skip
    assert done.stdout.split("\n")[:2] == ["True True", "{'gaussian'}"], done.stderr
