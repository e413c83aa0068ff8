"""The workflows: what they call exists, and what they use is pinned and may do little."""

from __future__ import annotations

import re
from pathlib import Path

import colab
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


@pytest.fixture(params=WORKFLOWS, ids=lambda path: path.stem)
def workflow(request) -> dict:
    return yaml.load(request.param.read_text(), yaml.BaseLoader)  # which reads "on" as a word


def steps(workflow: dict) -> list[dict]:
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


def test_there_are_two():
    assert [path.stem for path in WORKFLOWS] == ["book", "colab"]


def test_every_make_target_is_in_the_makefile(workflow):
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    called = {name for step in steps(workflow) for name in re.findall(r"\bmake (\w+)", step.get("run", ""))}
    assert called <= targets


def test_the_book_is_tested_and_built_by_the_commands_of_the_readme():
    workflow = yaml.load((ROOT / ".github" / "workflows" / "book.yml").read_text(), yaml.BaseLoader)
    called = [
        step["run"].split("#")[0].strip() for step in workflow["jobs"]["test"]["steps"] if "run" in step
    ]
    assert {"make pdf", "make test"} <= set(called)  # make pdf makes the book
    assert re.search(r"^pdf: book$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert workflow["jobs"]["publish"]["needs"] == "test"
    assert "refs/heads/main" in workflow["jobs"]["publish"]["if"]


def test_actions_are_pinned_to_commits(workflow):
    for step in steps(workflow):
        if "uses" in step:
            assert re.fullmatch(r"actions/[\w-]+@[0-9a-f]{40}", step["uses"])


def test_permissions_are_the_least(workflow):
    assert workflow["permissions"] == {"contents": "read"}
    writers = {name for name, job in workflow["jobs"].items() if "permissions" in job}
    assert writers <= {"publish"}


def test_no_two_of_a_kind_run_at_once_and_none_for_ever(workflow):
    assert "group" in workflow["concurrency"]
    assert all(int(job["timeout-minutes"]) <= 120 for job in workflow["jobs"].values())


def test_colab_runs_what_its_buttons_open():
    text = (ROOT / ".github" / "workflows" / "colab.yml").read_text()
    assert f"ref: {colab.BRANCH} " in text and "_sources/book" in text
    assert f" {colab.BRANCH}\n" in (ROOT / ".github" / "workflows" / "book.yml").read_text()
