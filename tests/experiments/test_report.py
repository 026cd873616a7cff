import html
import json
import re
import shlex
import shutil
import subprocess
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from nets import make

from prune_gym import cli
from prune_gym.cli.train import run_config
from prune_gym.envs.make import compression_env
from prune_gym.experiments.commands import commands_of, train_command
from prune_gym.experiments.folder import RunFolder
from prune_gym.experiments.provenance import PACKAGES, about
from prune_gym.experiments.record import RecordRun
from prune_gym.experiments.report.page import page_data, report_page
from prune_gym.experiments.results import read_results

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking")
SCREENS = (1200, 500, 390)
OPTIONS = ["--objectives", "accuracy,flops,params,memory", "--episodes", "12"]
# What is done to the page in the browser; what comes of it is written into the outer page.
VISIT = """
const text = (id) => document.getElementById(id).textContent;
const all = (selector) => [...document.querySelectorAll(selector)];
const cells = (id) => [...document.getElementById(id).rows].map((row) =>
  [...row.cells].map((cell) => cell.textContent));
const label = () => document.activeElement.getAttribute("aria-label");
const found = {
  width: innerWidth, content: document.documentElement.scrollWidth,
  dots: all("#front .dot").length, points: all("#front .point").length,
  uniform: all("#front path.uniform").length, legend: text("legend"),
  stops: all("#front .point[tabindex='0']").length, originals: all("#front path.original").length,
  curves: all("path.curve").map((curve) => curve.getAttribute("d").split(",").length - 1),
  comparison: cells("comparison"), table: cells("all"), versions: cells("versions"),
  hidden: all(".wide:has(#comparison)").map((box) => box.scrollWidth - box.clientWidth),
  commands: all("#commands code").map((code) => code.textContent),
  start: text("strategy-name"), runs: text("runs"),
};
const last = all("#front .point").at(-1);
last.dispatchEvent(new PointerEvent("pointerenter"));
found.hovered = text("strategy-name");
last.dispatchEvent(new PointerEvent("pointerleave"));
found.left = text("strategy-name");
last.dispatchEvent(new MouseEvent("click"));
last.dispatchEvent(new PointerEvent("pointerleave"));
found.clicked = text("strategy-name");
found.take = all("#take code").map((code) => code.textContent);
all("#take button")[0].click();
found.bars = all(".bar").map((bar) => bar.textContent);
last.focus();
last.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowRight" }));
found.right = label();
document.activeElement.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter" }));
found.entered = text("strategy-name");
const across = document.getElementById("x");
across.value = 3;
across.dispatchEvent(new Event("change"));
found.axes = all("#front text").map((node) => node.textContent)
  .filter((label) => label.includes("["));
found.after = all("#front .point").length;
found.errors = errors;
parent.document.getElementById("found").textContent += JSON.stringify(found) + "\\n";
"""


def parsed(words):
    """Return what `prune-gym train` makes of its options."""
    return cli.make_parser().parse_args(["train", *words])


def record(folder, task, options=(), *, seed=0, finished=True):
    """Record a run of random strategies of the tiny network as train.py would."""
    arguments = parsed([*OPTIONS, "--agent", "random", *options])
    env = RecordRun(compression_env(**task), RunFolder(folder, run_config(arguments), False))
    rng = np.random.default_rng(seed)
    for _ in range(arguments.episodes if finished else 5):
        env.reset()
        terminated, ratio = False, rng.uniform(-1, 1)
        while not terminated:
            action = np.clip(ratio + rng.normal(0, 0.3, 1), -1, 1).astype(np.float32)
            terminated = env.step(action)[2]
    if finished:
        env.complete_uniform_sweep()
        env.write_front()
    env.close()
    return folder


@pytest.fixture(scope="module")
def folder(tiny_task, tmp_path_factory):
    return record(tmp_path_factory.mktemp("runs") / "one run", tiny_task)


@pytest.fixture(scope="module")
def unfinished(tiny_task, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "half"
    return record(folder, tiny_task, ["--seed", "1"], seed=1, finished=False)


@pytest.fixture(scope="module")
def visited(folder, unfinished, tmp_path_factory):
    """What a browser shows of a page of both runs, on wide and on narrow screens."""
    browser = next((path for path in map(shutil.which, BROWSERS) if path), None)
    if browser is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is installed")
    page = report_page([read_results(folder), read_results(unfinished)])
    watch = "<script>const errors = []; onerror = (message) => void errors.push(message)</script>"
    page = page.replace("<style>", f"{watch}<style>", 1)
    page = html.escape(page.replace("</body>", f"<script>{VISIT}</script></body>"))
    # A browser's own window has a least width; a frame has none.
    frames = "".join(f'<iframe width="{w}" height="900" srcdoc="{page}"></iframe>' for w in SCREENS)
    outer = tmp_path_factory.mktemp("page") / "outer.html"
    outer.write_text(f'<!doctype html><pre id="found"></pre>{frames}')
    command = [browser, *FLAGS, "--virtual-time-budget=10000", "--dump-dom", outer.as_uri()]
    shown = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    found = html.unescape(re.search(r'<pre id="found">(.*?)</pre>', shown, re.S)[1])
    return [json.loads(line) for line in found.splitlines()]


def front_of(folder):
    return read_results(folder).front


def test_all_screens_are_visited_without_an_error(visited):
    assert sorted(each["width"] for each in visited) == sorted(SCREENS)
    assert all(each["errors"] == [] for each in visited)


def test_nothing_is_wider_than_the_screen(visited):
    for each in visited:
        assert each["content"] <= each["width"]
        assert each["hidden"] == [0]


def test_every_strategy_is_drawn_once(visited, folder, unfinished):
    on_front = len(front_of(folder)) + len(front_of(unfinished))
    for each in visited:
        assert each["points"] == each["after"] == on_front
        assert each["dots"] == 12 + 5 - on_front
        assert each["originals"] == 1 and each["stops"] == 1
        assert each["uniform"] == 1 + 7 and "uniform sweep" in each["legend"]  # line and squares
        assert each["curves"] == [11, 5, 11, 5]  # without the first tenth
        assert len(each["table"]) == 2 + on_front


def test_before_and_after(visited, folder):
    header, *rows = visited[0]["comparison"]
    assert header == ["", "original", "strategy", "change"]
    assert [row[0] for row in rows[:2]] == ["accuracy", "multiply-adds (flops)"]
    flops = read_results(folder).original["flops"]
    assert rows[1][1] == f"{flops / 1e3:.3g} k"
    assert re.fullmatch(r"[+-]\d+\.\d\d points", rows[0][3])
    assert re.fullmatch(r"[\d.]+x smaller", rows[1][3])


def test_a_point_is_seen_by_hovering_and_kept_by_a_click(visited, folder, unfinished):
    results = read_results(unfinished)
    name = f"{unfinished}: episode {results.front[-1] + 1}"
    for each in visited:
        assert each["start"].startswith(f"{folder}: front/")
        assert each["hovered"] == each["clicked"] == name
        assert each["left"] == each["start"]
        assert each["take"] == list(commands_of(results, results.front[-1]).values())
        decisions = results.records[results.front[-1]].strategy.decisions
        wanted = [f"{d['name']}{d['value']} of {d['of']}" for d in decisions]
        assert each["bars"] == wanted


def test_arrows_go_to_the_next_point_and_enter_keeps_it(visited):
    for each in visited:
        assert each["right"].startswith(f"{each['entered']}: accuracy ")
        assert each["entered"] != each["clicked"]


def test_axes_are_chosen(visited):
    for each in visited:
        assert each["axes"] == ["memory [kB]", "accuracy on the search split [%]"]


def test_versions_and_progress(visited):
    each = visited[0]
    assert [row[0] for row in each["versions"]] == ["made with", "python", *PACKAGES, *about()]
    assert each["versions"][0][-1] == "this page"
    assert "12 strategies evaluated" in each["runs"]
    assert "5 of 12 strategies evaluated so far" in each["runs"]


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--budget", "flops=0.5", "--budget", "memory=0.3333333333"],
        ["--agent", "abcp", "--preference", "flops=1"],
        ["--network", "nets:make", "--data", "nets:data", "--seed", "7"],
        ["--set", "bits=[2, 3]", "--set", "repair=merge", "--set", "latency=null"],
        ["--latency", "my table.json", "--threads", "1"],
    ],
)
def test_the_command_gives_the_same_run(options, folder, tiny_task, tmp_path):
    results = read_results(record(tmp_path / "a run", tiny_task, options, finished=False))
    program, name, *words = shlex.split(train_command(results))
    assert (program, name) == ("prune-gym", "train")
    again = parsed(words)
    assert run_config(again) == results.config and again.run == results.path


@pytest.mark.parametrize("smuggled", ["agent", "env_kwargs"])
def test_no_name_in_a_run_smuggles_a_command(smuggled, folder, tmp_path):
    """A pasted newline ends a line, and Ctrl-U (\\x15) deletes what stands before it."""
    other = shutil.copytree(folder, tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    evil = "it's\n\x15touch pwned #\n"
    config[smuggled] = evil if smuggled == "agent" else {evil: 1, "data": evil}
    (other / "config.json").write_text(json.dumps(config))
    line = train_command(read_results(other))
    assert line.isprintable() and evil not in line
    shown = ["bash", "-c", f"prune-gym() {{ printf '%s\\0' \"$@\"; }}; {line}"]
    said = subprocess.run(shown, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert (evil in said.split("\0")) and not (tmp_path / "pwned").exists()


def test_the_command_of_a_point_takes_that_point(folder, unfinished, tmp_path, monkeypatch):
    written = read_results(folder)
    for episode in written.front:
        words = [shlex.split(command) for command in commands_of(written, episode).values()]
        for _, *options in words:
            cli.make_parser().parse_args(options)
        assert [command for _, command, _ in words] == ["apply", "finetune", "export"]
        (file,) = {file for _, _, file in words}
        strategy = json.loads(Path(file).read_text())
        assert strategy == written.records[episode].strategy.as_dict()
    monkeypatch.chdir(tmp_path)
    half = read_results(unfinished)
    for episode in half.front:
        first, *rest = commands_of(half, episode).values()
        assert cli.main(shlex.split(first)[1:]) == 0
        assert all(command.endswith(" strategy.json") for command in rest)
        strategy = json.loads((tmp_path / "strategy.json").read_text())
        assert strategy == half.records[episode].strategy.as_dict()


def test_the_front_is_the_one_that_the_run_wrote(folder):
    results = read_results(folder)
    assert [results.files[i].name for i in results.front] == [
        f"{number:03d}.json" for number in range(len(results.front))
    ]


def test_curves_never_fall(folder):
    run = page_data([read_results(folder)])["runs"][0]
    for curve in (run["hypervolume"], run["reward"]):
        assert len(curve) == 12 and curve == sorted(curve)


def test_the_page_loads_nothing(folder, tmp_path, capsys):
    out = tmp_path / "page.html"
    assert cli.main(["report", str(folder), "--out", str(out)]) == 0
    assert "open it in a browser" in " ".join(capsys.readouterr().out.split())
    page = out.read_text().replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"https?:|src=|href=|@import|url\(", page)


def test_names_cannot_end_the_script(tiny_task, tmp_path):
    folder = record(tmp_path / "<script>alert(1)<", tiny_task, finished=False)
    page = report_page([read_results(folder)])
    assert page.count("<script") == 2 and "alert(1)" in page


def test_a_skipped_block_and_one_objective(tiny_data, tmp_path):
    task = {"network": make("padded shortcut"), "data": tiny_data, "latency": None}
    env = compression_env(**task, objectives=["flops"], decide=("block", "channels"))
    config = run_config(parsed(["--agent", "uniform"]))
    run = RecordRun(env, RunFolder(tmp_path, config, False))
    for action in (1.0, -1.0):
        run.reset()
        terminated = False
        while not terminated:
            terminated = run.step(np.array([action], dtype=np.float32))[2]
    run.close()
    data = page_data([read_results(tmp_path)])
    assert [objective["name"] for objective in data["objectives"]] == ["flops"]
    point = data["runs"][0]["front"][0]
    assert data["runs"][0]["episodes"] == 2 and point["name"] == "episode 2"
    assert len(point["decisions"]) == len(env.problem.decisions) and None in point["decisions"]


def test_colours_can_be_read():
    style = resources.files("prune_gym.experiments.report").joinpath("style.css").read_text()
    light, dark = (
        dict(re.findall(r"--([\w-]+): (#\w{6})", part)) for part in style.split("@media")[:2]
    )
    for theme in (light, dark):
        for ground in ("paper", "panel"):
            assert min(contrast(theme[ink], theme[ground]) for ink in ("ink", "soft")) >= 4.5
            marks = [name for name in theme if name.startswith("run-")] + ["original"]
            assert len(marks) == 6
            assert min(contrast(theme[mark], theme[ground]) for mark in marks) >= 3


def contrast(one, other):
    """Return the contrast ratio of WCAG 2.2."""
    darker, lighter = sorted(map(luminance, (one, other)))
    return (lighter + 0.05) / (darker + 0.05)


def luminance(colour):
    channels = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def error_of(capsys, *arguments):
    assert cli.main(["report", *map(str, arguments)]) == 2
    return " ".join(capsys.readouterr().err.split())


def test_folders_that_cannot_be_shown(folder, tiny_task, tmp_path, capsys):
    assert "is no run folder: it has no config.json" in error_of(capsys, tmp_path)
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / "front" / "000.json").write_text("{")
    assert "000.json is not JSON" in error_of(capsys, copy)
    (copy / "task.json").write_text('{"objectives": []}')
    assert "task.json is damaged at KeyError('original')" in error_of(capsys, copy)
    (copy / "task.json").unlink()
    assert "has no task.json, which older versions did not write" in error_of(capsys, copy)
    (copy / "config.json").write_text("{}")
    (copy / "task.json").write_text("{}")
    assert "config.json is damaged: it lacks env, env_kwargs, agent" in error_of(capsys, copy)
    (copy / "config.json").write_text("[]")
    assert "config.json is damaged: expected an object, got list" in error_of(capsys, copy)


def test_a_damaged_journal_is_told(folder, tmp_path, capsys):
    copy = shutil.copytree(folder, tmp_path / "copy")
    journal = copy / "evaluations.jsonl"
    journal.write_bytes(journal.read_bytes()[:-20])
    assert cli.main(["report", str(copy), "--out", str(tmp_path / "page.html")]) == 0
    assert "1 line(s) dropped, 11 finished episodes" in " ".join(capsys.readouterr().out.split())
    assert "1 line(s) dropped" in (tmp_path / "page.html").read_text()
    journal.write_text("")
    assert "no episode is finished yet" in error_of(capsys, copy)


def test_runs_of_different_tasks_are_refused(folder, tiny_task, tmp_path, capsys):
    options = ["--env", "ChannelPrune-ResNet20-v0"]
    other = record(tmp_path / "other", tiny_task, options, finished=False)
    message = error_of(capsys, folder, other)
    assert "one page compares runs of one task; environment of" in message
    assert "ChannelPrune-ResNet20-v0" in message


def test_runs_on_different_data_are_refused(folder, tmp_path, capsys):
    other = shutil.copytree(folder, tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    config["env_kwargs"]["data"] = "folder:photos"
    (other / "config.json").write_text(json.dumps(config))
    message = error_of(capsys, folder, other)
    assert "data of" in message and "folder:photos" in message and "the id's" in message
