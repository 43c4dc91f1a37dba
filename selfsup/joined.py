"""task=joint: from names of tasks, and from options for them, to tasks on one encoder."""

from __future__ import annotations

from collections.abc import Sequence

from hydra import compose
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from selfsup.encoders.encoder import Encoder
from selfsup.tasks.joint import Joint
from selfsup.tasks.task import Task
from selfsup.verb import check_complete


def joint(
    encoder: Encoder,
    tasks: Sequence[str],
    options: DictConfig,
    optimizer: DictConfig,
    schedule: DictConfig | None = None,
    weighting: str = "fixed",
    weights: DictConfig | None = None,
) -> Joint:
    """The task in which `tasks`, options of the group task, teach one encoder together.

    Args:
        encoder: given to each.
        tasks: names; each is composed as it would be in a run of its own with the other words of the command line.
        options: by name of a task, keys that differ from its yaml.
        optimizer, schedule: those of the whole.
        weighting, weights: see `Joint`.

    Raises ValueError for a name that is none, or comes twice, for options of no task, and what the tasks raise.
    """
    composed = compositions(tasks, options)
    built: dict[str, Task] = {}
    for name, config in composed.items():
        built[name] = instantiate(config.task, _partial_=True)(encoder=encoder)
    audio = next((config.data.audio for config in composed.values() if "audio" in config.data), None)
    return Joint(
        encoder,
        built,
        instantiate(optimizer),
        instantiate(schedule),
        weighting,
        None if weights is None else {str(name): float(weight) for name, weight in weights.items()},
        instantiate(audio),
    )


def parts_of(task: Task, config: DictConfig) -> list[tuple[Task, DictConfig]]:
    """The tasks of a run that teach, each with the configuration that a run of its own would have."""
    if not isinstance(task, Joint):
        return [(task, config)]
    composed = compositions(config.task.tasks, config.task.options)
    return [(part, composed[name]) for name, part in task.parts.items()]


def compositions(tasks: Sequence[str], options: DictConfig) -> dict[str, DictConfig]:
    """The configuration of each task, by name; ValueError as of `joint`."""
    known = [name for name in GlobalHydra.instance().config_loader().get_group_options("task") if name != "joint"]
    for place, name in enumerate(tasks):
        if name not in known:
            raise ValueError(f"task.tasks: {name!r} is no task that can take part; there are {', '.join(known)}")
        if name in tasks[:place]:
            raise ValueError(f"task.tasks: {name} comes twice; name each task once")
    if strangers := [str(name) for name in options if name not in tasks]:
        raise ValueError(f"task.options: {strangers[0]} is not among task.tasks, {', '.join(tasks)}")
    words = [word for word in HydraConfig.get().overrides.task if not _is_of_the_task(word)]
    return {name: _composed(name, words, options.get(name)) for name in tasks}


def _composed(name: str, words: list[str], options: DictConfig | None) -> DictConfig:
    config = compose(HydraConfig.get().job.config_name, [*words, f"task={name}"])
    if options is not None:
        try:
            config.task.merge_with(options)
        except OmegaConfBaseException as error:
            reason = str(error).splitlines()[0]
            keys = ", ".join(key for key in map(str, config.task) if not key.startswith("_"))
            raise ValueError(f"task.options.{name}: {reason}; the keys of task={name} are {keys}") from error
    check_complete(config)
    return config


def _is_of_the_task(word: str) -> bool:
    key = word.lstrip("+~").partition("=")[0]
    return key in ("task", "experiment") or key.startswith("task.")
