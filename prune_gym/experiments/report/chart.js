"use strict";
// Drawing: SVG elements, axes with round numbers, marks of the runs.

const MARKS = [
  "M-5,0A5,5 0 1 1 5,0A5,5 0 1 1 -5,0Z", "M-4.5,-4.5H4.5V4.5H-4.5Z", "M0,-6L5.5,4.5H-5.5Z",
  "M0,-6.5L6,0L0,6.5L-6,0Z", "M0,6L5.5,-4.5H-5.5Z",
];
const STAR = "M0,-9L2.6,-2.9L9,-2.6L4,1.7L5.7,8L0,4.4L-5.7,8L-4,1.7L-9,-2.6L-2.6,-2.9Z";
const SQUARE = "M-3.5,-3.5h7v7h-7Z";
const DASHES = ["", "7 3", "2 3", "9 3 2 3", "4 4"];

function element(name, attributes = {}, ...children) {
  const space = ["svg", "g", "path", "line", "text", "circle", "title"].includes(name);
  const made = space ? document.createElementNS("http://www.w3.org/2000/svg", name)
    : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

const colour = (run) => `--run: var(--run-${run % MARKS.length})`;

function roundNumbers(low, high, about) {
  const raw = (high - low) / about, power = 10 ** Math.floor(Math.log10(raw));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= raw);
  const ticks = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) ticks.push(i * step);
  const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  return ticks.map((value) => ({ value, text: value.toFixed(digits) }));
}

// Empties the SVG, draws both axes, and returns the functions from values to pixels.
function drawAxes(svg, { x, y, xLabel, yLabel, margin = 0.05 }) {
  const { width, height } = svg.getBoundingClientRect();
  const left = 46, right = width - 12, top = 26, bottom = height - 42;
  svg.replaceChildren();
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  const axis = (values, from, to) => {
    const least = Math.min(...values), most = Math.max(...values);
    const room = (most - least || Math.abs(most) || 1) * margin, low = least - room;
    return [low, most + room, (value) => from + (to - from) * (value - low) / (most + room - low)];
  };
  const [xLow, xHigh, toX] = axis(x, left, right), [yLow, yHigh, toY] = axis(y, bottom, top);
  for (const { value, text } of roundNumbers(xLow, xHigh, width / 90)) {
    svg.append(
      element("line", { class: "axis", x1: toX(value), x2: toX(value), y1: top, y2: bottom }),
      element("text", { x: toX(value), y: bottom + 17, "text-anchor": "middle" }, text));
  }
  for (const { value, text } of roundNumbers(yLow, yHigh, 6)) {
    svg.append(
      element("line", { class: "axis", x1: left, x2: right, y1: toY(value), y2: toY(value) }),
      element("text", { x: left - 6, y: toY(value) + 4, "text-anchor": "end" }, text));
  }
  svg.append(
    element("text", { x: right, y: bottom + 36, "text-anchor": "end" }, xLabel),
    element("text", { x: 0, y: 13 }, yLabel));
  return { toX, toY };
}

// Values over the number of finished episodes, one line a run. The first tenth, where all of them
// rise from nothing, is left out, so that later differences are seen.
function drawCurves(svg, runs, key, label) {
  const first = (run) => Math.floor(run[key].length / 10);
  const { toX, toY } = drawAxes(svg, {
    x: [0, ...runs.map((run) => run[key].length)],
    y: runs.flatMap((run) => run[key].slice(first(run))),
    xLabel: "finished episodes", yLabel: label, margin: 0.02,
  });
  runs.forEach((run, index) => {
    const steps = run[key].map((value, i) => `${toX(i + 1)},${toY(value)}`).slice(first(run));
    svg.append(element("path", {
      class: "curve", style: colour(index), "stroke-dasharray": DASHES[index % DASHES.length],
      d: steps.length > 1 ? `M${steps.join("L")}` : `M${steps[0]}h4`,
    }));
  });
}

function legendMark(path, attributes) {
  return element("svg", { viewBox: "-10 -10 20 20", "aria-hidden": "true" },
    element("path", { d: path, ...attributes }));
}
