"""The verb on files, over HTTP and over labelled videos: what it answers, counts, writes, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch

from selfsup import classifier_weights, weights
from selfsup.classifier_weights import ClipSpecification
from selfsup.classifiers.classifier import Classifier
from selfsup.classifiers.cnn_rnn import CnnRnn
from selfsup.classifiers.depth_parallel import DepthParallelRnn
from selfsup.classifiers.frame_pooling import FramePooling
from selfsup.classifiers.skip_rnn import SkipRnn
from selfsup.classifiers.two_stream import TwoStream
from selfsup.data.clips import DenseClip
from selfsup.data.dataset import ViewDataset
from selfsup.data.index import build_index
from selfsup.data.live import FileFrames
from selfsup.data.transforms import evaluation_crops
from selfsup.encoders.encoder import Encoder, InputSpecification
from selfsup.encoders.resnet import ResNet
from selfsup.encoders.video_resnet import VideoResNet
from selfsup.evaluation.report import read_figures
from selfsup.live import LiveNetwork, steps_of
from selfsup.stream import main
from selfsup.streaming.stream import HeldFrames
from tests.data import barcodes
from tests.media import moving, write_video
from tests.served import served
from tests.verbs import Ended

Verb = Callable[..., Ended]
COUNT = 20
INPUT = InputSpecification(size_pixels=32, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.25), fps=None)
ACTIONS = ("approach", "cross", "curl", "fall", "open", "recede", "rise", "turn")


def clip_of(frames: int = 4, **changed: Any) -> ClipSpecification:
    return ClipSpecification(
        **{"num_frames": frames, "fps": None, "spread": False, "short_side_pixels": 37, "stretch": False, **changed}
    )


def saved(folder: Path, build: Callable[..., Classifier] = FramePooling, **options: Any) -> Path:
    """The folder of a run, with both files."""
    torch.manual_seed(0)
    encoder: Encoder = options.pop("encoder", None) or ResNet(18)
    classes, labels = options.pop("classes", ("jump", "pour", "wave")), options.pop("labels", "video")
    clip = options.pop("clip", clip_of())
    classifier = build(encoder, len(classes), **options)
    weights.save(encoder, folder / "encoder.safetensors", input=INPUT, task="action_recognition", data={})
    classifier_weights.save(
        classifier,
        folder / "classifier.safetensors",
        encoder=encoder,
        arguments=options,
        classes=classes,
        labels=labels,
        input=INPUT,
        clip=clip,
        task="action_recognition",
        data={},
    )
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("saved"), CnnRnn, hidden_dim=8)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("videos") / "video.mp4", moving(COUNT, side=48))


def summary_of(ended: Ended) -> dict[str, Any]:
    assert (ended.folder / "stream.json").exists(), ended.err
    summary: dict[str, Any] = json.loads((ended.folder / "stream.json").read_text())
    frames = summary["frames"]
    assert frames["produced"] == sum(frames[name] for name in ("taken", "skipped", "dropped", "waiting"))
    assert frames["taken"] == frames["encoded"] + frames["held"]
    return summary


def test_a_stream_answers_as_an_evaluation_does(run: Path, tmp_path: Path) -> None:
    """On frames of an odd shape: read, scaled, cropped and normalised by the same rules."""
    path = write_video(tmp_path / "wide.mp4", np.random.default_rng(0).integers(0, 256, (COUNT, 50, 70, 3), np.uint8))
    trained = classifier_weights.load(run / "classifier.safetensors")
    info = build_index([path], cache=tmp_path / "index.jsonl", processes=1).videos[path]
    (crop,) = evaluation_crops(32, False, 1)
    views = type("Views", (), {"views": lambda self, info: [DenseClip(COUNT)]})()
    dataset = ViewDataset([info], views, [crop], seed=0, short_side_pixels=37, backend="pyav")
    example: Any = dataset[(0, 0)]
    frames = FileFrames(path, trained.clip.short_side_pixels)
    encoder = trained.classifier.encoders()["clip"]
    steps = steps_of(trained, encoder, partial(HeldFrames, period=1))
    network = LiveNetwork(steps, trained.input, trained.clip, torch.device("cpu"), frames.fps)
    clip = trained.input.normalize(example["clip"][None])
    with torch.no_grad():
        expected = trained.classifier(clip)[0]
    for frame in frames:
        assert torch.equal(network.prepare(frame.image), clip[0, :, frame.number]), "the very pixels"
        answer = network.answer(frame.image)
        assert answer is not None
        torch.testing.assert_close(answer, expected[frame.number], rtol=1e-4, atol=1e-5)
    assert frame.number == COUNT - 1


def test_a_file_is_streamed_to_its_end(run: Path, video: Path, verb: Verb, tmp_path: Path) -> None:
    done = verb(
        main,
        f"encoder.path={run / 'encoder.safetensors'}",
        f"classifier.path={run / 'classifier.safetensors'}",
        f"source={video}",
        "method=held_frames",
        "print_every=5",
        "output=drawn/drawn.mp4",
    )
    assert done.code == 0, done.err
    summary = summary_of(done)
    assert summary["frames"] == {
        "produced": COUNT,
        "taken": COUNT,
        "skipped": 0,
        "dropped": 0,
        "waiting": 0,
        "encoded": COUNT // 2,
        "held": COUNT // 2,
    }
    assert summary["computation"] == 0.5
    assert summary["lag_frames"] == {"mean": 0.5, "most": 1}
    assert 0 < summary["latency_ms"]["median"] <= summary["latency_ms"]["p95"]
    assert (summary["method"], summary["policy"]) == ("held_frames", "block")
    lines = [line for line in done.out.splitlines() if line.startswith("frame ")]
    assert [line.split(":")[0] for line in lines] == [f"frame {number}" for number in range(0, COUNT, 5)]
    assert all(any(name in line for name in ("jump", "pour", "wave")) and "latency" in line for line in lines)
    assert "CnnRnn: with a 2-D encoder causal" in done.out
    assert "ended at the end of the source" in done.out
    with av.open(str(tmp_path / "drawn" / "drawn.mp4")) as file:
        frames = [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]
    assert len(frames) == COUNT
    assert frames[0].shape == (360, 360, 3)
    columns = frames[-1][-6:-1, -4 * COUNT :].reshape(5, COUNT, 4, 3).mean(axis=(0, 2))[::-1]  # the newest first
    green = columns[:, 1] > columns[:, 0]
    assert green.tolist() == [place % 2 == 1 for place in range(COUNT)], "every second frame was held"
    text = frames[0][:40].astype(int)
    assert text.max() > 200, "a white line with a black border"


def test_without_a_classifier_the_change_of_each_stage_is_told(run: Path, verb: Verb, tmp_path: Path) -> None:
    frames = np.concatenate([moving(5, side=48)[:1].repeat(6, axis=0), moving(10, side=48)])
    for name, count, least in (("still", 6, 0.0), ("moves", 16, 0.01)):
        path = write_video(tmp_path / f"{name}.mp4", frames[:count])
        done = verb(main, f"encoder.path={run / 'encoder.safetensors'}", f"source={path}", run=name)
        assert done.code == 0, done.err
        change = summary_of(done)["stage_change"]
        assert list(change) == ["stem", "layer1", "layer2", "layer3", "layer4"]
        assert all(value >= least for value in change.values())
        if name == "still":
            assert all(value < 0.05 for value in change.values())


def test_frames_that_a_classifier_skips_are_passed_over(video: Path, verb: Verb, tmp_path: Path) -> None:
    folder = saved(tmp_path / "saved", SkipRnn, hidden_dim=8)
    trained = classifier_weights.load(folder / "classifier.safetensors")
    assert isinstance(trained.classifier, SkipRnn)
    torch.nn.init.zeros_(trained.classifier.rnn.gate.weight)
    torch.nn.init.constant_(trained.classifier.rnn.gate.bias, -1.6)  # p = 0.168: one frame in three
    encoder = trained.classifier.encoders()["clip"]
    classifier_weights.save(
        trained.classifier,
        folder / "classifier.safetensors",
        encoder=encoder,
        arguments={"hidden_dim": 8},
        classes=trained.classes,
        labels="video",
        input=trained.input,
        clip=trained.clip,
        task="",
        data={},
    )
    for more in ((), ("output=drawn.mp4",)):
        done = verb(main, f"classifier.path={folder / 'classifier.safetensors'}", f"source={video}", *more)
        assert done.code == 0, done.err
        summary = summary_of(done)
        assert summary["frames"]["encoded"] == 7
        assert summary["frames"]["skipped"] == 13
        assert summary["computation"] == pytest.approx(7 / 20)


def test_a_classifier_that_answers_late_runs_in_the_pipeline_it_was_trained_for(
    video: Path, verb: Verb, tmp_path: Path
) -> None:
    late = saved(tmp_path / "late", DepthParallelRnn, sub_networks=3, skip_connections=True, hidden_dim=8)
    asked = (f"classifier.path={late / 'classifier.safetensors'}", f"source={video}")
    fitting = ("method=depth_parallel", "method.sub_networks=3", "method.skip_connections=true")
    done = verb(main, *asked, *fitting, "method.cut=multiply_adds")
    assert done.code == 0, done.err
    summary = json.loads((done.folder / "stream.json").read_text())
    assert summary["lag_frames"]["most"] == 2
    cure = "learned to answer late; give method=depth_parallel method.sub_networks=3 method.skip_connections=true"
    other = ("method=depth_parallel", "method.sub_networks=3")
    for wrong in ((), other, (*fitting, "method.cut=[2,3,4]")):
        done = verb(main, *asked, *wrong)
        assert done.code == 2, done.out
        assert cure in done.err


def test_a_clip_classifier_runs_on_a_sliding_clip(video: Path, verb: Verb, tmp_path: Path) -> None:
    folder = saved(tmp_path / "saved", encoder=VideoResNet("r3d_10"), clip=clip_of(5, fps=5.0))
    classifier = f"classifier.path={folder / 'classifier.safetensors'}"
    done = verb(main, classifier, f"source={video}", "method=held_frames")
    assert done.code == 0, done.err
    assert "a sliding clip of 5 frames: the middle of what an answer is about lies 4 frames behind" in done.out
    assert "it was trained on 5 frames a second: one frame in 2 is looked at" in done.out
    summary = summary_of(done)
    assert (summary["frames"]["taken"], summary["frames"]["skipped"]) == (10, 10)
    assert summary["frames"]["encoded"] == 3, "of 10 frames the 5th, 7th and 9th"


def test_a_source_over_http(run: Path, verb: Verb, tmp_path: Path) -> None:
    content = barcodes.write(tmp_path / "video.ts", range(0, 40 * COUNT, 40)).read_bytes()
    classifier = f"classifier.path={run / 'classifier.safetensors'}"
    with served(content) as url:
        done = verb(main, classifier, f"source={url}", "policy=block")
    assert done.code == 0, done.err
    assert summary_of(done)["frames"]["encoded"] == COUNT
    with served(content, pieces=3, stall_at=2) as url:
        done = verb(main, classifier, f"source={url}", "timeout_seconds=0.5", "policy=block", run="stalled")
    assert done.code == 2
    assert f"error: {url}: gave nothing for 0.5 s" in done.err
    assert summary_of(done)["ended"] == f"{url}: gave nothing for 0.5 s"
    assert 0 < summary_of(done)["frames"]["encoded"] < COUNT
    assert "latency" in done.out


def test_a_paced_file_drops_what_comes_too_fast_and_counts_it(run: Path, verb: Verb, tmp_path: Path) -> None:
    path = write_video(tmp_path / "fast.mp4", moving(200, side=48), fps=1000)
    done = verb(
        main,
        f"classifier.path={run / 'classifier.safetensors'}",
        f"source={path}",
        "realtime=true",
        "queue_frames=2",
    )
    assert done.code == 0, done.err
    summary = summary_of(done)
    assert summary["policy"] == "drop_oldest"
    assert summary["frames"]["produced"] == 200
    assert summary["frames"]["dropped"] > 0
    assert summary["frames"]["taken"] + summary["frames"]["dropped"] == 200


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_with_the_summary(number: int, run: Path, video: Path, verb: Verb) -> None:
    """The source is endless; the signal comes once the stream is under way."""
    before = signal.getsignal(number)

    def send() -> None:
        for _ in range(3000):
            if signal.getsignal(number) is not before:
                break
            threading.Event().wait(0.01)
        threading.Event().wait(0.2)
        os.kill(os.getpid(), number)

    sender = threading.Thread(target=send)
    sender.start()
    done = verb(main, f"classifier.path={run / 'classifier.safetensors'}", f"source={video}", "loop=true")
    sender.join()
    assert done.code == 128 + number
    assert summary_of(done)["ended"] == f"by {signal.Signals(number).name}"
    assert f"ended by {signal.Signals(number).name}" in done.out
    assert signal.getsignal(number) is before


def test_a_looped_file_ends_at_max_frames(run: Path, video: Path, verb: Verb) -> None:
    done = verb(
        main, f"classifier.path={run / 'classifier.safetensors'}", f"source={video}", "loop=true", "max_frames=47"
    )
    assert done.code == 0, done.err
    assert summary_of(done)["frames"]["encoded"] == 47


def test_what_cannot_run_is_one_sentence(run: Path, video: Path, verb: Verb, tmp_path: Path) -> None:
    classifier, source = f"classifier.path={run / 'classifier.safetensors'}", f"source={video}"
    other = saved(tmp_path / "other", encoder=ResNet(18, in_channels=3))
    torch.manual_seed(5)
    weights.save(ResNet(18), other / "encoder.safetensors", input=INPUT, task="other", data={})
    flow = saved(tmp_path / "flow", TwoStream, flow_frames=1)
    clips = saved(tmp_path / "clips", encoder=VideoResNet("r3d_10"))
    (tmp_path / "conf").mkdir()
    text = tmp_path / "text.mp4"
    text.write_text("no video")
    for words, said in [
        ((source,), "no network: give encoder.path"),
        ((classifier,), "no source: give source=FILE"),
        ((classifier, f"source={tmp_path / 'absent.mp4'}"), "absent.mp4: no such file"),
        ((classifier, f"source={text}"), "text.mp4: cannot be opened as a video"),
        ((classifier, f"source={text}", "policy=wait"), "text.mp4"),
        ((classifier, source, "policy=wait"), "policy is 'wait'; give drop_oldest or block"),
        ((classifier, source, "queue_frames=0"), "queue_frames is 0"),
        ((classifier, source, "print_every=0"), "print_every is 0"),
        ((classifier, source, "method.period=0"), "method.period is 0"),
        ((classifier, source, "output=drawn.xyz"), "drawn.xyz: cannot be written as a video"),
        ((classifier, source, f"encoder.path={other / 'encoder.safetensors'}"), "hold different encoders"),
        ((f"classifier.path={run / 'encoder.safetensors'}", source), "no description of a classifier"),
        ((f"classifier.path={flow / 'classifier.safetensors'}", source), "TwoStream does not run live: not live"),
        ((f"encoder.path={clips / 'encoder.safetensors'}", source), "VideoResNet looks at whole clips"),
        ((f"encoder.path={run / 'encoder.safetensors'}", "report=true"), "accuracy wants a classifier"),
    ]:
        done = verb(main, *words)
        assert done.code == 2, (words, done.out, done.err)
        assert "Traceback" not in done.err
        (line,) = [line for line in done.err.splitlines() if line.startswith("error:")]
        assert said in line


def test_help_says_which_classifiers_run_live(command: Verb) -> None:
    done = command(main, "--help")
    assert done.code == 0
    for name in ("CnnRnn: with a 2-D encoder causal", "I3D: not causal", "TwoStream: not live", "every_frame"):
        assert name in done.out


# Over a labelled data set


def test_a_report_wants_files(verb: Verb, run: Path, packed_synthetic: Path) -> None:
    source = ("data=shards", f"data.root={packed_synthetic}", "data.size_pixels=32", "data.num_workers=0")
    done = verb(main, f"classifier.path={run / 'classifier.safetensors'}", "report=true", *source)
    assert (done.code, done.err.count("error:")) == (2, 1)
    assert "a stream reads files, and these videos are packed; give the data they come from" in done.err


def report(verb: Verb, run: Path, manifest: Path, index: Path, *more: str) -> Ended:
    return verb(
        main,
        f"classifier.path={run / 'classifier.safetensors'}",
        "report=true",
        "data=manifest",
        f"data.manifest={manifest}",
        f"data.index_cache={index}",
        "data.index_processes=1",
        *more,
    )


def test_a_report_has_a_point_for_each_method(
    tmp_path: Path, synthetic_manifest: Path, synthetic_index: Path, verb: Verb
) -> None:
    folder = saved(tmp_path / "saved", pooling="none", classes=classes_of(synthetic_manifest))
    methods = "methods=[every_frame,held_frames,'held_frames period=48']"
    done = report(verb, folder, synthetic_manifest, synthetic_index, methods)
    assert done.code == 0, done.err
    content = json.loads((done.folder / "report.json").read_text())
    curve = {row["method"]: row for row in content["curve"]}
    assert [row["computation"] for row in curve.values()] == pytest.approx([1, 1 / 2, 1 / 48])
    assert curve["every_frame"]["frames"] == {"encoded": 4 * 48, "held": 0, "skipped": 0}
    figures = {figure.name: figure for figure in read_figures(done.folder / "report.json")}
    for name in curve:
        figure = figures[f"accuracy, {name}"]
        assert figure.interval is not None
        assert figure.value == curve[name]["accuracy"]
        assert figure.protocol.videos_seen == 4
        assert figure.protocol.split == "test"
        assert figure.chance == 0.25, "four test videos of four actions"
    assert f"| held_frames period=48 | {curve['held_frames period=48']['accuracy']:.1%} |" in done.out
    assert (done.folder / "report.png").stat().st_size > 5000
    assert "| every_frame |" in (done.folder / "report.md").read_text()
    # By hand: the share of the frames of each video that are told rightly.
    trained = classifier_weights.load(folder / "classifier.safetensors")
    answers = figures["accuracy, every_frame"].answers
    assert answers is not None
    for name, share in zip(answers.videos, answers.correct, strict=True):
        path = next(synthetic_manifest.parent.rglob(Path(name).name))
        frames = FileFrames(path, trained.clip.short_side_pixels)
        (crop,) = evaluation_crops(32, False, 1)
        clip = torch.from_numpy(np.stack([frame.image for frame in frames])).permute(0, 3, 1, 2)
        with torch.no_grad():
            logits = trained.classifier(trained.input.normalize(crop(clip).transpose(0, 1)[None]))[0]
        right = (logits.argmax(dim=1) == trained.classes.index(path.parent.name)).float().mean()
        assert share == pytest.approx(float(right))


def classes_of(manifest: Path) -> tuple[str, ...]:
    return tuple(sorted({line.split(",")[1] for line in manifest.read_text().splitlines()[1:]}))


def test_labels_of_frames_are_held_against_the_answer_at_each_frame(
    tmp_path: Path, synthetic_manifest: Path, synthetic_index: Path, verb: Verb
) -> None:
    """The label changes midway; a classifier that always says the first class is right in the first half."""
    videos = sorted(synthetic_manifest.parent.rglob("*.mp4"))[:8]
    rows = ["path,start,stop,label,split"]
    for number, video in enumerate(videos):
        split = "test" if number < 4 else "train"
        rows += [f"{video},0,1.2,early,{split}", f"{video},1.2,2.0,late,{split}"]  # 24 frames, 16, and 8 without label
    manifest = tmp_path / "spans.csv"
    manifest.write_text("\n".join(rows) + "\n")
    folder = saved(tmp_path / "saved", pooling="none", classes=("early", "late"), labels="frame")
    trained = classifier_weights.load(folder / "classifier.safetensors")
    assert isinstance(trained.classifier, FramePooling)
    torch.nn.init.zeros_(trained.classifier.head[1].weight)  # type: ignore[arg-type]
    trained.classifier.head[1].bias.data = torch.tensor([1.0, 0.0])  # type: ignore[union-attr]
    classifier_weights.save(
        trained.classifier,
        folder / "classifier.safetensors",
        encoder=trained.classifier.encoder,
        arguments={"pooling": "none"},
        classes=trained.classes,
        labels="frame",
        input=trained.input,
        clip=trained.clip,
        task="",
        data={},
    )
    done = report(verb, folder, manifest, synthetic_index, "data.labels=frame")
    assert done.code == 0, done.err
    (figure,) = read_figures(done.folder / "report.json")
    assert figure.value == pytest.approx(24 / 40)
    assert figure.chance == pytest.approx(24 / 40)


def test_a_report_that_cannot_be_is_one_sentence(
    run: Path, tmp_path: Path, synthetic_manifest: Path, synthetic_index: Path, verb: Verb
) -> None:
    known = saved(tmp_path / "known", classes=classes_of(synthetic_manifest))
    unlabelled = tmp_path / "unlabelled.csv"
    unlabelled.write_text("path\n" + "".join(f"{path}\n" for path in synthetic_manifest.parent.rglob("*.mp4")))
    for folder, more, said in [
        (run, (), "classes that the classifier does not know"),
        (known, (f"data.manifest={unlabelled}",), "no label, and others may lack one too"),
        (known, ("methods=[clock]",), "methods: there is no 'clock'; give some of clockwork, depth_parallel"),
        (known, ("methods=['held_frames perod=2']",), "names a key that held_frames does not have; it has period"),
    ]:
        done = report(verb, folder, synthetic_manifest, synthetic_index, *more)
        assert done.code == 2, done.out
        assert said in done.err
        assert "Traceback" not in done.err
