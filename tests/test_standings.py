"""The one table of all methods: every number of it is the records', in the page as in the downloads."""

import base64
import csv
import json
import re

import made_up
import pytest

from wwae_lib.book import standings


@pytest.fixture
def runs():
    return [
        *(
            made_up.run("wwae", seed=k, fid=fid, squared_error=12.0)
            for k, fid in enumerate((24.0, 25.0, 26.0))
        ),
        made_up.run("gan", fid=17.5, fid_error=0.2),
    ]


def test_the_table_is_complete_without_scripts(runs):
    html = standings.table(runs, ("fid", "squared_error", "kid"))
    assert "KID" not in html  # no run has it
    ours, theirs = re.findall("<tr data-set.*?</tr>", html)
    assert 'data-value="25"' in ours and 'data-half="2.48' in ours and "25.0" in ours
    assert (
        'data-value="17.5"' in theirs
        and "data-half" not in theirs
        and '<td data-key="squared_error">-' in theirs
    )


def test_downloads_hold_the_same_numbers(runs):
    links = dict(re.findall('download="methods.([a-z]+)" href="data:[^,]+,([^"]+)"', standings.table(runs)))
    lines = list(csv.DictReader(base64.b64decode(links["csv"]).decode().splitlines()))
    (fid,) = [line for line in lines if line["method"] == "DCGAN" and line["metric"] == "fid"]
    assert (fid["mean"], fid["interval 95%"], fid["standard error"], fid["seeds"]) == ("17.5", "", "0.2", "1")
    first = json.loads(base64.b64decode(links["json"]))[0]
    assert first["method"] == "WWAE" and first["fid"]["mean"] == 25.0 and first["seeds"] == 3
    assert first["fid"]["error"] is None
