import json

import gymnasium as gym
import numpy as np
import pytest
import torch
from playing import constant, play

from envs_registry import ENVS, VERSION
from prune_gym.cli import main
from prune_gym.compression.network_file import load_network, save_network
from prune_gym.datasets.normalize import normalize
from prune_gym.envs.make import compression_env
from prune_gym.envs.replay import environment_of
from prune_gym.errors import MissingFileError, UserError, UserTypeError
from prune_gym.evaluation.validation import compare
from prune_gym.search_space.strategy import Strategy, load_strategy, strategy_from_dict


@pytest.fixture(scope="module")
def found():
    """A strategy of small widths, found under a budget."""
    env = gym.make("ChannelPrune-VGG16-v0", budgets={"flops": 0.3})
    _, _, infos = play(env, constant(-0.9))
    return env.unwrapped, infos[-1]["strategy"]


def test_file_round_trip(found, tmp_path):
    _, plain = found
    strategy = strategy_from_dict(plain)
    strategy.save(tmp_path / "deep" / "one.json")
    again = load_strategy(tmp_path / "deep" / "one.json")
    assert again == strategy and isinstance(again, Strategy)
    assert again.as_dict() == json.loads(json.dumps(plain))
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["one.json"]


def test_arguments_of_any_type_are_plain_data(found, tmp_path):
    env, plain = found
    file = tmp_path / "net.safetensors"
    network = env.problem.apply(plain)
    save_network(
        network,
        file,
        name="vgg16",
        num_classes=10,
        configuration=env.problem.configure(plain),
        data="digits",
    )
    kwargs = {"network": file, "bits": range(2, 5), "min_density": np.float32(0.5)}
    kwargs |= {"round_to": np.int64(8), "budgets": {"memory": np.float64(0.9)}}
    made = gym.make("Quantize-VGG16-v0", **kwargs)
    _, _, infos = play(made, constant(-1.0))
    strategy = strategy_from_dict(infos[-1]["strategy"])
    strategy.save(tmp_path / "one.json")
    assert load_strategy(tmp_path / "one.json").as_dict() == infos[-1]["strategy"]
    assert strategy.env_kwargs["bits"] == [2, 3, 4] and strategy.env_kwargs["network"] == str(file)


def test_a_network_file_that_is_written_again_is_read_again(found, tmp_path):
    env, plain = found
    file, sizes = tmp_path / "net.safetensors", []
    for configuration in (
        env.problem.configure(plain),
        env.problem.space.configure(env.problem.space.upper[None]),
    ):
        network = env.problem.evaluator.candidate(configuration)
        save_network(
            network, file, name="vgg16", num_classes=10, configuration=configuration, data="digits"
        )
        made = compression_env(str(file), latency=None)
        sizes.append(
            made.problem.costs["params"](
                made.problem.space.configure(made.problem.space.upper[None])
            )[0]
        )
    assert sizes[1] > sizes[0]


def test_other_weights_of_the_same_shape_are_noticed(found, tmp_path, capsys):
    env, plain = found
    file, network = tmp_path / "net.safetensors", env.problem.apply(plain)
    meta = {
        "name": "vgg16",
        "num_classes": 10,
        "configuration": env.problem.configure(plain),
        "data": "digits",
    }
    save_network(network, file, **meta)
    _, _, infos = play(gym.make("Quantize-VGG16-v0", network=str(file)), constant(1.0))
    strategy_from_dict(infos[-1]["strategy"]).save(tmp_path / "one.json")
    assert main(["validate", str(tmp_path / "one.json")]) == 0
    with torch.no_grad():
        next(network.parameters()).mul_(1.001)
    save_network(network, file, **meta)
    assert main(["validate", str(tmp_path / "one.json")]) == 1
    assert "NOT reproduced: the strategy was found on other weights" in capsys.readouterr().out
    for command in ("apply", "finetune", "export", "measure"):
        assert main([command, str(tmp_path / "one.json")]) == 2
        assert "the strategy was found on other weights (checksum" in capsys.readouterr().err


@pytest.mark.parametrize("method", ["apply", "validate"])
def test_a_decision_of_another_network_is_refused(method, found):
    env, plain = found
    other = json.loads(json.dumps(plain))
    other["decisions"][0]["of"] += 8
    with pytest.raises(UserError, match="72"):
        getattr(env.problem, method)(other)


def test_what_is_no_strategy_is_refused(found):
    with pytest.raises(UserTypeError):
        found[0].problem.apply("one.json")


def test_the_mark_that_an_editor_puts_in_front_is_no_matter(found, tmp_path):
    file = tmp_path / "edited.json"
    file.write_text(json.dumps(found[1]), encoding="utf-8-sig")
    assert load_strategy(file) == strategy_from_dict(found[1])


NO_NAMES = ["x" * 5_000, "a" + chr(0) + "b"]


@pytest.mark.parametrize("name", NO_NAMES, ids=["too long", "with a null byte"])
def test_names_that_no_file_can_have_are_missing_files(name, found):
    with pytest.raises(MissingFileError, match="no such"):
        load_strategy(name)
    for argument in ({"network": f"{name}.safetensors"}, {"latency": name}):
        plain = dict(found[1], env_kwargs={"data": "digits", "network": "vgg16"} | argument)
        with pytest.raises(UserError, match="no such|unknown latency table"):
            environment_of(strategy_from_dict(plain))


def test_a_network_that_was_pruned_on_other_data_is_refused(found, tmp_path):
    env, plain = found
    file, shape = tmp_path / "net.safetensors", {"name": "vgg16", "num_classes": 10}
    save_network(
        env.problem.apply(plain),
        file,
        configuration=env.problem.configure(plain),
        data="cifar10",
        **shape,
    )
    with pytest.raises(UserError, match="'cifar10'.*'d"):
        compression_env(str(file), "digits")


def test_a_strategy_is_replayed_by_its_id_and_arguments(found):
    _, plain = found
    assert plain["env_kwargs"]["budgets"] == {"flops": 0.3}
    env = gym.make(plain["env_id"], **plain["env_kwargs"]).unwrapped
    result = env.problem.validate(plain)
    assert result.reproduced
    assert {claim.name for claim in result.claims} == {
        "accuracy",
        "flops",
        "params",
        "latency_ms",
        "memory_bytes",
        "energy_mj",
        "size_bytes",
    }


@pytest.mark.parametrize("metric", ["accuracy", "flops", "params", "latency_ms", "memory_bytes"])
def test_a_false_claim_is_found(found, metric):
    env, plain = found
    false = json.loads(json.dumps(plain))
    false["metrics"][metric] *= 0.9
    result = env.problem.validate(false)
    assert [claim.name for claim in result.claims if not claim.reproduced] == [metric]


@pytest.mark.parametrize(
    ("found", "images", "within", "beyond"),
    [(0.338, 2000, 0.344, 0.350), (0.99, 10_000, 0.987, 0.9865), (1.0, 100, 0.99, 0.98)],
)
def test_another_processors_rounding_is_forgiven(found, images, within, beyond):
    """The first is of the shipped table: 34.4 % in bfloat16 are 33.8 % in float32."""
    for claimed, expected in ((within, True), (beyond, False)):
        result = compare({"accuracy": claimed}, {"accuracy": found}, images, True)
        assert result.reproduced is expected


def test_validation_does_not_take_the_memos_word(tiny):
    """A strategy of a wrong accuracy is what an environment with a wrong memo gives."""
    _, _, infos = play(tiny, constant(0.0))
    assert tiny.problem.validate(infos[-1]["strategy"]).reproduced
    right = infos[-1]["accuracy"]
    key = tiny.problem.configure(infos[-1]["strategy"]).key()
    tiny.problem.evaluator.cache.put(key, right - 0.1)
    _, _, infos = play(tiny, constant(0.0))
    assert infos[-1]["accuracy"] == right - 0.1
    result = tiny.problem.validate(infos[-1]["strategy"])
    (claim,) = [claim for claim in result.claims if not claim.reproduced]
    assert (claim.name, claim.claimed, claim.found) == ("accuracy", right - 0.1, right)


@pytest.mark.parametrize("metric", ["accuracy", "flops", "params", "memory_bytes"])
def test_a_missing_claim_is_not_reproduced(metric, tiny):
    _, _, infos = play(tiny, constant(0.0))
    strategy = infos[-1]["strategy"]
    del strategy["metrics"][metric]
    result = tiny.problem.validate(strategy)
    assert [claim.name for claim in result.claims if not claim.reproduced] == [metric]


def test_a_claim_that_nothing_is_found_for_is_not_reproduced(tiny):
    _, _, infos = play(tiny, constant(0.0))
    strategy = infos[-1]["strategy"]
    strategy["metrics"]["latency_ms"] = 1.0  # this environment has no latency table
    result = tiny.problem.validate(strategy)
    assert [claim.name for claim in result.claims if not claim.reproduced] == ["latency_ms"]


@pytest.mark.parametrize("method", ["validate", "apply"])
def test_a_width_that_is_no_option_is_refused(method, found):
    env, plain = found
    other = json.loads(json.dumps(plain))
    other["decisions"][2]["value"] = 17
    group = other["decisions"][2]["name"]
    with pytest.raises(UserError, match=f"channels {group}: .* 17"):
        getattr(env.problem, method)(other)


@pytest.mark.parametrize("method", ["validate", "apply"])
def test_a_strategy_over_the_budgets_is_refused(method, found):
    env, plain = found
    full = json.loads(json.dumps(plain))
    for decision in full["decisions"]:
        decision["value"] = decision["of"]
    with pytest.raises(UserError, match="budgets flops"):
        getattr(env.problem, method)(full)
    gym.make(plain["env_id"]).unwrapped.problem.configure(full)  # without budgets it is one


def test_apply_gives_a_network_that_can_be_trained(tiny):
    _, _, infos = play(tiny, constant(0.0))
    network = tiny.problem.apply(infos[-1]["strategy"])
    assert all(parameter.requires_grad for parameter in network.parameters())
    before = [parameter.detach().clone() for parameter in network.parameters()]
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    images = normalize(tiny.problem.evaluator.data.train.images[:32], tiny.problem.evaluator.data)
    labels = torch.tensor(tiny.problem.evaluator.data.train.labels[:32])
    torch.nn.functional.cross_entropy(network(images), labels).backward()
    optimizer.step()
    after = list(network.parameters())
    assert not any(torch.equal(b, a) for b, a in zip(before, after, strict=True))


def test_apply_gives_the_measured_network(found):
    env, plain = found
    network = env.problem.apply(plain)
    assert sum(p.numel() for p in network.parameters()) == plain["metrics"]["params"]
    assert not network.training
    evaluator = env.problem.evaluator
    accuracy = evaluator.score(network, evaluator.data.search)
    assert accuracy == pytest.approx(plain["metrics"]["accuracy"], abs=1e-9)


def test_strategies_on_own_networks(tiny):
    _, _, infos = play(tiny, constant(0.0))
    plain = infos[-1]["strategy"]
    assert plain["env_id"] == ""
    assert tiny.problem.validate(plain).reproduced
    assert (
        sum(p.numel() for p in tiny.problem.apply(plain).parameters()) == plain["metrics"]["params"]
    )


def test_saved_network_gives_the_same_outputs(found, tmp_path):
    env, plain = found
    network = env.problem.apply(plain)
    path = tmp_path / "pruned.safetensors"
    save_network(
        network, path, name="vgg16", num_classes=10, configuration=env.problem.configure(plain)
    )
    images = normalize(env.problem.evaluator.data.test.images[:50], env.problem.evaluator.data)
    with torch.inference_mode():
        torch.testing.assert_close(load_network(path)(images), network(images), rtol=0, atol=1e-5)


def test_saved_own_network(tiny, tmp_path):
    from nets import Tiny

    _, _, infos = play(tiny, constant(0.0))
    network, path = tiny.problem.apply(infos[-1]["strategy"]), tmp_path / "own.safetensors"
    made = tiny.problem.configure(infos[-1]["strategy"])
    save_network(
        network, path, name="mine", num_classes=4, configuration=made, input_shape=(3, 8, 8)
    )
    images = normalize(tiny.problem.evaluator.data.test.images, tiny.problem.evaluator.data)
    again = load_network(path, build=lambda classes: Tiny())
    with torch.inference_mode():
        torch.testing.assert_close(again(images), network(images), rtol=0, atol=1e-5)
    with pytest.raises(UserError, match="mine.*build="):
        load_network(path)


def test_command_line(found, tmp_path, capsys):
    env, plain = found
    file = tmp_path / "best.json"
    strategy_from_dict(plain).save(file)

    assert main(["envs"]) == 0
    printed = capsys.readouterr().out
    assert all(f"{name}-{VERSION} " in printed for name in ENVS)

    assert main(["validate", str(file)]) == 0
    printed = capsys.readouterr().out
    assert printed.count("reproduced") == 7 and "NOT" not in printed

    assert main(["apply", str(file)]) == 0
    printed = capsys.readouterr().out
    assert "accuracy, test split" in printed and "x smaller" in printed
    written = tmp_path / "best.safetensors"
    assert str(written.name) in printed.replace("\n", "")
    network = load_network(written)
    assert sum(p.numel() for p in network.parameters()) == plain["metrics"]["params"]

    false = {**plain, "metrics": {**plain["metrics"], "flops": 1.0}}
    strategy_from_dict(false).save(file)
    assert main(["validate", str(file)]) == 1
    assert "NOT reproduced" in capsys.readouterr().out
    assert main(["apply", str(file)]) == 2
    assert "was found at 1 flops and has" in capsys.readouterr().err


def test_command_line_errors(tmp_path, capsys):
    assert main(["apply", str(tmp_path / "none.json")]) == 2
    assert "no such strategy file" in capsys.readouterr().err
    damaged = tmp_path / "cut.json"
    damaged.write_text('{"format": "prune-gym-st')
    assert main(["validate", str(damaged)]) == 2
    assert "not JSON" in capsys.readouterr().err


def test_strategies_of_scalar_and_discrete_ids_replay():
    env = gym.make("ChannelPrune-VGG16-Discrete-Scalar-v0")
    _, _, infos = play(env, lambda step: 0)
    plain = infos[-1]["strategy"]
    again = gym.make(plain["env_id"], **plain["env_kwargs"]).unwrapped
    assert again.problem.validate(plain).reproduced
    assert again.problem.configure(plain).key() == env.unwrapped.problem.configure(plain).key()
