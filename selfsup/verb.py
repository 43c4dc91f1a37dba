"""What every verb shares: where its configuration lies, and how it ends."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from hydra.errors import InstantiationException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue
from rich.console import Console

from selfsup.data.datamodule import VideoDataModule
from selfsup.data.videos import printable
from selfsup.encoders.encoder import InputSpecification

_HERE = Path(__file__).parent
# In a wheel the tree travels inside the package; in a checkout it lies beside it.
CONFIGURATION = next(path for path in (_HERE / "conf", _HERE.parent / "conf") if path.is_dir())


@contextmanager
def in_one_sentence() -> Iterator[None]:
    """Ends a verb: what a user can mend in one sentence and exit code 2, and never with a process left behind."""
    quiet()
    try:
        yield
    except (ValueError, OSError, InstantiationException, MissingMandatoryValue) as error:
        cause = error.__cause__ if isinstance(error, InstantiationException) else error
        expected = isinstance(cause, ValueError | OSError | MissingMandatoryValue)
        if os.environ.get("HYDRA_FULL_ERROR") == "1" or not expected:
            raise
        print(f"error: {cause}", file=sys.stderr)
        sys.exit(2)
    finally:
        # Workers ignore SIGTERM; one that hangs in native code would keep the interpreter from exiting. torch's
        # handler would take their end for an error.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for child in multiprocessing.active_children():
            child.kill()


def check_complete(config: DictConfig) -> None:
    """ValueError where a value is still `???`: a partial instantiation would pass over it, and fail later."""
    if missing := sorted(OmegaConf.missing_keys(config)):
        raise ValueError(f"no value for {', '.join(missing)}; give one, as in {missing[0]}=VALUE")


def tell_notes(console: Console, data: VideoDataModule, input: InputSpecification | None = None) -> None:
    """Prints the notes on the videos, and a warning where the encoder has learned to see others than they give."""
    for note in data.catalogue.notes:
        console.print(f"  {note}", soft_wrap=True)
    if input is not None and (warning := input.warning(data.size_pixels)):
        console.print(warning, soft_wrap=True)


def tell_failures(console: Console, data: VideoDataModule, failures: Mapping[str, Mapping[int, str]]) -> None:
    """Names the videos that failed after indexing; ValueError where they are too many."""
    reasons = [reason for of_split in failures.values() for reason in of_split.values()]
    for reason in reasons:
        console.print(f"  failed: {printable(reason)}", soft_wrap=True)
    every = sum(len(videos) for videos in data.videos.values())
    if len(reasons) > data.max_failed_fraction * every:
        raise ValueError(
            f"{len(reasons)} of {every} videos failed after indexing, more than data.max_failed_fraction="
            f"{data.max_failed_fraction:g}; the first: {printable(reasons[0])}"
        )


def quiet() -> None:
    """Silences what Lightning says in every run and nobody can act on; its other warnings stay."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    for message in (
        ".*Experiment logs directory .* exists",  # it is the run's own folder
        ".*is smaller than the logging interval",
        ".*does not have many workers",  # data.num_workers says it, and why
        ".*isinstance.treespec, LeafSpec.* is deprecated",
        ".*Trying to infer the `batch_size`",
    ):
        warnings.filterwarnings("ignore", message)
