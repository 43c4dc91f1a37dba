"""Encoders that are passed on: as a folder without a network, and through the Hub's own client from a local server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
import yaml

from selfsup import hub, weights
from selfsup.encoders.encoder import InputSpecification
from selfsup.encoders.resnet import ResNet
from selfsup.evaluation.answers import Answers
from selfsup.evaluation.bootstrap import accuracy_interval
from selfsup.evaluation.figure import Figure
from selfsup.evaluation.protocol import Protocol
from selfsup.evaluation.report import write_figures

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of a training: what a card is made of, and no more."""
    folder = tmp_path / "run"
    torch.manual_seed(0)
    specification = InputSpecification(size_pixels=32, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.25), fps=12.5)
    about = {
        "manifest": "/home/somebody/secret/films.csv",
        "train_videos": 12,
        "nested": [{"root": "C:\\secret\\films"}],
    }
    weights.save(ResNet(18), folder / hub.ENCODER, input=specification, task="clip_order", data=about)
    summary = {
        "task": "clip_order",
        "figures": [{"figure": "accuracy", "split": "test", "value": 0.75, "chance": 0.5}],
        "probes": [{"figure": "1-NN <b>|", "before": 0.25, "learned": 0.5, "chance": 0.125}],
        "quarantined": [{"path": "a.mp4", "split": "train", "reason": "broken"}],
    }
    (folder / "summary.json").write_text(json.dumps(summary))
    return folder


@pytest.fixture
def evaluated(tmp_path: Path, run: Path) -> Path:
    """A run of an evaluation of that encoder."""
    folder = tmp_path / "evaluated"
    (folder / "config").mkdir(parents=True)
    (folder / "config" / "config.yaml").write_text(f"encoder:\n  path: {run / hub.ENCODER}\n")
    protocol = Protocol("films", None, "test", False, 1, 1, "video", (8, 32, 32), "pyav", "17", 4, 0, (0,))
    answers = Answers(("a", "b", "c", "d"), (1.0, 1.0, 0.0, 1.0))
    write_figures(
        folder / "evaluation.json",
        [Figure("k-NN", 0.75, accuracy_interval(answers.correct), 0.5, protocol, answers)],
    )
    return folder


def test_a_folder_gives_the_same_encoder_without_a_network(run: Path, evaluated: Path, tmp_path: Path) -> None:
    folder = hub.save_pretrained(run, tmp_path / "given", evaluated=evaluated, license="apache-2.0")
    assert sorted(path.name for path in folder.iterdir()) == [hub.CARD, hub.ENCODER]
    before, after = weights.load(run / hub.ENCODER), hub.from_pretrained(folder)
    clip = torch.rand(2, 3, 2, 32, 32)
    assert torch.equal(before(clip), after(clip))
    assert after.input == before.input
    assert b"secret" not in (folder / hub.ENCODER).read_bytes()
    assert after.source is not None
    assert after.source["data"] == {"manifest": "films.csv", "train_videos": 12, "nested": [{"root": "films"}]}


def test_the_card_holds_task_data_protocol_results_and_limits(run: Path, evaluated: Path, tmp_path: Path) -> None:
    card = (hub.save_pretrained(run, tmp_path / "given", evaluated=evaluated, license="mit") / hub.CARD).read_text()
    _, header, body = card.split("---\n", 2)
    assert yaml.safe_load(header) == {
        "library_name": "selfsup",
        "pipeline_tag": "feature-extraction",
        "tags": ["video", "self-supervised", "clip_order"],
        "license": "mit",
    }
    assert [line for line in body.splitlines() if line.startswith("#")] == [
        "# ResNet, taught by clip_order",
        "## Task",
        "## Data",
        "## Results",
        "## Protocol",
        "## Limits",
    ]
    assert "| clip_order accuracy (test videos) |  | 75.0 % | 50.0 % |" in body
    assert "| 1-NN &lt;b&gt;\\| | 25.0 % | 50.0 % | 12.5 % |" in body
    assert "| k-NN | 75.0 % |" in body
    assert "32 × 32 pixels at 12.5 frames a second" in body
    assert "- train_videos: 12" in body
    assert "- failed in training: 1" in body
    assert "secret" not in card
    assert "No licence was given" not in card


def test_what_cannot_be_passed_on_is_one_sentence(run: Path, evaluated: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nowhere: no such folder; give the folder of a run"):
        hub.save_pretrained(tmp_path / "nowhere", tmp_path / "given")
    with pytest.raises(ValueError, match=r"run: no evaluation\.json with figures"):
        hub.save_pretrained(run, tmp_path / "given", evaluated=run)
    other = weights.load(run / hub.ENCODER)
    assert other.input is not None
    weights.save(other, tmp_path / "other.safetensors", input=other.input, task="none", data={})
    (evaluated / "config" / "config.yaml").write_text(f"encoder:\n  path: {tmp_path / 'other.safetensors'}\n")
    with pytest.raises(ValueError, match=r"figures of .*other\.safetensors, not of .*; evaluate that one"):
        hub.save_pretrained(run, tmp_path / "given", evaluated=evaluated)
    (run / hub.ENCODER).unlink()
    with pytest.raises(ValueError, match=r"encoder\.safetensors: no such file"):
        hub.save_pretrained(run, tmp_path / "given")
    with pytest.raises(ValueError, match="neither a folder nor a repository of the Hub, which is named as owner/name"):
        hub.from_pretrained("alone")
    with pytest.raises(ValueError, match="a folder, which has no revision 'main'; leave it out"):
        hub.from_pretrained(run, revision="main")


@contextmanager
def served(file: Path) -> Iterator[str]:
    """The address of a server that gives the file as the Hub gives that of me/mine, at two revisions."""

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def answer(self, body: bool) -> None:
            content = file.read_bytes()
            found = self.path in (f"/me/mine/resolve/{revision}/{hub.ENCODER}" for revision in ("main", COMMIT))
            self.send_response(200 if found else 404)
            self.send_header("X-Repo-Commit", COMMIT)
            if found:
                self.send_header("ETag", '"1"')
                self.send_header("Content-Length", str(len(content)))
            else:
                self.send_header("X-Error-Code", "RepoNotFound")
                self.send_header("Content-Length", "0")
            self.end_headers()
            if body and found:
                self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def asked(code: str, endpoint: str, home: Path, *words: str | Path) -> str:
    """What a process says of its own: the client reads its settings when it is imported."""
    environment = {**os.environ, "HF_ENDPOINT": endpoint, "HF_HOME": str(home), "HF_HUB_DISABLE_TELEMETRY": "1"}
    environment.update({"HF_TOKEN": "none", "OMP_NUM_THREADS": "1", "NO_PROXY": "127.0.0.1"})
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, words)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_an_encoder_comes_from_the_hub(run: Path, tmp_path: Path) -> None:
    pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed: pip install 'selfsup[hub]'")
    code = (
        "import sys, torch\n"
        "from selfsup import hub\n"
        "encoder = hub.from_pretrained('me/mine', revision=sys.argv[2] if len(sys.argv) > 2 else None)\n"
        "torch.save(encoder.state_dict(), sys.argv[1])\n"
        "try:\n"
        "    hub.from_pretrained('me/other')\n"
        "except OSError as error:\n"
        "    print(error)\n"
    )
    with served(run / hub.ENCODER) as endpoint:
        said = asked(code, endpoint, tmp_path / "home", tmp_path / "state.pt", COMMIT)
    assert said.startswith("me/other: no such folder, and not had from the Hub (")
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    for name, tensor in weights.load(run / hub.ENCODER).state_dict().items():
        assert torch.equal(state[name], tensor)


def test_a_hub_that_does_not_take_it_is_one_sentence(run: Path, tmp_path: Path) -> None:
    pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed: pip install 'selfsup[hub]'")
    code = (
        "import sys\n"
        "from selfsup import hub\n"
        "try:\n"
        "    hub.push_to_hub(sys.argv[1], 'me/mine')\n"
        "except OSError as error:\n"
        "    print(error)\n"
    )
    with served(run / hub.ENCODER) as endpoint:  # which answers no POST
        said = asked(code, endpoint, tmp_path / "home", run)
    assert said.startswith("me/mine: the Hub did not take it (")
    assert said.rstrip().endswith("check the name, the network and `hf auth whoami`")
