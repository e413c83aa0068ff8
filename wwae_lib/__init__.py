"""Wasserstein-Wasserstein auto-encoders: model, loss and training code of the reproduction book."""

__version__ = "0.1.0"
