"""The model card of an encoder: what taught it, on what, how it was measured, what came out, and what not to expect."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping
from typing import Any

import selfsup
from selfsup.encoders.encoder import Encoder
from selfsup.evaluation.report import to_markdown
from selfsup.reporting.run import Run
from selfsup.reporting.tables import closing_rows

LIMITS = """- The encoder knows what its task asked of its data, and no more. A high pretext accuracy does not say that
  the features are good; compare the learned figures with those before, and with those of the untrained encoder.
- Figures hold for the data and the protocol beside them. Other videos, lengths of clips or sizes of frames give others.
- Whatever was in the training videos, people and places too, may have shaped the features. Nothing was done about bias.
- Figures on synthetic videos say nothing about footage."""
TOLD = ("seed", "trainer.max_epochs", "data.batch_size", "task.")  # settings


def model_card(encoder: Encoder, data: Mapping[str, Any], trained: Run, measured: Run, license: str | None) -> str:
    """The card as Markdown, with the header that the Hub reads.

    Args:
        encoder: as loaded from its file.
        data: what it was taught on, without paths.
        trained: the run that taught it.
        measured: a run that has figures with intervals, or the same.
        license: of the weights.
    """
    assert encoder.source is not None, "it was loaded from its file"
    assert encoder.input is not None, "it was loaded from its file"
    task, seen = encoder.source["task"], encoder.input
    architecture = encoder.source["class"].rpartition(".")[2]
    tags = ["video", "self-supervised", task]
    header: dict[str, Any] = {"library_name": "selfsup", "pipeline_tag": "feature-extraction", "tags": tags}
    if license is not None:
        header["license"] = license
    parameters = sum(parameter.numel() for parameter in encoder.parameters())
    rate = "" if seen.fps is None else f" at {seen.fps:g} frames a second"
    parts = [
        "---\n" + "".join(f"{key}: {json.dumps(value)}\n" for key, value in header.items()) + "---",
        f"# {architecture}, taught by {_text(task)}",
        f"An encoder of video clips, (B, C, T, H, W) to (B, {encoder.dim}, T', H', W'), with {parameters / 1e6:.1f} M "
        f"parameters, trained by selfsup {_text(encoder.source['version'])}.",
        _USE,
        f"It was trained on clips of {seen.size_pixels} × {seen.size_pixels} pixels{rate}; `encoder.input.normalize` "
        f"does to a clip what training did (mean {_numbers(seen.mean)}, deviation {_numbers(seen.std)}).",
        "## Task\n\n" + _task(trained, task),
        "## Data\n\n" + _list({**data, "failed in training": len(trained.summary.get("quarantined", []))}),
        "## Results\n\n" + _results(trained),
        "## Protocol\n\n" + _protocol(measured),
        "## Limits\n\n" + LIMITS + ("" if license else "\n- No licence was given: ask whoever published it."),
        f"Written by selfsup {selfsup.__version__}.",
    ]
    return "\n\n".join(parts) + "\n"


_USE = """```python
import selfsup.hub

encoder = selfsup.hub.from_pretrained("OWNER/NAME")  # or the folder that this file lies in
clip = encoder.input.normalize(clip)  # uint8, or float in [0, 1]
features = encoder(clip)
```"""


def _task(run: Run, task: str) -> str:
    lines = _list({name: value for name, value in run.settings.items() if name.startswith(TOLD) and "/" not in value})
    return f"`task={_text(task)}`; its settings, as far as they hold no path:\n\n{lines}"


def _results(run: Run) -> str:
    rows = closing_rows(run)
    if not rows:
        return "The run left no closing table."
    lines = ["| figure | before | learned | chance |", "|---|---:|---:|---:|"]
    lines += [f"| {_text(row['name'])} | {row['before']} | {row['learned']} | {row['chance']} |" for row in rows]
    return "\n".join(lines)


def _protocol(run: Run) -> str:
    if not run.figures:
        return "No figures with intervals: `selfsup evaluate` gives them."
    return html.escape(to_markdown(run.figures), quote=False).rstrip()


def _list(values: Mapping[str, Any]) -> str:
    return "\n".join(f"- {_text(name)}: {_text(value)}" for name, value in values.items() if value is not None)


def _text(value: Any) -> str:
    """One line that is neither HTML nor a cell's end."""
    return html.escape(" ".join(str(value).split()), quote=False).replace("|", "\\|")


def _numbers(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.4g}" for value in values)
