"""Networks that read token ids: embeddings are cut with the width of the tokens."""

import numpy as np
import pytest
import torch
from cuts import check_random_cuts
from playing import constant, play
from torch.nn import functional as F
from transformers import DIM, HEADS, TextClassifier

from prune_gym import Data, ScoredData, ScoredSplit, Split, cli, compress, compression_env
from prune_gym.compression.network_file import load_network
from prune_gym.compression.surgery import cut, first_channels
from prune_gym.costs.flops import Flops
from prune_gym.costs.params import Params
from prune_gym.errors import UserError
from prune_gym.graph.trace import trace

WORDS, LENGTH = 20, 6


def texts(count, seed):
    """Return ids of texts of different lengths, and classes: which of three words occurs."""
    rng = np.random.default_rng(seed)
    ids, classes = rng.integers(4, WORDS, (count, LENGTH)), rng.integers(3, size=count)
    lengths = rng.integers(2, LENGTH + 1, count)
    ids[np.arange(count), rng.integers(lengths)] = 1 + classes
    ids[np.arange(LENGTH) >= lengths[:, None]] = 0
    return ids, classes


def untrained():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return TextClassifier(WORDS, LENGTH).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def network():
    net, (ids, classes) = untrained().requires_grad_(), map(torch.from_numpy, texts(1024, 0))
    optimizer = torch.optim.AdamW(net.train().parameters(), 5e-3)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for _ in range(8):
            for chosen in torch.randperm(len(ids)).split(64):
                optimizer.zero_grad()
                F.cross_entropy(net(ids[chosen]), classes[chosen]).backward()
                optimizer.step()
    return net.eval().requires_grad_(False)


def data():
    splits = [Split(*texts(count, seed)) for seed, count in enumerate((256, 128, 64), 1)]
    return Data("texts", 3, *splits, (), (), flip=False)


def test_the_cut_is_exact_and_the_costs_are_those_of_the_cut_network():
    net = untrained()
    ids = torch.from_numpy(texts(8, 0)[0])
    table = trace(net, (LENGTH,))
    sizes = [group.size for group in table.groups]
    assert sizes == [DIM, HEADS, 24, HEADS, 24]
    cut_with_tokens = {member.module for member in table.groups[0].members}
    assert {"words.weight", "places.weight", "head"} <= cut_with_tokens
    check_random_cuts(net, table, ids)
    widths = np.array([7, 1, 5, 3, 9])
    small = cut(net, table, first_channels(table, widths))
    again, configuration = trace(small, (LENGTH,)), table.configuration(widths[None])
    assert small.words.embedding_dim == small.words.weight.shape[1] == 7
    assert Params(table)(configuration)[0] == sum(p.numel() for p in small.parameters())
    assert Flops(table)(configuration)[0] == Flops(again)(again.configuration())[0]


def test_an_embedding_that_no_layer_writes_to_stays():
    class Bag(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.hidden = torch.nn.Embedding(WORDS, 8), torch.nn.Linear(8, 6)
            self.head = torch.nn.Linear(6, 3)

        def forward(self, ids):
            return self.head(F.relu(self.hidden(self.words(ids).mean(1))))

    table = trace(Bag().eval(), (LENGTH,))
    assert [group.name for group in table.groups] == ["hidden"]


def test_an_episode_is_replayed_and_repair_helps(network):
    scores = {}
    for repair in ("none", "least_squares"):
        env = compression_env(network, data(), latency=None, round_to=1, repair=repair)
        info = play(env, constant(0.2))[2][-1]
        scores[repair] = info["accuracy"]
        assert env.problem.original["accuracy"] > 0.95
        assert env.problem.validate(info["strategy"]).reproduced
    assert scores["least_squares"] > scores["none"]


@pytest.mark.ci
def test_a_classifier_of_texts_is_compressed(network, tmp_path):
    ids, classes = texts(600, 4)
    result = compress(network, (ids.astype(np.int32), classes), evaluations=4, agent="random-ratio")
    assert result.after["flops"] <= 0.5 * result.before["flops"]
    assert result.before["test_accuracy"] > 0.9
    tuned = result.finetune(2)
    assert tuned.after["accuracy"] > 0.8
    tuned.save(tmp_path / "small.safetensors")
    again = load_network(tmp_path / "small.safetensors", lambda _: untrained())
    some = torch.from_numpy(ids[:5])
    with torch.inference_mode():
        torch.testing.assert_close(again(some), tuned.network(some))
    written = tuned.export(tmp_path / "small.pt2", "torch")
    assert written.difference < 1e-4 and "Input: int64 (N, 6), token ids." in str(written)
    assert "latency here" in tuned.report()


def test_texts_with_a_score(network):
    def score(outputs, targets):
        return (outputs.argmax(1) == targets).float().mean()

    splits = [ScoredSplit(*texts(count, seed)) for seed, count in enumerate((64, 64, 32), 1)]
    given = ScoredData("texts", *splits, (), (), score, loss=F.cross_entropy)
    env = compression_env(network, given, latency=None)
    assert env.problem.original["accuracy"] > 0.95


def test_what_explain_shows(monkeypatch, capsys):
    import transformers

    monkeypatch.setattr(transformers, "text", untrained, raising=False)
    assert cli.main(["explain", "transformers:text", "--shape", "6"]) == 0
    shown = capsys.readouterr().out
    assert "words.weight, places.weight" in shown and "transformers:text on 6:" in shown


@pytest.mark.parametrize("wrong", [np.zeros((4, 6), np.int32), np.zeros((4, 6, 2), np.int64)])
def test_token_ids_are_int64(wrong):
    with pytest.raises(UserError, match=r"or int64 token ids \(N, L\), got"):
        Split(wrong, np.zeros(4, np.int64))


def test_token_ids_are_not_normalized():
    splits = [Split(*texts(8, 0))] * 3
    with pytest.raises(UserError, match=r"mean: token ids are not normalized, expected \(\)"):
        Data("texts", 3, *splits, (0.5,), (0.5,), flip=False)
