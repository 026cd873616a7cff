import json
import subprocess
import sys
import time
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from any_output import TwoHeads
from named import GIVEN, OPTIONS, save_strategy, splits
from playing import constant, play

from prune_gym import models
from prune_gym._utils.paths import write_atomically
from prune_gym.cli import main
from prune_gym.compression.quantize import QuantizedLayer
from prune_gym.datasets import ScoredData, ScoredSplit
from prune_gym.datasets.normalize import normalize
from prune_gym.deployment.before_after import measure
from prune_gym.deployment.deployable import deployable, folded, load_deployable
from prune_gym.deployment.export import FORMATS, compare, export
from prune_gym.profiling.paired_timing import interleaved
from prune_gym.search_space.strategy import strategy_from_dict

onnxruntime = pytest.importorskip("onnxruntime", reason="prune-gym[onnx] is not installed")
pytest.importorskip("onnxscript", reason="prune-gym[onnx] is not installed")


@pytest.fixture(scope="module")
def strategy(tmp_path_factory):
    return save_strategy(tmp_path_factory.mktemp("export") / "one.json")


@pytest.fixture(scope="module")
def quantized(tmp_path_factory):
    file = tmp_path_factory.mktemp("export") / "bits.json"
    return save_strategy(file, 0.5, decide=("channels", "weight_bits", "activation_bits"))


def images(count=32):
    return normalize(splits().test.images[:count], splits()).contiguous()


def expected(file):
    given = load_deployable(file, **GIVEN)
    with torch.inference_mode():
        return given.network(images()).numpy()


def run_onnx(file, batch):
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: batch.numpy()})[0]


def test_onnx(strategy, tmp_path, capsys):
    out = tmp_path / "one.onnx"
    assert main(["export", str(strategy), *OPTIONS, "--out", str(out)]) == 0
    assert "Largest difference from PyTorch's" in capsys.readouterr().out
    np.testing.assert_allclose(run_onnx(out, images()), expected(strategy), atol=1e-4)
    assert run_onnx(out, images(1)).shape == (1, 4)  # any number of images


def test_a_torch_program(strategy, tmp_path):
    out = tmp_path / "one.pt2"
    assert main(["export", str(strategy), *OPTIONS, "--format", "torch", "--out", str(out)]) == 0
    program = torch.export.load(out).module()
    with torch.inference_mode():
        np.testing.assert_allclose(program(images()).numpy(), expected(strategy), atol=1e-4)
    (example,), _ = torch.export.load(out).example_inputs  # nobody's images
    assert not example.any() and example.untyped_storage().nbytes() == 2 * 4 * images()[0].numel()


@pytest.mark.ci
@pytest.mark.parametrize("form", FORMATS)
def test_several_outputs(form, tmp_path):
    if form == "executorch":
        pytest.importorskip("executorch")
    split = ScoredSplit(np.zeros((2, 3, 16, 16), np.uint8), np.zeros(2))
    data = ScoredData("made", split, split, split, (0.5,) * 3, (0.5,) * 3, score=lambda *_: 0.5)
    written = export(deployable(TwoHeads().eval(), data), form, False, tmp_path / "two")
    assert written.difference < 1e-4


def test_a_missing_extra_is_told_before_anything_is_read(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "executorch", None)
    assert main(["export", str(tmp_path / "absent.json"), "--format", "executorch"]) == 2
    assert "pip install 'prune-gym[executorch]'" in capsys.readouterr().err


def test_an_onnx_file_holds_no_source_code(strategy, tmp_path):
    out = tmp_path / "one.onnx"
    assert main(["export", str(strategy), *OPTIONS, "--out", str(out)]) == 0
    for text in (b"stack_trace", b".py", str(Path(__file__).parent).encode()):
        assert text not in out.read_bytes()


def test_torchscript(strategy, tmp_path):
    out = tmp_path / "one.pt"
    assert (
        main(["export", str(strategy), *OPTIONS, "--format", "torchscript", "--out", str(out)]) == 0
    )
    with torch.inference_mode():
        answers = torch.jit.load(out)(images()).numpy()
    np.testing.assert_allclose(answers, expected(strategy), atol=1e-4)


@pytest.mark.ci
def test_an_executorch_program(strategy, tmp_path, capsys):
    runtime = pytest.importorskip("executorch.runtime").Runtime.get()
    out = tmp_path / "one.pte"
    command = ["export", str(strategy), *OPTIONS, "--format", "executorch", "--out", str(out)]
    assert main(command) == 0
    assert "Input: float32 (1, 3, " in capsys.readouterr().out
    method = runtime.load_program(out).load_method("forward")
    answers = [method.execute([each])[0].numpy() for each in images().split(1)]
    np.testing.assert_allclose(np.concatenate(answers), expected(strategy), atol=1e-4)


def test_the_file_stands_beside_the_strategy(strategy):
    assert main(["export", str(strategy), *OPTIONS, "--format", "torchscript"]) == 0
    assert strategy.with_suffix(".pt").is_file()


@pytest.mark.ci
def test_int8(strategy, tmp_path, capsys):
    out, float32 = tmp_path / "int8.onnx", tmp_path / "float32.onnx"
    assert main(["export", str(strategy), *OPTIONS, "--int8", "--out", str(out)]) == 0
    assert "int8" in capsys.readouterr().out
    main(["export", str(strategy), *OPTIONS, "--out", str(float32)])
    assert not np.allclose(run_onnx(out, images()), run_onnx(float32, images()), atol=1e-6)
    same = run_onnx(out, images()).argmax(1) == expected(strategy).argmax(1)
    assert same.mean() > 0.9
    import onnx

    kinds = {each.data_type for each in onnx.load(out).graph.initializer}
    assert onnx.TensorProto.INT8 in kinds


def test_a_strategy_with_bits_becomes_int8(quantized, tmp_path, capsys):
    out = tmp_path / "bits.onnx"
    assert main(["export", str(quantized), *OPTIONS, "--out", str(out)]) == 0
    assert "int8" in capsys.readouterr().out
    same = run_onnx(out, images()).argmax(1) == expected(quantized).argmax(1)
    assert same.mean() > 0.8


@pytest.mark.parametrize("form", ["torch", "torchscript", "executorch"])
def test_int8_is_for_onnx_alone(form, strategy, quantized, capsys):
    if form == "executorch":
        pytest.importorskip("executorch")
    assert main(["export", str(strategy), *OPTIONS, "--format", form, "--int8"]) == 2
    assert "leave --int8 out" in capsys.readouterr().err
    assert main(["export", str(quantized), *OPTIONS, "--format", form]) == 2
    assert "the strategy says bits" in capsys.readouterr().err


def test_folding_a_quantized_network_keeps_its_weights(quantized):
    given = load_deployable(quantized, **GIVEN)
    network = folded(given.network, given.input_shape)
    assert not any(isinstance(module, QuantizedLayer) for module in network.modules())
    for name, module in given.network.named_modules():
        if isinstance(module, QuantizedLayer):
            scale = module.weight_scale.view(-1, *(1,) * (module.weight.ndim - 1))
            torch.testing.assert_close(network.get_submodule(name).weight, module.weight * scale)


def test_a_saved_network_is_exported_like_its_strategy(strategy, tmp_path):
    saved, out = tmp_path / "one.safetensors", tmp_path / "one.onnx"
    assert main(["apply", str(strategy), *OPTIONS, "--out", str(saved)]) == 0
    assert main(["export", str(saved), *OPTIONS, "--out", str(out)]) == 0
    np.testing.assert_allclose(run_onnx(out, images()), expected(strategy), atol=1e-4)


def test_a_wrong_network_is_noticed(strategy, tmp_path, monkeypatch, capsys):
    form = FORMATS["torchscript"]

    def other(network, batch):
        content, runner = form.write(network, batch)
        return content, lambda array: [each * 1.01 for each in runner(array)]

    monkeypatch.setitem(FORMATS, "torchscript", form._replace(write=other))
    out = tmp_path / "one.pt"
    command = ["export", str(strategy), *OPTIONS, "--format", "torchscript", "--out", str(out)]
    assert main(command) == 2
    assert "differ from PyTorch's by 1.0e-02" in capsys.readouterr().err
    assert not out.exists()


def test_compare_is_relative_to_the_largest_output():
    network = torch.nn.Identity()
    batch = torch.tensor([[1.0, -4.0]])
    assert compare(lambda array: [array + 0.2], network, batch) == pytest.approx(0.05)


def test_bad_input(tmp_path, capsys):
    for name, message in (
        ("none.json", "no such strategy file"),
        ("none.safetensors", "no such file"),
        ("net.onnx", "expected STRATEGY.json or NETWORK.safetensors"),
    ):
        assert main(["export", str(tmp_path / name)]) == 2
        assert message in capsys.readouterr().err
    write_atomically(tmp_path / "cut.safetensors", b"nothing")
    assert main(["export", str(tmp_path / "cut.safetensors")]) == 2
    assert "not a whole safetensors file" in capsys.readouterr().err


@pytest.mark.ci
def test_measure_sweeps_settings(strategy, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("prune_gym.profiling.settings_sweep.BATCHES", (1, 2))
    monkeypatch.setattr("prune_gym.profiling.settings_sweep.THREADS", (1,))
    out = tmp_path / "m.json"
    command = ["measure", str(strategy), *OPTIONS, "--threads", "1", "--sweep", "--out", str(out)]
    assert main(command) == 0
    assert "images" in capsys.readouterr().out
    settings = json.loads(out.read_text())["settings"]
    assert [(each["batch"], each["threads"]) for each in settings] == [(1, 1), (2, 1)]
    for each in settings:
        for spread in each["latency"].values():
            assert 0 < spread["low"] <= spread["median"] <= spread["high"]


@pytest.mark.ci
def test_measure(strategy, tmp_path, capsys):
    network, model, out = tmp_path / "n.safetensors", tmp_path / "m.onnx", tmp_path / "m.json"
    main(["apply", str(strategy), *OPTIONS, "--out", str(network)])
    main(["export", str(network), *OPTIONS, "--int8", "--out", str(model)])
    capsys.readouterr()
    command = ["measure", str(strategy), *OPTIONS, "--weights", str(network), "--onnx", str(model)]
    assert main([*command, "--threads", "1", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "latency" in printed and "quartiles" in printed
    found = json.loads(out.read_text())
    claimed = json.loads(strategy.read_text())["metrics"]
    metrics, latency = found["metrics"], found["latency_ms"]
    assert metrics["flops"]["after"] == claimed["flops"] < metrics["flops"]["before"]
    assert metrics["params"]["after"] == claimed["params"]
    assert metrics["file_bytes"]["after"] == model.stat().st_size
    assert metrics["accuracy"]["after"] == pytest.approx(
        float((run_onnx(model, images(256)).argmax(1) == splits().test.labels).mean())
    )
    assert set(latency) == {"ONNX Runtime", "PyTorch"}
    for each in latency.values():
        for spread in each.values():
            assert 0 < spread["low"] <= spread["median"] <= spread["high"]


@pytest.mark.ci
def test_a_network_file_is_measured_like_its_strategy(strategy, quantized, tmp_path, capsys):
    pruned = save_strategy(tmp_path / "both.json", -0.3, decide=("density", "weight_bits"))
    for file in (strategy, quantized, pruned):
        network = tmp_path / f"{file.stem}.safetensors"
        main(["apply", str(file), *OPTIONS, "--out", str(network)])
        values = measure(network, None, None, 1, 1, **GIVEN).values
        expected = measure(file, None, None, 1, 1, **GIVEN).values
        for name in ("accuracy", "flops", "params", "file_bytes"):
            assert values[name] == expected[name], name
    capsys.readouterr()
    assert main(["measure", str(network), *OPTIONS, "--threads", "1"]) == 0
    assert "named:trained on named:splits" in capsys.readouterr().out
    assert main(["measure", str(network), *OPTIONS, "--weights", str(tmp_path / "x")]) == 2
    assert "give --weights with a strategy" in capsys.readouterr().err


def test_measure_refuses_files_of_others(strategy, tmp_path, capsys):
    other = tmp_path / "other.safetensors"
    main(["apply", str(save_strategy(tmp_path / "other.json", 0.5)), *OPTIONS, "--out", str(other)])
    assert main(["measure", str(strategy), *OPTIONS, "--weights", str(other)]) == 2
    assert "belongs to another strategy: widths" in capsys.readouterr().err
    main(["export", str(other), *OPTIONS, "--out", str(tmp_path / "other.onnx")])
    assert main(["measure", str(strategy), *OPTIONS, "--onnx", str(tmp_path / "other.onnx")]) == 2
    assert "sizes of its layers' weights" in capsys.readouterr().err
    for kind, message in (
        ("weight_bits", "belongs to another strategy: bits"),
        ("global_density", "are not zero, expected"),
    ):
        more, less = (
            save_strategy(tmp_path / f"{kind}{action}.json", action, decide=(kind,))
            for action in (0.5, -0.5)
        )
        main(["apply", str(more), *OPTIONS, "--out", str(other)])
        assert main(["measure", str(less), *OPTIONS, "--weights", str(other)]) == 2
        assert message in capsys.readouterr().err
    (tmp_path / "no.onnx").write_bytes(b"no model")
    assert main(["measure", str(strategy), *OPTIONS, "--onnx", str(tmp_path / "no.onnx")]) == 2
    assert "is no ONNX model of this network" in capsys.readouterr().err
    assert main(["measure", str(strategy), *OPTIONS, "--onnx", str(tmp_path / "none.onnx")]) == 2
    assert "no such file" in capsys.readouterr().err


@pytest.mark.ci
def test_a_detector_is_measured_as_it_is_deployed(tmp_path):
    env = gym.make("BlockPrune-YOLOv3-v0")
    info = play(env, constant(1.0))[2][-1]
    strategy_from_dict(info["strategy"]).save(tmp_path / "all.json")
    untrained = folded(models.build("yolov3_eighth", 10), (3, 128, 128))
    content, _ = FORMATS["onnx"].write(untrained, torch.rand(2, 3, 128, 128))
    (tmp_path / "untrained.onnx").write_bytes(content)
    values = measure(tmp_path / "all.json", None, tmp_path / "untrained.onnx", 1, 1).values
    before, after = values["accuracy"]
    assert abs(before - env.unwrapped.problem.original["accuracy"]) < 0.05 and after < 0.1


@pytest.mark.ci
def test_measuring_again_and_exporting_after_it(strategy, tmp_path, subprocess_env):
    """ONNX Runtime shares its threads once for a process; what comes after has to know."""
    lines = f"""
from pathlib import Path
from named import GIVEN, OPTIONS
from prune_gym.cli import main
from prune_gym.deployment.before_after import measure
file = Path({str(strategy)!r})
values = [measure(file, None, None, 2, 1, **GIVEN).values for _ in range(2)]
assert values[0]["accuracy"] == values[1]["accuracy"]
try:
    measure(file, None, None, 1, 1, **GIVEN)
except ValueError as error:
    print(error)
assert main(["export", str(file), *OPTIONS, "--out", {str(tmp_path / "after.onnx")!r}]) == 0
"""
    command = [sys.executable, "-c", lines]
    done = subprocess.run(command, capture_output=True, text=True, env=subprocess_env, check=False)
    assert done.returncode == 0, done.stderr
    assert "with 2 threads, and ONNX Runtime cannot change that" in done.stdout


def test_interleaved_times_know_which_is_slower():
    found = interleaved(lambda: time.sleep(0.006), lambda: time.sleep(0.001))
    assert found.factor.median > 2
    assert found.before.median > 6 > found.after.median >= 1


def test_networks_with_several_outputs_are_compared(tmp_path):
    network = folded(models.build("yolov3_eighth", 10), (3, 128, 128))
    batch = torch.rand(2, 3, 128, 128)
    _, runner = FORMATS["torchscript"].write(network, batch)
    assert len(runner(batch.numpy())) > 1
    assert compare(runner, network, batch) < 1e-4
