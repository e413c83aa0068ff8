# Where the book's library is missing, as in Colab, this fetches the book and installs what else is missing.
# What is there stays as it is, torch above all. Elsewhere it does nothing.
import importlib.util

if importlib.util.find_spec("wwae_lib") is None:
    import subprocess
    import sys
    from importlib.metadata import distributions
    from pathlib import Path

    REPOSITORY = ""  # the build of the book writes its address
    COMMIT = ""  # and version here

    def run(*command):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{' '.join(map(str, command))}:\n{done.stdout}{done.stderr}")

    home = Path("..").resolve()  # a notebook opened in the book's folder finds the library beside it
    if not (home / "wwae_lib").is_dir():
        if not REPOSITORY:
            raise RuntimeError("open this notebook from the published book, or fill in REPOSITORY and COMMIT")
        home = Path("wwae-book").resolve()
        if not home.is_dir():
            run("git", "clone", "--quiet", "--filter=blob:none", "--no-checkout", REPOSITORY, home)
        run("git", "-C", home, "checkout", "--quiet", COMMIT)
    kept = [d for d in distributions() if d.name in ("torch", "torchvision", "numpy")]
    kept = [f"{d.name}=={d.version}" for d in kept]
    run(sys.executable, "-m", "pip", "install", "--quiet", "--editable", f"{home}[book]", *kept)
    sys.path.insert(0, str(home))

    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none; Runtime > Change runtime type"
    print(f"book fetched to {home}, torch {torch.__version__} kept, GPU: {gpu}")
