"""`selfsup report`: a page of real runs, opened in a real browser."""

from __future__ import annotations

import csv
import json
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from selfsup import evaluate, report, train
from selfsup.evaluation.report import read_figures
from tests.browser import chromium, complaints, scheme, show
from tests.verbs import Ended, call

pytest.importorskip("plotly", reason="plotly is not installed: pip install 'selfsup[report]'")

SMALL = (
    "trainer=debug",
    "+trainer.enable_progress_bar=false",
    "data.size_pixels=32",
    "data.batch_size=4",
    "data.num_workers=0",
    "data.index_processes=1",
)
HOSTILE = "<script>window.owned=1</script><img src=x onerror=window.owned=1>\"'&amp;"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, synthetic_manifest: Path, synthetic_index: Path) -> Path:
    """Runs called first and second, each of three steps, and evaluations of their encoders."""
    folder = tmp_path_factory.mktemp("runs")
    data = ("data=manifest", f"data.manifest={synthetic_manifest}", f"data.index_cache={synthetic_index}", *SMALL)
    for seed, name in enumerate(("first", "second")):
        where = f"hydra.run.dir={folder / name}"
        steps = ("trainer.max_epochs=3", "pictures.every_epochs=1", "++trainer.log_every_n_steps=1")
        assert call(train.main, *data, *steps, f"seed={seed}", where) == 0
        path = f"encoder.path={folder / name / 'encoder.safetensors'}"
        more = ("finetune_fractions=null", "clips.training.num_segments=2")
        assert call(evaluate.main, *data, path, *more, f"{where}-evaluated") == 0
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as driver:
        yield driver


@pytest.fixture
def page(command: Callable[..., Ended], tmp_path: Path) -> Callable[..., Path]:
    """The page that the verb writes of these folders."""

    def write(*words: str | Path) -> Path:
        ended = command(report.main, *map(str, words), "hydra.run.dir=reported")
        assert ended.code == 0, ended.err
        return tmp_path / "reported" / "report.html"

    return write


def test_the_page_holds_what_the_runs_hold(runs: Path, page: Callable[..., Path]) -> None:
    text = page(runs / "first", runs / "first-evaluated").read_text(encoding="utf-8")
    for figure in read_figures(runs / "first-evaluated" / "evaluation.json"):
        assert figure.name in text
        if figure.interval is not None:
            assert f"{100 * figure.value:.1f} %<small>{100 * figure.interval.low:.1f} % to" in text
    (figures,) = re.findall(r'id="figures">(.*?)</script>', text, re.DOTALL)
    lines = {line["name"]: line for figure in json.loads(figures) for line in figure["data"]}
    with open(runs / "first" / "metrics.csv", encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["val/loss"]]
    values = [line["y"] for figure in json.loads(figures) for line in figure["data"] if line["name"].endswith("val")]
    assert [float(row["val/loss"]) for row in rows] in values
    assert {"first, train", "first, val"} <= set(lines)
    assert text.count('src="data:video/mp4;base64,') == 4 * 5, "four queries and four neighbours each"
    assert "chance 0.5" in figures
    command = re.search(r'<pre class="command".*?>(.*?)</pre>', text, re.DOTALL)
    assert command is not None
    assert command[1].startswith("selfsup train data=manifest")


def test_the_page_needs_no_network(runs: Path, page: Callable[..., Path]) -> None:
    text = page(runs / "first").read_text(encoding="utf-8")
    text = re.sub(r"<script>.*?</script>", "", text, flags=re.DOTALL)
    assert re.findall(r'(?:src|href)="(?!data:|#)', text) == []
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="(.*?)"', text)
    assert policy.startswith("default-src &#39;none&#39;; script-src &#39;sha256-")
    assert "unsafe-eval" not in policy


def test_the_page_works_in_a_browser(runs: Path, page: Callable[..., Path], browser: Any) -> None:
    path = page(runs / "first", runs / "second", runs / "first-evaluated", runs / "second-evaluated")
    show(browser, path)
    drawn = browser.execute_script(
        "return document.querySelectorAll('.chart svg.main-svg .scatterlayer .js-line').length"
    )
    assert drawn >= 8, "accuracy and loss, of train and val, of two runs"
    assert browser.execute_script("return getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    light = ink(browser)
    scheme(browser, dark=True)
    assert browser.execute_script("return getComputedStyle(document.body).backgroundColor") == "rgb(15, 19, 23)"
    until(lambda: ink(browser) != light, "the charts change their colours with the page")
    show(browser, path, width=375, dark=True)
    wide = browser.execute_script("return document.documentElement.scrollWidth")
    assert wide <= 375, "a phone shows the page without sideways scrolling"
    fetched = browser.execute_script("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert [name for name in fetched if not name.startswith("data:")] == []
    assert complaints(browser) == []


def test_neighbours_play_by_the_keyboard(runs: Path, page: Callable[..., Path], browser: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    show(browser, page(runs / "first-evaluated"))
    focus = browser.switch_to.active_element
    for _ in range(40):  # far fewer elements come before
        focus.send_keys(Keys.TAB)
        focus = browser.switch_to.active_element
        if focus.get_attribute("data-row"):
            break
    assert focus.tag_name == "button"
    focus.send_keys(Keys.ENTER)
    times = (
        "return [...document.querySelectorAll('.row')[0].querySelectorAll('video')].map((video) => video.currentTime)"
    )
    until(lambda: all(seconds > 0.2 for seconds in browser.execute_script(times)), "five videos play")
    focus.send_keys(Keys.ENTER)
    paused = "return [...document.querySelectorAll('video')].every((video) => video.paused)"
    assert browser.execute_script(paused)
    assert complaints(browser) == []


def test_a_long_name_widens_no_neighbour(runs: Path, page: Callable[..., Path], browser: Any, tmp_path: Path) -> None:
    copy = tmp_path / "long"
    shutil.copytree(runs / "first-evaluated", copy)
    record = copy / "pictures" / "neighbours" / "neighbours.json"
    tables = json.loads(record.read_text(encoding="utf-8"))
    tables[0]["rows"][0][0]["caption"] = f"{'a_name_without_a_break' * 8}.avi"
    record.write_text(json.dumps(tables), encoding="utf-8")
    show(browser, page(copy))
    widths = "return [...document.querySelectorAll('.cell')].map((cell) => cell.offsetWidth)"
    assert len(set(browser.execute_script(widths))) == 1
    inside = "return [...document.querySelectorAll('.cell')].every((cell) => cell.scrollWidth <= cell.clientWidth)"
    assert browser.execute_script(inside), "and no name runs into the next"


def test_no_text_of_a_run_becomes_a_script(runs: Path, page: Callable[..., Path], browser: Any, tmp_path: Path) -> None:
    copy = tmp_path / HOSTILE.replace("/", "")
    shutil.copytree(runs / "first", copy)
    shutil.copytree(runs / "first-evaluated" / "pictures", copy / "pictures", dirs_exist_ok=True)
    shutil.copy(runs / "first-evaluated" / "evaluation.json", copy)
    for name in ("evaluation.json", "pictures/neighbours/neighbours.json", "metrics.csv", "config/config.yaml"):
        text = (copy / name).read_text(encoding="utf-8")
        spoiled = json.dumps(HOSTILE)[1:-1] if name.endswith("json") else HOSTILE.replace('"', "").replace("'", "")
        for word in ("linear probe", "bloom", "train/loss", "size_pixels", "pyav", "Nearest"):
            text = text.replace(word, f"{word}{spoiled}")
        (copy / name).write_text(text, encoding="utf-8")
    summary = json.loads((copy / "summary.json").read_text(encoding="utf-8"))
    summary.update(task=HOSTILE, notes=[HOSTILE], quarantined=[{"path": HOSTILE, "split": HOSTILE, "reason": HOSTILE}])
    summary["data"][HOSTILE] = 1
    (copy / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    (copy / "left_out.json").write_text(json.dumps([{"path": HOSTILE, "reason": HOSTILE}]), encoding="utf-8")
    (copy / "train.log").write_text(HOSTILE, encoding="utf-8")
    (copy / "environment.json").write_text(json.dumps({HOSTILE: HOSTILE}), encoding="utf-8")
    shutil.copy(next((copy / "pictures").rglob("*.mp4")), copy / "pictures" / f"{HOSTILE.replace('/', '')}.mp4")
    path = page(copy, runs / "second")
    text = path.read_text(encoding="utf-8")
    assert text.count("window.owned") > 20
    assert "<script>window" not in text
    assert "<img src=x" not in text
    show(browser, path)
    time.sleep(0.5)
    assert browser.execute_script("return window.owned") is None
    assert complaints(browser) == []


def test_a_damaged_run_is_reported_with_remarks(
    runs: Path, tmp_path: Path, command: Callable[..., Ended], browser: Any
) -> None:
    copy = Path(shutil.copytree(runs / "first", tmp_path / "damaged"))
    (copy / "metrics.csv").unlink()
    text = (copy / "summary.json").read_text(encoding="utf-8")
    (copy / "summary.json").write_text(text[: len(text) // 2], encoding="utf-8")
    ended = command(report.main, "damaged", "hydra.run.dir=reported")
    assert ended.code == 0, ended.err
    assert "damaged: summary.json is damaged and was left out (" in ended.out
    assert "damaged: metrics.csv is missing; no curves" in ended.out
    page = tmp_path / "reported" / "report.html"
    assert "No video was left out." in page.read_text(encoding="utf-8")
    (copy / "left_out.json").write_text("[", encoding="utf-8")
    assert command(report.main, "damaged", "hydra.run.dir=reported").code == 0
    assert "No video was left out." not in page.read_text(encoding="utf-8"), "that is not known now"
    show(browser, page)
    assert "metrics.csv is missing" in browser.find_element("css selector", ".remarks").text
    assert complaints(browser) == []


def test_what_cannot_be_reported_is_refused_in_one_sentence(runs: Path, command: Callable[..., Ended]) -> None:
    for words, sentence in (
        ((), "no value for runs; give one, as in runs=VALUE"),
        (("nowhere",), "nowhere: no such folder"),
        ((str(runs),), f"{runs}: no run, but it holds 4: first, first-evaluated, second, second-evaluated; name those"),
        ((str(runs / "first"), str(runs / "first")), "named twice; give each run once"),
        (("runs=[]",), "runs=[]: name one folder of a run or more"),
        ((str(runs / "first"), "media_megabytes=-1"), "media_megabytes=-1: give 0 for a page without pictures"),
    ):
        ended = command(report.main, *words, "hydra.run.dir=reported")
        assert ended.code == 2, words
        assert f"error: {sentence}" in ended.err or sentence in ended.err
        assert "Traceback" not in ended.err


def test_folders_with_any_name_can_be_given(runs: Path, tmp_path: Path, page: Callable[..., Path]) -> None:
    for name in ("a b", "it's", "[x,y]", "back\\slash"):
        shutil.copytree(runs / "first", tmp_path / name, ignore=shutil.ignore_patterns("*.ckpt", "*.safetensors"))
        assert f"<title>{name}".replace("'", "&#39;") in page(name).read_text(encoding="utf-8")


def test_a_page_without_room_names_what_it_left_out(runs: Path, page: Callable[..., Path]) -> None:
    text = page(runs / "first-evaluated", "media_megabytes=0").read_text(encoding="utf-8")
    assert "data:video" not in text
    assert "20 files found no room on this page; raise media_megabytes" in text
    assert "left out, for room" in text


def ink(browser: Any) -> str:
    """The colour of the text of the first chart."""
    return browser.execute_script("return getComputedStyle(document.querySelector('.chart .xtick text')).fill")


def until(holds: Callable[[], bool], what: str) -> None:
    """Waits, a few seconds at most."""
    for _ in range(50):
        if holds():
            return
        time.sleep(0.1)
    raise AssertionError(what)
