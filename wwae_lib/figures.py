"""How does it look? One matplotlib style, and figures drawn from recorded runs alone."""

from __future__ import annotations

import matplotlib as mpl

__all__ = ["COLOURS", "use_style"]

# Okabe & Ito's palette (2008): told apart with every common colour-vision deficiency.
COLOURS = {
    "blue": "#0072B2",
    "orange": "#D55E00",
    "green": "#009E73",
    "purple": "#CC79A7",
    "sky": "#56B4E9",
    "yellow": "#E69F00",
    "grey": "#6E6E6E",
}


def use_style() -> None:
    """Set matplotlib's defaults for the book: quiet axes, type that stays legible on a phone."""
    mpl.rcParams.update(
        {
            "axes.axisbelow": True,
            "axes.grid": True,
            "axes.prop_cycle": mpl.cycler(color=list(COLOURS.values())),
            "axes.spines.right": False,
            "axes.spines.top": False,
            "axes.titlelocation": "left",
            "axes.titlesize": "medium",
            "figure.constrained_layout.use": True,
            "figure.dpi": 110,
            "figure.figsize": (7.2, 3.6),
            "font.size": 11,
            "grid.alpha": 0.25,
            "legend.frameon": False,
            "lines.linewidth": 1.8,
            "savefig.facecolor": "white",
        }
    )
