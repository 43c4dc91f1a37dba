"""What a classifier answers to whole videos, or to each of their frames, from its answers to their clips."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from sklearn.metrics import average_precision_score
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

    def chance(self) -> dict[str, float]:
        """Of the accuracy the share of the largest class of the videos, of the balanced one that of one class."""
        uniform = 1 / (self.sums.shape[1] - 1)
        majority = float(self.labels.bincount().max() / len(self.labels)) if len(self.labels) else uniform
        return {"accuracy": majority, "balanced_accuracy": uniform}

    def details(self) -> dict[str, object]:
        """Nothing besides the figures."""
        return {}


class FrameAnswers:
    """Sums the logits of each frame over the views that show it, and ranks the frames for each class.

    Mean average precision over classes, of frames, is the figure of MultiTHUMOS (Yeung et al. 2015, arXiv 1507.05738).

    Args:
        num_frames: of each video.
        classes: the K classes.
    """

    def __init__(self, num_frames: Sequence[int], classes: Sequence[str]) -> None:
        self.classes = classes
        self.num_frames = torch.tensor(num_frames, dtype=torch.long)
        self.starts = self.num_frames.cumsum(0) - self.num_frames  # the row of each video's first frame
        frames = int(self.num_frames.sum())
        self.sums = torch.zeros(frames, len(classes) + 1)  # of each frame, and last the number of views that show it
        self.truth = torch.zeros(frames, len(classes), dtype=torch.uint8)

    def add(self, videos: Tensor, frames: Tensor, logits: Tensor, labels: Tensor) -> None:
        """One view of each of `videos`, int64 (B,): its `frames`, int64 (B, T), logits and labels 0 or 1, (B, T, K)."""
        videos = videos.cpu()
        # A file that does not decode where its header promised frames may be counted in two ways.
        inside = torch.minimum(frames.cpu(), self.num_frames[videos][:, None] - 1)
        rows = (self.starts[videos][:, None] + inside).flatten()
        counted = torch.cat([logits.detach(), logits.new_ones(*logits.shape[:2], 1)], dim=2)
        self.sums.index_add_(0, rows, counted.flatten(0, 1).cpu().float())
        self.truth[rows] = labels.flatten(0, 1).cpu().to(torch.uint8)

    def gather(self, add_up: Callable[[Tensor], Tensor]) -> None:
        """Joins what each process saw; `add_up` sums a float32 tensor over them, which every device can."""
        self.sums = add_up(self.sums).cpu()
        self.truth = (add_up(self.truth.float()).cpu() > 0).to(torch.uint8)

    def ranked(self) -> tuple[Tensor, Tensor, Tensor]:
        """Of the F frames that a view shows: the video, int64 (F,), the classes, bool (F, K), and the mean logits."""
        seen = self.sums[:, -1] > 0
        videos = torch.arange(len(self.num_frames)).repeat_interleave(self.num_frames)
        return videos[seen], self.truth[seen].bool(), self.sums[seen, :-1] / self.sums[seen, -1:]

    def figures(self) -> dict[str, Tensor]:
        """ "mAP", the mean of the average precisions of the classes that occur; empty where none does.

        Frames that no view shows are left out.
        """
        precisions = [figure["average_precision"] for figure in self._by_class().values()]
        return {"mAP": torch.tensor(precisions).mean()} if precisions else {}

    def chance(self) -> dict[str, float]:
        """What frames in random order score: the share of frames of a class, in the mean over those that occur."""
        shares = self._shares()
        return {"mAP": sum(shares.values()) / len(shares)} if shares else {}

    def details(self) -> dict[str, object]:
        """The average precision of each class that occurs, its chance, and how many frames were judged."""
        return {
            "frames": int((self.sums[:, -1] > 0).sum()),
            "frames_in_all": len(self.sums),
            "classes": self._by_class(),
        }

    def _shares(self) -> dict[str, float]:
        """The share of the frames that were seen in which each class occurs, where any does."""
        seen = self.ranked()[1]
        shares = seen.float().mean(dim=0).tolist() if len(seen) else []
        return {name: share for name, share in zip(self.classes, shares, strict=False) if share > 0}

    def _by_class(self) -> Mapping[str, Mapping[str, float]]:
        _, truth, answers = (values.numpy() for values in self.ranked())
        places = {name: place for place, name in enumerate(self.classes)}
        return {
            name: {
                # Of the logits as they are: a sigmoid in float32 makes equal what is surer than 17.
                "average_precision": float(average_precision_score(truth[:, places[name]], answers[:, places[name]])),
                "chance": share,
            }
            for name, share in self._shares().items()
        }
