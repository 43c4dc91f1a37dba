"""Encoders that are passed on: as a folder with a model card, and by way of the Hugging Face Hub.

    selfsup.hub.save_pretrained("runs/mine", "mine", evaluated="runs/mine/evaluated")  # no network
    selfsup.hub.push_to_hub("runs/mine", "me/mine", license="apache-2.0")
    encoder = selfsup.hub.from_pretrained("me/mine")  # or "mine", a folder

What is passed on is the encoder and its card: no video, no name of one, and no path of the machine that trained.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path, PureWindowsPath
from typing import Any

from selfsup import weights
from selfsup.encoders.encoder import Encoder
from selfsup.model_card import model_card
from selfsup.reporting.run import Run, read_run

ENCODER, CARD = "encoder.safetensors", "README.md"


def save_pretrained(
    run: str | Path, folder: str | Path, *, evaluated: str | Path | None = None, license: str | None = None
) -> Path:
    """Writes the encoder of a run and its model card into a folder, and returns it.

    Args:
        run: the folder of a run of `selfsup train`.
        folder: made where it is missing; files of these two names in it are replaced.
        evaluated: the folder of a run of `selfsup evaluate` on this encoder; its figures go into the card.
        license: of the weights, as the Hub names it; the card says that there is none where it is not given.

    Raises:
        ValueError: a folder that is no run, an encoder file that is missing or damaged, or figures of another one.
        OSError: the folder cannot be written to.
    """
    run, folder = Path(run), Path(folder)
    trained = read_run(run, run.absolute().name)
    measured = trained if evaluated is None else _evaluation(Path(evaluated), run / ENCODER)
    encoder = weights.load(run / ENCODER)
    assert encoder.input is not None, "weights.load gives every encoder its input specification"
    assert encoder.source is not None, "and its source"
    data = without_paths(encoder.source["data"])
    folder.mkdir(parents=True, exist_ok=True)
    weights.save(encoder, folder / ENCODER, input=encoder.input, task=encoder.source["task"], data=data)
    card = model_card(encoder, data, trained, measured, license)
    (folder / CARD).write_text(card, encoding="utf-8")
    return folder


def push_to_hub(
    run: str | Path,
    repository: str,
    *,
    evaluated: str | Path | None = None,
    license: str | None = None,
    private: bool = True,
) -> str:
    """Uploads what `save_pretrained` writes to the Hugging Face Hub, and returns the address of the commit.

    Args:
        run, evaluated, license: see `save_pretrained`.
        repository: "owner/name"; made where it is missing. Who is logged in (`hf auth login`, HF_TOKEN) must own it.
        private: of a repository that is made; one that is there stays what it is.

    Raises:
        ValueError: see `save_pretrained`; a repository of another form; or huggingface_hub is not installed.
        OSError: the Hub cannot be reached, or refuses.
    """
    hub = _client()
    _check_name(repository)
    with tempfile.TemporaryDirectory() as folder:
        save_pretrained(run, folder, evaluated=evaluated, license=license)
        try:
            hub.create_repo(repository, private=private, exist_ok=True)
            commit = hub.upload_folder(
                repo_id=repository, folder_path=folder, commit_message="Upload an encoder of selfsup"
            )
        except _failures() as error:
            raise OSError(f"{repository}: the Hub did not take it ({_reason(error)}); {_CURE}") from error
    return str(commit.commit_url)


def from_pretrained(
    source: str | Path, *, revision: str | None = None, encoder_classes: Sequence[type[Encoder]] = ()
) -> Encoder:
    """The encoder of a folder, or of a repository of the Hub, on the CPU and in eval mode.

    Args:
        source: a folder that holds encoder.safetensors, or "owner/name"; a folder of that name comes first.
        revision: a branch, tag or commit of the repository; a commit gives the same weights for ever.
        encoder_classes: classes outside this package that the file may name.

    Raises:
        ValueError: see `selfsup.weights.load`; neither folder nor repository; or huggingface_hub is not installed.
        OSError: the Hub cannot be reached, or does not have it.
    """
    if Path(source).is_dir():
        if revision is not None:
            raise ValueError(f"{source}: a folder, which has no revision {revision!r}; leave it out")
        return weights.load(Path(source) / ENCODER, encoder_classes)
    name = str(source)
    _check_name(name)
    hub = _client()
    try:
        path = hub.hf_hub_download(name, ENCODER, revision=revision)
    except _failures() as error:
        raise OSError(f"{name}: no such folder, and not had from the Hub ({_reason(error)}); {_CURE}") from error
    return weights.load(path, encoder_classes)


def without_paths(value: Any) -> Any:
    """A description of data in which every path is its last part: where it lay is nobody's business."""
    if isinstance(value, dict):
        return {key: without_paths(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [without_paths(inner) for inner in value]
    return PureWindowsPath(value).name if isinstance(value, str) else value  # which knows both kinds of slash


_CURE = "check the name, the network and `hf auth whoami`"


def _evaluation(folder: Path, encoder: Path) -> Run:
    """A run of `selfsup evaluate`; ValueError where it has no figures, or is known to be of another encoder."""
    run = read_run(folder, folder.absolute().name)
    if not run.figures:
        raise ValueError(f"{folder}: no evaluation.json with figures; give the folder of a run of selfsup evaluate")
    measured = Path(str(json.loads(run.settings.get("encoder.path", '""'))))
    if measured.is_file() and encoder.is_file() and not measured.samefile(encoder):
        raise ValueError(f"{folder}: figures of {measured}, not of {encoder}; evaluate that one")
    return run


def _check_name(name: str) -> None:
    owner, slash, repository = name.partition("/")
    if not (owner and slash and repository) or "/" in repository:
        raise ValueError(f"{name}: neither a folder nor a repository of the Hub, which is named as owner/name")


def _client() -> Any:
    """A client of the Hub."""
    if find_spec("huggingface_hub") is None:
        raise ValueError("the Hub is reached by huggingface_hub, which is not installed: pip install 'selfsup[hub]'")
    from huggingface_hub import HfApi  # an extra

    return HfApi(library_name="selfsup")


def _failures() -> tuple[type[Exception], ...]:
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled

    return HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled, OSError


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
