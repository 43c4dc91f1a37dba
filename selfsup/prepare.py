"""Makes what a task learns from, once: `selfsup prepare task=motion_segmentation data=…`, with key=value overrides.

Training makes it too where it is not there yet; this verb needs no encoder, and goes on where it was stopped. With
`output=DIR` it packs the videos into shards, see `pack`. `selfsup prepare doctor` looks the data over instead.
"""

from __future__ import annotations

import sys
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from selfsup import doctor
from selfsup.data.catalogue import Catalogue
from selfsup.data.datamodule import VideoDataModule
from selfsup.data.sampling import Prepared, PreparedSampler
from selfsup.pack import pack_data
from selfsup.verb import CONFIGURATION, check_complete, in_one_sentence


def prepare(config: DictConfig, folder: Path) -> Prepared:
    """Prepares all videos that can be decoded, prints a table, and writes left_out.json into `folder`."""
    check_complete(config)
    sampler = instantiate(config.task.sampler)
    if not isinstance(sampler, PreparedSampler):
        raise ValueError(
            f"task={HydraConfig.get().runtime.choices['task']}: it learns from the videos as they are, and there is "
            "nothing to prepare; train it at once"
        )
    # Labels are those of a video, whatever its split: one video is enough.
    data: VideoDataModule = instantiate(config.data, _partial_=True)(sampler=sampler, fractions={"train": 1.0})
    data.setup()
    data.catalogue.write_left_out(folder / "left_out.json")
    prepared = data.catalogue.prepared
    assert prepared is not None, "the sampler is one that prepares"
    _print_table(prepared, data.catalogue, Console(markup=False, highlight=False))
    return prepared


def _print_table(prepared: Prepared, catalogue: Catalogue, console: Console) -> None:
    table = Table(title="prepared")
    table.add_column("what")
    table.add_column("number", justify="right")
    table.add_row("videos to learn from", str(sum(len(videos) for videos in catalogue.videos.values())))
    table.add_row("videos left out", str(len(catalogue.left_out)))
    table.add_row("frames labelled", str(prepared.frames))
    table.add_row("of them in this run", str(prepared.made))
    table.add_row("fit to learn from", str(prepared.fit))
    for reason, count in prepared.rejected.items():
        table.add_row(f"rejected: {reason}", str(count))
    console.print(table)
    for note in catalogue.notes:
        console.print(f"  {note}", soft_wrap=True)
    console.print(f"labels: {prepared.folder}", soft_wrap=True)


@hydra.main(version_base="1.3", config_path=str(CONFIGURATION), config_name="prepare")
def _main(config: DictConfig) -> None:
    with in_one_sentence():
        folder = Path(HydraConfig.get().runtime.output_dir)
        prepare(config, folder) if config.output is None else pack_data(config, folder)


def main() -> None:
    """Entry point; see `in_one_sentence` for how it ends."""
    if sys.argv[1:2] == ["doctor"]:
        del sys.argv[1]
        doctor.main()
        return
    _main()


if __name__ == "__main__":
    main()
