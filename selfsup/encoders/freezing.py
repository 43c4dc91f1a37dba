"""Freezing the first stages of an encoder.

Early stages hold features that suit every task (Karpathy et al. 2014: fine-tuning the top of a network beats
fine-tuning all of it). A frozen stage takes no gradient and stays in evaluation mode, so that the running averages of
BatchNorm are constant too. Since the clip wants no gradient either, autograd keeps no activation of frozen stages.
"""

from torch import nn

from selfsup.encoders.encoder import Encoder


def frozen_stages(encoder: Encoder, freeze: str) -> list[nn.Module]:
    """The stages that `freeze` names: "none", "all", or all up to and including the stage of that name.

    Raises ValueError for another name.
    """
    names = encoder.stage_names
    if freeze not in ("none", "all", *names):
        raise ValueError(
            f"freeze={freeze!r}: {type(encoder).__name__} has the stages {', '.join(names)}; "
            f"give one of them, none or all"
        )
    count = 0 if freeze == "none" else len(names) if freeze == "all" else names.index(freeze) + 1
    return list(encoder.stages)[:count]


def stop_gradients(stages: list[nn.Module]) -> None:
    """Takes the parameters of `stages` out of training."""
    for stage in stages:
        stage.requires_grad_(False)
        stage.eval()
