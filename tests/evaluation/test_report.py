"""Figures come back from their file as they were, and tables show all there is."""

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from selfsup.evaluation.figure import Figure, compare, mean_over_seeds
from selfsup.evaluation.protocol import Protocol
from selfsup.evaluation.report import differences_to_markdown, read_figures, to_markdown, write_figures
from tests.evaluation.test_figure import figure
from tests.evaluation.test_protocol import PROTOCOL

RANK = Figure("effective rank", 12.345, None, None, replace(PROTOCOL, checksum=None, input_size=None))


def test_figures_come_back_as_they_were(tmp_path: Path) -> None:
    figures = [figure(0), figure(1, grouped=False), mean_over_seeds([figure(0), figure(1)]), RANK]
    path = tmp_path / "evaluation.json"
    write_figures(path, figures)
    assert read_figures(path) == figures
    assert list(tmp_path.iterdir()) == [path]
    write_figures(path, [])
    assert read_figures(path) == []


def spoilt(path: Path, **changes: Any) -> None:
    content = json.loads(path.read_text())
    content["figures"][1] |= changes
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"protocol": {"split": "test"}}, "evaluation.json, figure 2: Protocol has the fields dataset, checksum"),
        ({"protocol": None}, "Protocol has the fields"),
        ({"colour": "red"}, "figure 2: Figure has the fields .* differs in colour"),
        ({"interval": {"low": 0}}, "figure 2: Interval has the fields"),
    ],
)
def test_a_file_of_another_kind_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = tmp_path / "evaluation.json"
    write_figures(path, [figure(0), figure(1)])
    spoilt(path, **changes)
    with pytest.raises(ValueError, match=message):
        read_figures(path)


def test_a_file_cut_short_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "evaluation.json"
    write_figures(path, [figure(0)])
    path.write_text(path.read_text()[:-30])
    with pytest.raises(ValueError, match=r"evaluation.json: not JSON, or cut short \(.*\); evaluate again"):
        read_figures(path)
    for text in ("[]", '{"format": 2, "figures": []}', '{"format": 1}'):
        path.write_text(text)
        with pytest.raises(ValueError, match="no evaluation of format 1"):
            read_figures(path)


def test_the_table_shows_every_figure_and_every_field_of_its_protocol() -> None:
    one = figure(0)
    text = to_markdown([one, replace(one, name="1-NN | cosine"), RANK])
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert one.interval is not None
    bounds = f"{100 * one.interval.low:.1f} % – {100 * one.interval.high:.1f} %"
    assert rows[1] == f"| linear probe | {100 * one.value:.1f} % | {bounds} | 50.0 % | 1 |"
    assert rows[2].startswith(r"| 1-NN \| cosine | ")
    assert rows[3] == "| effective rank | 12.35 |  |  | 2 |" or rows[3] == "| effective rank | 12.34 |  |  | 2 |"
    first = next(line for line in text.splitlines() if line.startswith("1. "))
    assert all(f"{field.name} " in first for field in fields(Protocol))
    assert "input_size 16×112×112; decoder decord2; decoder_version 3.0; videos_seen 77; videos_refused 1" in first
    assert "checksum none" in text


def test_the_table_of_differences_shows_the_sign_and_what_else_differs() -> None:
    better, worse = figure(0, right=0.95), figure(1, right=0.4, clips=1)
    found = compare(better, worse)
    row = differences_to_markdown([found]).splitlines()[2]
    assert f"| {100 * (better.value - worse.value):+.1f} | " in row
    assert row.endswith("| 12 groups | clips, seeds |")
    assert f"| {100 * (worse.value - better.value):+.1f} | -" in differences_to_markdown([compare(worse, better)])
