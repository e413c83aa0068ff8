"""What pytest needs for the notebooks: pictures are compared, and they read the book's own records."""

import os

import compare_pictures

compare_pictures.install()
os.environ.pop("WWAE_RESULTS", None)  # the user's own results folder: the kernels inherit this
