# Where the book's library is missing, as in Colab, this fetches and installs it.
import importlib.util

if importlib.util.find_spec("wwae_lib") is None:
    import runpy
    import subprocess
    from pathlib import Path

    REPOSITORY = ""  # the build of the book writes its address
    COMMIT = ""  # and version here
    home = Path("..").resolve()  # in the book's folder, the library is beside it
    if not (home / "wwae_lib").is_dir():
        if not REPOSITORY:
            raise RuntimeError("open the site's copy, or fill in REPOSITORY and COMMIT")
        home = Path("wwae-book").resolve()
        if not home.is_dir():
            clone = ["git", "clone", "--quiet", "--filter=blob:none", "--no-checkout"]
            subprocess.run([*clone, REPOSITORY, home], check=True)
        subprocess.run(["git", "-C", home, "checkout", "--quiet", COMMIT], check=True)
    runpy.run_path(str(home / "tools" / "install_book.py"))
