"""The benchmark of late answers feeds its heads what the classifier sees, and mixes no figures of other settings."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from selfsup.classifiers.depth_parallel import DepthParallelRnn
from selfsup.encoders.resnet import ResNet
from selfsup.encoders.sub_networks import units
from tests.verbs import Ended, defined, script


@pytest.mark.parametrize("skip_connections", [False, True])
def test_stored_outputs_are_known_as_those_of_a_clip(skip_connections: bool) -> None:
    clip = torch.randn(2, 3, 5, 32, 32)
    classifier = DepthParallelRnn(ResNet(), 4, 3, skip_connections=skip_connections).eval()
    maps, parts = clip.transpose(1, 2).flatten(0, 1), []
    with torch.no_grad():
        for part in units(classifier.encoder):
            maps = part.network(maps)
            parts.append(maps.mean(dim=(2, 3)).unflatten(0, (2, 5)))
        expected = classifier.known(classifier.described(clip))
    known = defined("lateness.py")["known"]
    assert expected.shape[2] > 512 if skip_connections else expected.shape[2] == 512
    torch.testing.assert_close(known(classifier, parts), expected)


def test_a_row_a_number_of_sub_networks(command: Callable[..., Ended], tmp_path: Path) -> None:
    record = tmp_path / "record.json"
    short = ("--record", str(record), "--seeds", "0", "--videos", "12", "--size-pixels", "32", "--head-steps", "2")
    ended = command(script("lateness.py"), *short, "--encoder-steps", "1", "--sub-networks", "2", "4")
    assert ended.code == 0, ended.err
    rows = re.findall(r"^\| (\d) \| ([\d.]+) \| (.+?) \| (.+?) \| (.+?) \|$", ended.out, flags=re.MULTILINE)
    assert [row[0] for row in rows] == ["1", "2", "4"]
    assert len({*rows[0][2:]}) == 1, "the sequential network is each kind's n = 1"
    perfect = [float(row[1]) for row in rows]
    assert perfect[0] == 100 > perfect[1] > perfect[2] > 50

    runs = json.loads(record.read_text())
    record.write_text(json.dumps({**runs, "0": {**runs["0"], "chance": 0.25}}))
    again = command(script("lateness.py"), *short, "--encoder-steps", "1", "--sub-networks", "2", "4")
    assert "chance: 25.0" in again.out, "a seed of the record ran again"
    other = command(script("lateness.py"), *short, "--encoder-steps", "2", "--sub-networks", "2", "4")
    assert other.code == 2
    assert "give another --record" in other.err
