"""The curves of a probe have the chance that was logged beside them as a line, and not as a chart of its own."""

from pathlib import Path

from selfsup.reporting.charts import curve_charts
from selfsup.reporting.run import Curve, Run


def test_a_probe_is_drawn_with_its_chance() -> None:
    run = Run(Path("runs/mine"), "mine")
    run.curves["probe/1-NN"] = Curve((0, 9), (0.2, 0.6))
    run.curves["probe/chance"] = Curve((0, 9), (0.25, 0.25))
    run.curves["val/loss"] = Curve((4, 9), (1.0, 0.5))
    charts = {chart.title: chart for chart in curve_charts([run])}
    assert sorted(charts) == ["1-NN", "loss"]
    assert [row["line"] for row in charts["1-NN"].rows] == ["probe", "chance"]
    assert charts["1-NN"].rows[1]["last"] == 0.25
    assert [shape["y0"] for shape in charts["1-NN"].figure["layout"]["shapes"]] == [0.25]
    assert "shapes" not in charts["loss"].figure["layout"]
