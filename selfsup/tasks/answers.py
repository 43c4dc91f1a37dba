"""What a classifier answers to whole videos, from its answers to their clips."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torchmetrics.functional.classification import multiclass_accuracy


class VideoAnswers:
    """Sums the logits of each video's views, and counts which videos are answered rightly.

    Args:
        labels: int64 (V,), the class of each video.
        num_classes: K.
    """

    def __init__(self, labels: Tensor, num_classes: int) -> None:
        self.labels = labels
        # Of each video, and last the number of its views; on the CPU: some devices know no float64.
        self.sums = torch.zeros(len(labels), num_classes + 1, dtype=torch.float64)

    def add(self, videos: Tensor, logits: Tensor) -> None:
        """One view each of `videos`, int64 (B,): logits (B, K)."""
        counted = torch.cat([logits.detach(), logits.new_ones(len(logits), 1)], dim=1)
        self.sums.index_add_(0, videos.cpu(), counted.cpu().double())

    def gather(self, add_up: Callable[[Tensor], Tensor]) -> None:
        """Joins what each process saw; `add_up` sums a float32 tensor over them, which every device can."""
        self.sums = add_up(self.sums.float()).cpu()

    def told(self) -> tuple[list[int], list[bool]]:
        """The videos of which a view was seen, and whether each is answered rightly by the mean of its views."""
        seen = self.sums[:, -1] > 0
        right = self.sums[seen, :-1].argmax(dim=1) == self.labels[seen]
        return seen.nonzero().flatten().tolist(), right.tolist()

    def figures(self) -> dict[str, Tensor]:
        """Accuracy over videos, balanced over classes, and among the first five where there are more classes.

        Videos of which no view could be read are left out. Empty where none was seen.
        """
        rows, correct = self.told()
        if not rows:
            return {}
        right, truth = torch.tensor(correct).float(), self.labels[rows]
        figures = {
            "accuracy": right.mean(),
            "balanced_accuracy": torch.stack([right[truth == number].mean() for number in truth.unique()]).mean(),
        }
        answers = self.sums[rows, :-1]
        if (classes := answers.shape[1]) > 5:
            figures["top5"] = multiclass_accuracy(answers, truth, num_classes=classes, top_k=5, average="micro")
        return figures
