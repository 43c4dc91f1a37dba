"""Where a classifier looks, and when: Grad-CAM (Selvaraju et al. 2017, arXiv 1610.02391, section 3), moment by moment.

Axes: B batch, C channels, T time, H height, W width, D features, K classes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from selfsup.encoders.encoder import Encoder


def grad_cam(classifier: nn.Module, encoder: Encoder, clip: Tensor, classes: Tensor) -> Tensor:
    """What in the encoder's last map speaks for a class, at each place and moment: (B, T', H', W'), 0 or more.

    The map is weighed by the gradient of the class's logit, averaged over the places of a moment, so that each moment
    has weights of its own, and what speaks against the class is left out. Maps of one clip can be compared in time,
    those of two clips cannot. The classifier's mode and its parameters' gradients are left as they were.

    Args:
        classifier: clip to logits (B, K), or (B, T', K), of which the mean over time is asked about.
        encoder: the part of the classifier whose map is read; called once.
        clip: (B, C, T, H, W), normalised float.
        classes: int64 (B,), in [0, K).

    Raises ValueError where the classifier does not ask the encoder.
    """
    maps: list[Tensor] = []

    def keep(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        output = output.detach().requires_grad_()
        maps.append(output)
        return output

    training = {module: module.training for module in classifier.modules()}
    hook = encoder.register_forward_hook(keep)
    try:
        # cuDNN's recurrent networks have no gradient in evaluation mode.
        with torch.enable_grad(), torch.backends.cudnn.flags(enabled=False):
            logits = classifier.eval()(clip)
            if not maps:
                raise ValueError(f"{type(classifier).__name__} does not ask this encoder; give one of its own")
            logits = logits.mean(dim=1) if logits.ndim == 3 else logits
            asked = logits.gather(1, classes[:, None]).sum()
            (gradient,) = torch.autograd.grad(asked, maps[-1])
    finally:
        hook.remove()
        for module, mode in training.items():
            module.training = mode
    weights = gradient.mean(dim=(3, 4), keepdim=True)  # (B, D, T', 1, 1)
    return (weights * maps[-1].detach()).sum(dim=1).relu()
