"""Folders of runs: found, and taken up again with their configuration, their data, and the task as it was left."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any, TypeVar

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from selfsup.callbacks.checkpoint import LAST
from selfsup.data.datamodule import VideoDataModule
from selfsup.encoders.state_dict import explain_mismatch, shapes
from selfsup.tasks.task import Task

CONFIG = Path("config", "config.yaml")  # in the folder of a run
HYDRA = CONFIG.with_name("hydra.yaml")

TaskOf = TypeVar("TaskOf", bound=Task)


def newest(name: str) -> Path:
    """The file of that name that a run wrote last, below `runs` of this folder, or of the one above.

    The latter is for notebooks, which run in the folder that they lie in. Raises ValueError where there is none.
    """
    found = [path for folder in (Path("runs"), Path("..", "runs")) for path in folder.rglob(name)]
    if not found:
        raise ValueError(f"no {name} below runs, here or in the folder above: run train.py first, or name a file")
    return max(found, key=lambda path: path.stat().st_mtime)


def read_config(folder: Path, task: type[Task], key: str, lacks: str) -> DictConfig:
    """The configuration of a run of `task`.

    Args:
        folder: of the run.
        task: its class, in the file that names it.
        key: what the user gives the folder to, for errors.
        lacks: what a run of another task does not do, for errors.

    Raises ValueError where the file is missing, damaged, or of another task.
    """
    name = task.__module__.rpartition(".")[2]
    config = read_run(folder, key, f" of task={name}")
    found = config.task._target_
    if found != f"{task.__module__}.{task.__qualname__}":
        raise ValueError(f"{folder}: a run of {found}, which {lacks}; give one of task={name}")
    return config


def read_run(folder: Path, key: str, which: str = "") -> DictConfig:
    """The configuration of a run of any task, or, for errors, of `which`. Errors are those of `read_config`."""
    path = folder / CONFIG
    if not path.is_file():
        raise ValueError(f"{path}: no such file; give {key} the folder of a run{which}")
    try:
        config = OmegaConf.load(path)
    except (YAMLError, OmegaConfBaseException, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not the configuration of a run; give the folder of another one") from error
    needed = ("task._target_", "encoder", "data")
    if not isinstance(config, DictConfig) or any(OmegaConf.select(config, name) is None for name in needed):
        raise ValueError(f"{path}: the configuration of no training; give {key} the folder of a run{which}")
    return config


def started_in(folder: Path) -> Path:
    """Where the run was started, from which relative paths in its configuration count; here, where that is gone."""
    path = folder / HYDRA
    cwd = OmegaConf.select(OmegaConf.load(path), "hydra.runtime.cwd") if path.is_file() else None
    return Path(cwd) if cwd is not None and Path(cwd).is_dir() else Path.cwd()


def load_task(config: DictConfig, folder: Path, task: type[TaskOf]) -> TaskOf:
    """The task with the weights of the last checkpoint, on the CPU, in eval mode.

    Raises ValueError where the checkpoint is missing, damaged, or of another network than that of `config`.
    """
    path = folder / LAST
    if not path.is_file():
        raise ValueError(f"{path}: no such file; the run has not ended its first epoch, go on with resume=last")
    try:
        state: Any = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, TypeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path}: not a readable checkpoint ({reason}); copy it again, or train again") from error
    with torch.random.fork_rng(devices=[]):  # loading leaves the seed of the run alone
        loaded: TaskOf = instantiate(config.task, _partial_=True)(encoder=instantiate(config.encoder))
    if difference := explain_mismatch(shapes(loaded.state_dict()), shapes(state)):
        raise ValueError(f"{path}: its tensors are not those of {folder / CONFIG} ({difference}); train again")
    loaded.load_state_dict(state)
    return loaded.eval()


def load_data(config: DictConfig, task: Task) -> VideoDataModule:
    """The data of the run, ready to serve; relative paths count from where the run was started."""
    data: VideoDataModule = instantiate(config.data, _partial_=True)(
        sampler=task.sampler, evaluation_sampler=task.evaluation_sampler
    )
    data.setup()
    return data
