"""Every option composes, every key is an argument, every group has a default, and a slip gets Hydra's own list."""

import copy
import functools
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.utils import get_object
from omegaconf import DictConfig, ListConfig, OmegaConf

from selfsup import stream, train
from selfsup.verb import CONFIGURATION

# Streams are no part of a training: tests/streaming/test_methods.py.
GROUPS = sorted(path.name for path in CONFIGURATION.iterdir() if path.is_dir() and path.name != "method")
# data/base.yaml holds what the others share; it is chosen through them.
OPTIONS = sorted((group, path.stem) for group in GROUPS for path in (CONFIGURATION / group).glob("*.yaml"))
OPTIONS.remove(("data", "base"))
# Arguments that the verb gives: one network, one sampler, the videos of the probe, each built once.
GIVEN_IN_PYTHON = {"encoder", "sampler", "data"}
VERBS = sorted(path.stem for path in CONFIGURATION.glob("*.yaml"))
STREAMED = {"method"}  # groups of `selfsup stream` alone
WITHOUT_DEFAULT = {"classifier", "experiment", "foreground"}
# Options that make sense with others alone.
PARTNERS = {
    ("clips", "flow"): ("task=action_recognition", "classifier=two_stream"),
    ("data", "features"): ("task=action_recognition", "data.path=features.h5"),
    ("encoder", "stored"): ("task=action_recognition", "data=features", "data.path=features.h5"),
}


@functools.cache
def composed(*overrides: str, root: str = "train") -> DictConfig:
    """The whole tree of a verb, with Hydra's own part as it is during a run in the folder RUN."""
    with initialize_config_dir(str(CONFIGURATION), version_base="1.3"):
        return compose(root, [*overrides, "hydra.runtime.output_dir=RUN"], return_hydra_config=True)


def with_option(group: str, name: str) -> DictConfig:
    """The tree with this option chosen, of a verb that has the group."""
    root = "stream" if group in STREAMED else "train"
    return composed(f"{group}={name}", *PARTNERS.get((group, name), ()), root=root)


def option(group: str, name: str) -> DictConfig:
    """The tree with this option chosen, without Hydra's own part."""
    config = with_option(group, name)
    return OmegaConf.masked_copy(config, [key for key in config if key != "hydra"])


def targets(node: Any, path: str = "") -> Iterator[tuple[str, DictConfig]]:
    """All nodes that name a `_target_`, at any depth, with their path."""
    if isinstance(node, DictConfig):
        if "_target_" in node:
            yield path, node
        for key in node:
            if not OmegaConf.is_missing(node, key) and not OmegaConf.is_interpolation(node, key):
                yield from targets(node[key], f"{path}.{key}")
    elif isinstance(node, ListConfig):
        for number, child in enumerate(node):
            yield from targets(child, f"{path}[{number}]")


def names_no_argument(config: DictConfig) -> list[str]:
    """A sentence for each key that its target does not take, and for each target that takes any key."""
    wrong = []
    for path, node in targets(config):
        target = get_object(node._target_)
        parameters = inspect.signature(target).parameters
        wrong += [
            f"{path}.{key}: {node._target_} has no such argument"
            for key in node
            if not str(key).startswith("_") and key not in parameters
        ]
        if node._target_.startswith("selfsup."):
            kinds = {parameter.kind for parameter in parameters.values()}
            if kinds & {inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL}:
                wrong.append(f"{path}: {node._target_} takes any argument, so that no slip is noticed")
    return wrong


@pytest.mark.parametrize("verb", VERBS)
def test_runs_that_start_in_the_same_second_have_folders_of_their_own(verb: str) -> None:
    with initialize_config_dir(str(CONFIGURATION), version_base="1.3"):
        config = compose(verb, return_hydra_config=True)
    HydraConfig.instance().set_config(config)
    folders = [copy.deepcopy(config).hydra.run.dir for _ in range(50)]
    assert len(set(folders)) == 50, folders


@pytest.mark.parametrize(("group", "name"), OPTIONS)
def test_every_key_is_an_argument_of_its_target(group: str, name: str) -> None:
    config = option(group, name)
    assert len(list(targets(config))) > 5
    assert names_no_argument(config) == []


@pytest.mark.parametrize(("group", "name"), OPTIONS)
def test_every_argument_without_a_default_is_in_the_yaml(group: str, name: str) -> None:
    for path, node in targets(option(group, name)):
        if node.get("_partial_"):  # the rest is given by whoever calls it
            continue
        parameters = inspect.signature(get_object(node._target_)).parameters
        needed = {name for name, parameter in parameters.items() if parameter.default is parameter.empty}
        kinds = {inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL}
        needed -= {name for name in needed if parameters[name].kind in kinds}
        assert needed - {str(key) for key in node} <= GIVEN_IN_PYTHON, path


@pytest.mark.parametrize(("group", "name"), OPTIONS)
def test_every_interpolation_resolves(group: str, name: str) -> None:
    HydraConfig.instance().set_config(with_option(group, name))
    try:
        resolved = OmegaConf.to_container(option(group, name), resolve=True)
    finally:
        HydraConfig.instance().cfg = None
    assert isinstance(resolved, dict)
    assert resolved["data"]["seed"] == resolved["seed"]
    if group not in STREAMED:
        assert resolved["checkpoint"]["folder"] == "RUN"
        assert resolved["probe"]["seed"] == resolved["seed"]


@pytest.mark.parametrize("name", [name for group, name in OPTIONS if group == "data" and name != "features"])
def test_the_source_of_the_data_takes_what_its_yaml_gives(name: str) -> None:
    data = option("data", name).data
    source = ("root", "manifest", "annotations", "split_number", "label", "labels")
    given = {key: "any" for key in source if OmegaConf.is_missing(data, key) or data.get(key) is not None}
    written = {key: "any" for key in data.videos if not str(key).startswith("_")}
    inspect.signature(get_object(data.videos._target_)).bind(**given, **written)


def test_a_slip_in_a_yaml_would_be_found() -> None:
    config = copy.deepcopy(option("task", "temporal_order"))
    OmegaConf.set_struct(config, False)
    config.task.sampler.span_second = 1.0
    config.task.augment = [{"_target_": "selfsup.data.transforms.SpatialJitter", "pixel": 2}]
    assert names_no_argument(config) == [
        ".task.sampler.span_second: selfsup.tasks.temporal_order.OrderSampler has no such argument",
        ".task.augment[0].pixel: selfsup.data.transforms.SpatialJitter has no such argument",
    ]


def test_every_group_has_a_default() -> None:
    choices = {**composed(root="stream").hydra.runtime.choices, **composed().hydra.runtime.choices}
    chosen = {group: choices[group] for group in GROUPS}
    assert {group for group, name in chosen.items() if name is None} <= WITHOUT_DEFAULT
    assert {(group, name) for group, name in chosen.items() if name is not None} <= set(OPTIONS)


def test_an_experiment_is_overridden_by_the_command_line_alone() -> None:
    defaults = OmegaConf.load(CONFIGURATION / "train.yaml").defaults
    names = [entry if isinstance(entry, str) else next(iter(entry)) for entry in defaults]
    assert names[-2:] == ["_self_", "experiment"]


def test_help_lists_every_group_and_its_options(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py", "--help"])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        train.main()
    assert not ended.value.code
    said = capfd.readouterr().out.partition("== Config ==")[0]
    lines = dict(line.split(": ", 1) for line in said.splitlines() if ": " in line)
    for group, name in OPTIONS:
        assert name in lines[group].split(", ")
    assert list(tmp_path.iterdir()) == []  # help leaves nothing behind


def fails(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], folder: Path, override: str) -> str:
    """What the verb says to this override, on its way out with a code that is not zero."""
    monkeypatch.setattr(sys, "argv", ["train.py", f"hydra.run.dir={folder}", override])
    with pytest.raises(SystemExit) as ended:
        stream.main() if override.partition("=")[0] in STREAMED else train.main()
    assert ended.value.code not in (None, 0)
    said = capfd.readouterr()
    assert "Traceback" not in said.err
    return said.err


@pytest.mark.parametrize("group", [group for group in GROUPS if group != "experiment"])
def test_a_misspelt_option_gets_the_list_of_options(
    group: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    said = fails(monkeypatch, capfd, tmp_path, f"{group}=temporal_ordr")
    assert f"Could not find '{group}/temporal_ordr'" in said
    listed = said.partition(f"Available options in '{group}':")[2].split()
    assert {name for other, name in OPTIONS if other == group} <= set(listed)


@pytest.mark.parametrize("key", ["data.rot", "task.sampler.span_second", "sede"])
def test_a_misspelt_key_is_refused(
    key: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    said = fails(monkeypatch, capfd, tmp_path, f"{key}=x")
    assert f"Could not override '{key}'" in said
    assert f"Key '{key.rpartition('.')[2]}' is not in struct" in said


def test_a_misspelt_group_gets_an_error_too(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert "Could not override 'taks'" in fails(monkeypatch, capfd, tmp_path, "taks=temporal_order")


@pytest.mark.parametrize(
    ("choice", "key"),
    [
        ("data=folder", "data.root"),
        ("data=ucf101", "data.annotations, data.root"),
        ("data=base", "data.videos"),  # what the others share, no choice by itself
        ("encoder=pretrained", "encoder.path"),
    ],
)
def test_a_key_without_a_value_is_asked_for(
    choice: str, key: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert f"error: no value for {key}; give one" in fails(monkeypatch, capfd, tmp_path, choice)
