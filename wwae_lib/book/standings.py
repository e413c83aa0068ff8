"""How do all methods compare, in one table? A row a method and data set, to sort, filter and download.

The table is plain HTML, complete without JavaScript; ``methods.js`` sorts and filters it, and draws the
intervals of the measure that the reader chooses.
"""

from __future__ import annotations

import base64
import csv
import io
import json
import math
from collections.abc import Sequence
from html import escape
from typing import Any

from ..methods import METHODS
from ..runs import Run
from .tables import METRICS, cell, contests

__all__ = ["SHOWN", "as_csv", "rows", "table"]

SHOWN = (
    *("fid", "squared_error", "kid", "precision", "recall", "density", "coverage", "sharpness_gap"),
    *("fid_mixture", "fid_reconstruction", "knn_accuracy", "linear_accuracy", "posterior_w2_squared"),
    *("posterior_variance", "train_minutes"),
)


def rows(runs: Sequence[Run], keys: Sequence[str] = SHOWN) -> list[dict[str, Any]]:
    """Every method of every contest: its seeds and, for each metric, mean, half-width of its interval, seeds.

    The half-width is nan where there are too few seeds; the error is that of measuring the trained models.
    """
    standing = []
    for contest in contests(runs):
        measured = {key: contest.measured(key) for key in keys}
        for name, some in contest.methods.items():
            values = {
                key: {
                    "mean": value.mean,
                    "interval": value.interval,
                    "error": value.error,
                    "seeds": value.seeds,
                }
                for key in keys
                if (value := measured[key].get(name))
            }
            words = {key: cell(measured[key][name], METRICS[key]) for key in values}
            title, _, network = contest.title.partition(", ")
            standing.append(
                {
                    "data_set": title,
                    "network": network or "compact network",
                    "method": METHODS[name].title,
                    "seeds": len(some),
                    "samples": f"{contest.dataset}-{name}" if not network else "",
                    "values": values,
                    "words": words,
                }
            )
    return standing


def as_csv(found: Sequence[dict[str, Any]]) -> str:
    """A line for each method, data set and metric."""
    written = io.StringIO()
    lines = csv.writer(written, lineterminator="\n")
    lines.writerow(
        ["data set", "network", "method", "metric", "mean", "interval 95%", "standard error", "seeds"]
    )
    for row in found:
        for key, one in row["values"].items():
            numbers = [one["mean"], one["interval"], one["error"]]
            written_numbers = ["" if math.isnan(x) else f"{x:.6g}" for x in numbers]
            lines.writerow(
                [row["data_set"], row["network"], row["method"], key, *written_numbers, one["seeds"]]
            )
    return written.getvalue()


def _as_json(found: Sequence[dict[str, Any]]) -> str:
    """The same as JSON, a number that is not known as null."""
    plain = [
        {key: row[key] for key in ("data_set", "network", "method", "seeds")}
        | {
            key: {name: None if isinstance(x, float) and math.isnan(x) else x for name, x in one.items()}
            for key, one in row["values"].items()
        }
        for row in found
    ]
    return json.dumps(plain, indent=1)


def table(runs: Sequence[Run], keys: Sequence[str] = SHOWN) -> str:
    """The table with its downloads, as HTML; a metric that no run has is left out."""
    standing = rows(runs, keys)
    keys = [key for key in keys if any(key in row["values"] for row in standing)]
    heads = "".join(
        f'<th scope="col" data-key="{key}" data-better="{METRICS[key].better}">'
        f"{escape(METRICS[key].label)}</th>"
        for key in keys
    )
    head = (
        '<tr><th scope="col">method</th><th scope="col">data set</th>'
        f'<th scope="col" class="m-number">seeds</th>{heads}</tr>'
    )
    body = "".join(_row(row, keys) for row in standing)
    links = "".join(
        f'<a download="methods.{kind}" href="data:{mime};base64,{base64.b64encode(text.encode()).decode()}">'
        f"{kind.upper()}</a>"
        for kind, mime, text in (
            ("csv", "text/csv", as_csv(standing)),
            ("json", "application/json", _as_json(standing)),
        )
    )
    return (
        '<div class="methods"><div class="m-controls"></div><div class="m-scroll" tabindex="0" role="region" '
        f'aria-label="All methods"><table><thead>{head}</thead><tbody>{body}</tbody></table></div>'
        f'<p class="m-links">Download all of it: {links}</p></div>'
    )


def _row(row: dict[str, Any], keys: Sequence[str]) -> str:
    cells = []
    for key in keys:
        value = row["values"].get(key)
        if not value:
            cells.append(f'<td data-key="{key}">-</td>')
            continue
        half = value["interval"] if not math.isnan(value["interval"]) else math.nan
        more = "" if math.isnan(half) else f' data-half="{half:.6g}"'
        cells.append(
            f'<td data-key="{key}" data-value="{value["mean"]:.6g}"{more} data-seeds="{value["seeds"]}">'
            f"{row['words'][key]}</td>"
        )
    place = row["data_set"] + ("" if row["network"] == "compact network" else f", {row['network']}")
    return (
        f'<tr data-set="{escape(place)}" data-seeds="{row["seeds"]}" data-samples="{row["samples"]}">'
        f'<th scope="row">{escape(row["method"])}</th><td>{escape(place)}</td>'
        f'<td class="m-number">{row["seeds"]}</td>{"".join(cells)}</tr>'
    )
