// The page: which point is shown and which is kept, and everything that follows from it.

const data = JSON.parse(document.getElementById("data").textContent);
const find = (id) => document.getElementById(id);
const points = data.runs.flatMap((run, index) =>
  run.front.map((point) => ({ ...point, run, index, full: data.runs.length > 1 ? `${run.name}: ${point.name}` : point.name })));
let kept = points[data.start], shown = kept;
const axes = { x: Math.min(1, data.objectives.length - 1), y: 0 };

const numbers = (point) => data.metrics.map((name, i) => `${name} ${point.text[i]}`).join(", ");
const scaled = (values, axis) => values[axes[axis]] / data.objectives[axes[axis]].scale;

function row(cells, heading = false) {
  const made = cells.map((text, i) =>
    element(heading || i === 0 ? "th" : "td", { scope: heading ? "col" : "row" }, text));
  for (const cell of made) if (cell.tagName === "TD") cell.removeAttribute("scope");
  return element("tr", {}, ...made);
}

function fillTable(id, head, rows) {
  find(id).replaceChildren(element("thead", {}, row(head, true)), element("tbody", {}, ...rows));
}

function drawFront() {
  const svg = find("front"), focused = svg.contains(document.activeElement);
  const everything = [data.original.values, ...data.uniform,
    ...data.runs.flatMap((run) => [...run.evaluated, ...run.front.map((point) => point.values)])];
  const { toX, toY } = drawAxes(svg, {
    x: everything.map((values) => scaled(values, "x")),
    y: everything.map((values) => scaled(values, "y")),
    xLabel: data.objectives[axes.x].label, yLabel: data.objectives[axes.y].label,
  });
  const place = (values) => [toX(scaled(values, "x")), toY(scaled(values, "y"))];
  for (const run of data.runs) {
    for (const values of run.evaluated) {
      const [cx, cy] = place(values);
      svg.append(element("circle", { class: "dot", cx, cy, r: 3 }));
    }
  }
  if (data.uniform.length) {
    const line = data.uniform.map(place).sort((a, b) => a[0] - b[0]);
    svg.append(element("path", { class: "uniform", d: `M${line.join("L")}` }));
    for (const at of line) svg.append(element("path", { class: "uniform", d: SQUARE, transform: `translate(${at})` }));
  }
  const [x, y] = place(data.original.values), leftwards = x > svg.getBoundingClientRect().width / 2;
  svg.append(element("path", { class: "original", d: STAR, transform: `translate(${x},${y})` }),
    element("text", { class: "original", x: x + (leftwards ? 9 : -9), y: y - 14, "text-anchor": leftwards ? "end" : "start" }, "original"));
  for (const point of points) svg.append(point.node = drawPoint(point, place(point.values)));
  if (focused) shown.node.focus();
}

function drawPoint(point, [x, y]) {
  const node = element("g", {
    class: "point", style: colour(point.index), transform: `translate(${x},${y})`, role: "button",
    "aria-label": `${point.full}: ${numbers(point)}`,
  }, element("circle", { class: "hit", r: 12 }), element("circle", { class: "ring", r: 10 }),
  element("path", { class: "mark", d: MARKS[point.index % MARKS.length] }));
  node.addEventListener("pointerenter", () => show(point));
  node.addEventListener("pointerleave", () => show(kept));
  node.addEventListener("focus", () => show(point));
  node.addEventListener("blur", () => show(kept));
  node.addEventListener("click", () => keep(point));
  node.addEventListener("keydown", (event) => onKey(event, point));
  return node;
}

// Enter keeps a point, arrows go to its neighbours along the horizontal axis.
function onKey(event, point) {
  const steps = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 };
  if (event.key === "Enter" || event.key === " ") {
    keep(point);
  } else if (event.key in steps) {
    const order = [...points].sort((a, b) => scaled(a.values, "x") - scaled(b.values, "x"));
    const next = order[order.indexOf(point) + steps[event.key]];
    if (next) next.node.focus();
  } else return;
  event.preventDefault();
}

function keep(point) {
  kept = point;
  show(point);
}

function show(point) {
  shown = point;
  for (const each of points) {
    each.node.classList.toggle("shown", each === shown);
    each.node.setAttribute("aria-pressed", each === kept);
    each.node.setAttribute("tabindex", each === kept ? 0 : -1); // one stop of the Tab key
  }
  find("strategy").setAttribute("style", colour(point.index));
  find("strategy-name").textContent = point.full;
  find("summary").textContent = data.objectives
    .map(({ name, column }) => `${name} ${point.text[column]} (${point.change[column]})`).join(" · ");
  drawBars(point);
  fillTable("comparison", ["", "original", "strategy", "change"], data.metrics.map((name, i) =>
    row([name, data.original.text[i], point.text[i], point.change[i]])));
  find("compared").textContent = `${point.full} against the original network`;
  find("take").replaceChildren(...point.commands.flatMap(([purpose, command]) => copied(purpose, command)));
}

function drawBars(point) {
  const kinds = new Map();
  point.run.decisions.forEach(([kind, name, of], i) => {
    if (!kinds.has(kind)) kinds.set(kind, [element("h4", {}, `${kind.replaceAll("_", " ")} kept`)]);
    const value = point.decisions[i];
    const filled = element("span", { style: `width: ${100 * (value ?? 0) / of}%` });
    kinds.get(kind).push(element("div", { class: "bar" },
      element("span", { title: name }, element("bdi", {}, name)),
      element("span", { class: "track", "aria-hidden": "true" }, filled),
      element("span", {}, value === null ? "block skipped" : `${value} of ${of}`)));
  });
  find("bars").replaceChildren(...[...kinds.values()].flat());
}

function drawAll() {
  drawFront();
  drawCurves(find("hypervolume"), data.runs, "hypervolume", "hypervolume");
  drawCurves(find("reward"), data.runs, "reward", "best reward so far");
  show(shown);
}

// A command with a button that copies it.
function copied(purpose, command) {
  const code = element("code", {}, command), status = element("span", { role: "status", class: "hint" });
  const button = element("button", { type: "button", "aria-label": `Copy: ${command}` }, "Copy");
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(command);
      status.textContent = "Copied.";
    } catch {
      getSelection().selectAllChildren(code);
      status.textContent = "This page may not copy: the command is selected, press Ctrl+C.";
    }
  });
  return [element("h4", {}, purpose), element("div", { class: "command" }, code, button, status)];
}

function fillOnce() {
  for (const axis of ["x", "y"]) {
    find(axis).append(...data.objectives.map(({ name }, i) => element("option", { value: i }, name)));
    find(axis).value = axes[axis];
    find(axis).addEventListener("change", (event) => {
      axes[axis] = Number(event.target.value);
      drawAll();
    });
  }
  find("runs").append(...data.runs.map((run) => {
    const state = run.episodes < run.planned ? `${run.episodes} of ${run.planned} strategies evaluated so far` : `${run.episodes} strategies evaluated`;
    const item = element("li", {}, `${run.name} (${run.agent}): ${state}, ${run.front.length} on the front, hypervolume ${run.hypervolume.at(-1).toFixed(4)}`);
    item.append(...run.warnings.map((text) => element("div", { class: "warning" }, text)));
    return item;
  }));
  const entry = (mark, text) => element("li", {}, mark, text);
  find("legend").append(
    ...data.runs.map((run, i) => entry(legendMark(MARKS[i % MARKS.length], { fill: "var(--run)", style: colour(i) }), data.runs.length > 1 ? `front of ${run.name}` : "front")),
    entry(legendMark(MARKS[0], { class: "dot" }), "evaluated, not on the front"),
    ...(data.uniform.length ? [entry(legendMark("M-10,0H10" + SQUARE, { class: "uniform" }), "uniform sweep (every decision alike), beside the search")] : []),
    entry(legendMark(STAR, { class: "original" }), "original network"));
  find("hypervolume-caption").textContent = "Hypervolume: how much of the space of trade-offs the front covers, from 0 to 1; higher is better. " + names();
  find("reward-caption").textContent = `Best weighted reward: accuracy and the shares of the costs that were saved, weighted by ${data.priorities}; higher is better. ` + names();
  fillTable("all", ["strategy", ...data.metrics], [
    row(["original", ...data.original.text]), ...points.map((point) => row([point.full, ...point.text]))]);
  find("commands").append(...data.runs.flatMap((run) => copied(data.runs.length > 1 ? run.name : "The run", run.command)));
  fillTable("versions", ["made with", ...data.runs.map((run) => data.runs.length > 1 ? run.name : "this run"), "this page"],
    Object.keys(data.versions).map((name) => row([name, ...data.runs.map((run) => run.versions[name] || "not recorded"), data.versions[name]])));
}

function names() {
  const kinds = ["solid", "dashed", "dotted", "dash-dotted", "short-dashed"];
  return data.runs.length < 2 ? "" : data.runs.map((run, i) => `${run.name}: ${kinds[i % kinds.length]}`).join("; ") + ".";
}

fillOnce();
drawAll();
addEventListener("resize", drawAll);
