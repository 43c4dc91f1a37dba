"""What the record of a figure keeps of the configuration."""

import json

from omegaconf import OmegaConf

from selfsup.records import settings_of


def test_settings_are_resolved_and_hold_nothing_that_changes_no_answer() -> None:
    config = OmegaConf.create(
        {
            "task": {"lr": 0.1, "controls": True, "sampler": {"length": "${flow_frames}", "cache_folder": "flow"}},
            "flow_frames": 5,
        }
    )
    text = settings_of({"task": config.task, "epochs": 4})
    assert json.loads(text) == {"epochs": 4, "task": {"lr": 0.1, "sampler": {"length": 5}}}
    config.task.controls = False
    config.task.sampler.cache_folder = None
    assert settings_of({"epochs": 4, "task": config.task}) == text
