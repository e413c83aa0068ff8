"""Install the library of this checkout, and what the book needs, for the Python process that runs this file.

A notebook's set-up cell (tools/setup_cell.py) runs it where the library is missing, as in Colab. What is
installed stays as it is, torch above all.

    python tools/install_book.py
"""

import argparse
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

if __name__ == "__main__":  # a notebook runs it under another name, and has arguments of its own
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()

kept = [f"{d.name}=={d.version}" for d in distributions() if d.name in ("torch", "torchvision", "numpy")]
command = [sys.executable, "-m", "pip", "install", "--quiet", "--editable", f"{ROOT}[book]", *kept]
done = subprocess.run(command, capture_output=True, text=True)
if done.returncode:
    raise RuntimeError(f"{' '.join(command)}:\n{done.stdout}{done.stderr}")
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402

gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none; Runtime > Change runtime type"
print(f"book installed from {ROOT}, torch {torch.__version__} kept, GPU: {gpu}")
