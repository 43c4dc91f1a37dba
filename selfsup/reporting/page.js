// Draws the charts in the colours of the page, light or dark, and lets a row of neighbours play together.
"use strict";

function colours() {
  const style = getComputedStyle(document.documentElement);
  const grid = style.getPropertyValue("--line").trim();
  const axis = { gridcolor: grid, zerolinecolor: grid, linecolor: grid };
  return { "font.color": style.getPropertyValue("--text").trim(), xaxis: axis, yaxis: axis };
}

function draw() {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const settings = { responsive: true, displaylogo: false, displayModeBar: false };
  figures.forEach((figure, number) => {
    const place = document.getElementById("chart-" + number);
    const axes = colours();
    figure.layout.font = { color: axes["font.color"], size: 12 };
    Object.assign(figure.layout.xaxis, axes.xaxis);
    Object.assign(figure.layout.yaxis, axes.yaxis);
    Plotly.newPlot(place, figure.data, figure.layout, settings);
  });
}

function recolour() {
  const now = colours();
  const change = { "font.color": now["font.color"] };
  for (const axis of ["xaxis", "yaxis"]) {
    for (const [name, value] of Object.entries(now[axis])) change[axis + "." + name] = value;
  }
  document.querySelectorAll(".chart").forEach((place) => Plotly.relayout(place, change));
}

function play(button) {
  const videos = [...document.getElementById(button.dataset.row).querySelectorAll("video")];
  const start = videos.some((video) => video.paused);
  videos.forEach((video) => {
    if (start) {
      video.currentTime = 0;
      video.play().catch(() => {}); // a browser that will not play on its own leaves the controls
    } else {
      video.pause();
    }
  });
  button.setAttribute("aria-pressed", String(start));
}

document.querySelectorAll("button[data-row]").forEach((button) => {
  button.addEventListener("click", () => play(button));
});
if (document.getElementById("figures")) {
  draw();
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", recolour);
}
