"""Self-supervised pretraining for video: clips, encoders, tasks, evaluation."""

__version__ = "0.1.0"
