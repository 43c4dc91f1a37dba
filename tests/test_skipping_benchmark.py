"""The benchmark of Skip RNN on videos looks at the frames that it says, and times a file as it is streamed."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import selfsup.weights
from selfsup.data.live import FileFrames
from selfsup.data.reader import VideoReader
from selfsup.encoders.encoder import InputSpecification
from selfsup.encoders.resnet import ResNet
from tests.verbs import Ended, defined, script

INPUT = InputSpecification(32, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2), None)


class EveryThird:
    """A head that skips two frames after each."""

    def skip(self, limit: int) -> int:
        return min(2, limit)


def test_skipped_places_are_passed_over_in_the_file(synthetic_manifest: Path) -> None:
    skipping = defined("skipping.py")
    path = min(synthetic_manifest.parent.rglob("*.mp4"))
    frames = FileFrames(path, 32)
    places = skipping["places_of"](len(frames.table), 8)
    found = dict(skipping["seen"](frames, places, EveryThird()))
    frames.close()
    assert list(found) == [0, 3, 6]
    with VideoReader(path, short_side_pixels=32) as reader:
        times = [float(reader.times_seconds[places[turn]]) for turn in found]
        expected = reader.frames(times).permute(0, 2, 3, 1).numpy()
    for image, wanted in zip(found.values(), expected, strict=True):
        assert (image == wanted).all()


def test_each_skip_rnn_has_a_partner_of_as_many_frames(
    command: Callable[..., Ended], tmp_path: Path, synthetic_manifest: Path
) -> None:
    encoder = tmp_path / "encoder.safetensors"
    selfsup.weights.save(ResNet(), encoder, input=INPUT, task="test", data={})
    record = tmp_path / "record.json"
    data = ("--data", "data=manifest", f"data.manifest={synthetic_manifest}")
    words = ("--record", str(record), "--encoders", str(encoder), "--frames", "6", "--budgets", "0", *data)
    ended = command(script("skipping.py"), *words, "--steps", "1")
    assert ended.code == 0, ended.err
    seed = json.loads(record.read_text())["0"]
    names = ["LSTM, all frames", "Skip LSTM, λ = 0", "LSTM, as many as Skip LSTM, λ = 0"]
    rows = [line.split(" | ")[0] for line in ended.out.splitlines() if line.startswith("| ")]
    assert rows[1:4] == [f"| {name}" for name in names]
    assert seed[names[0]]["used"] == 1.0
    assert seed[names[1]]["used"] == pytest.approx(seed[names[2]]["used"], abs=1 / 6)
    assert all(0 <= seed[name]["accuracy"] <= 1 and seed[name]["seconds"] > 0 for name in names)
    other = command(script("skipping.py"), *words, "--steps", "2")
    assert other.code == 2
    assert "give another --record" in other.err
