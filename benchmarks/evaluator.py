"""How near the evaluator is to what the machine can do.

    PRUNE_GYM_HOME=... python benchmarks/evaluator.py --env ChannelPrune-VGG16-CIFAR10-v0
    PRUNE_GYM_HOME=... python benchmarks/evaluator.py --part amc --strategies 3

``episodes``: seconds of an episode and its parts at several keep ratios, images/s of the scoring,
and two shares of the processor's GEMM peak. The peak is the best of several square and long matrix
products in the precision that candidates are scored in, measured after every repeat with the same
threads. ``share`` is that of the whole episode (decisions, cut, repair, scoring): the usual count,
2 FLOPs per multiply-add of every layer, times the images scored plus the calibration images that
pass through the candidate once. Nothing else counts as useful work: not the regressions of the
repair, not its inverses, not pooling. The usual count has the multiplications with zero padding in
it, which a good kernel leaves out, so it can exceed 100 %; ``inner`` leaves them out.

``steps``: environment steps a second when all accuracies are known, and the resident memory over
10,000 episodes of known strategies and over some new ones. An episode can leave something behind in
the environment, in the cache (a line for a new strategy) or in a candidate that is not released:
the first is seen over many known episodes, the others over new ones.

``amc``: the same strategies in the manner of AMC's published environment: the full-size network
with removed channels set to zero, float32, PyTorch's defaults, batches of 50. Interleaved.
"""

import argparse
import copy
import resource
import time
from collections.abc import Callable

import gymnasium as gym
import numpy as np
import torch

import prune_gym  # noqa: F401  (registers the ids)
from prune_gym._utils.device import bfloat16_is_fast
from prune_gym.compression.surgery import cut, kept_positions
from prune_gym.datasets.normalize import normalize
from prune_gym.graph.layers import Layer

RATIOS = (1.0, 0.75, 0.5, 0.25)
SHAPES = ((1024, 1024, 1024), (2048, 2048, 2048), (4096, 1024, 1024), (32768, 64, 576))
AMC_BATCH = 50


def seconds(call: Callable[[], object]) -> float:
    """Return the time of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def gemm_peak() -> float:
    """Return the FLOP/s of the fastest matrix product."""
    dtype = torch.bfloat16 if bfloat16_is_fast() else torch.float32
    best = 0.0
    for m, n, k in SHAPES:
        a, b = torch.randn(m, k).to(dtype), torch.randn(k, n).to(dtype)
        best = max(best, *(2 * m * n * k / seconds(lambda a=a, b=b: a @ b) for _ in range(4)))
    return best


def inside(layer: Layer) -> float:
    """Return the share of a layer's multiplications that do not fall on padding."""
    share = 1.0
    for kernel, size, out in zip(layer.kernel, layer.in_size, layer.out_size, strict=True):
        before = max((out - 1) * layer.stride + kernel - size, 0) // 2
        reads = [i * layer.stride + tap - before for i in range(out) for tap in range(kernel)]
        share *= sum(0 <= at < size for at in reads) / len(reads)
    return share


def flops_per_image(table, widths: np.ndarray) -> tuple[float, float]:
    """Return the FLOPs of a candidate, with and without those on padding."""
    reads, writes = table.inputs(widths[None])[0], table.outputs(widths[None])[0]
    usual = inner = 0.0
    for layer, inputs, outputs in zip(table.layers, reads, writes, strict=True):
        if layer.has_weight:
            flops = 2 * inputs * outputs * np.prod(layer.kernel) * np.prod(layer.out_size)
            usual, inner = usual + flops, inner + flops * inside(layer)
    return usual, inner


def parts(evaluator, widths: np.ndarray) -> tuple[float, float, float]:
    """Return the seconds of cut, repair and scoring of one candidate."""
    kept, strategy = evaluator.kept(widths), evaluator.table.configuration(widths[None])
    cutting = seconds(lambda: cut(evaluator.network, evaluator.table, kept))
    start = time.perf_counter()
    candidate = evaluator.candidate(strategy)
    making = time.perf_counter() - start
    scoring = seconds(lambda: evaluator.score(candidate, evaluator.data.search))
    return cutting, making - cutting, scoring


def episodes(env, repeats: int, per_step: float) -> None:
    """Print the table of episodes; medians of the repeats."""
    evaluator, table = env.problem.evaluator, env.problem.evaluator.table
    search = evaluator.data.search
    print("keep  decide    cut  repair   score  total s  images/s   share   inner  GFLOP/s")
    for ratio in RATIOS:
        widths = np.maximum((table.full * ratio).astype(int), 1)
        rows = [(*parts(evaluator, widths), gemm_peak()) for _ in range(repeats + 1)]
        cutting, repair, scoring, peak = np.median(rows[1:], 0)  # the first warmed up
        decide = len(env.problem.decisions) * per_step
        total = decide + cutting + repair + scoring
        images = len(search) + (ratio < 1) * len(evaluator.images)
        shares = [flops * images / total / peak for flops in flops_per_image(table, widths)]
        print(
            f"{ratio:4}  {decide:6.3f} {cutting:6.3f}  {repair:6.2f}  {scoring:6.2f}  {total:7.2f}"
            f"  {len(search) / scoring:8.0f}  {shares[0]:6.0%}  {shares[1]:6.0%}  {peak / 1e9:7.0f}"
        )


def play(env, actions) -> int:
    """Play one episode; return its steps."""
    env.reset()
    for action in actions:
        env.step(np.array([action], dtype=np.float32))
    return len(env.problem.decisions)


def steps_per_second(env, smallest: float = -1.0) -> float:
    """Play episodes of one known strategy for two seconds."""
    actions = [smallest] * len(env.problem.decisions)
    play(env, actions)
    count, start = 0, time.perf_counter()
    while time.perf_counter() - start < 2:
        count += play(env, actions)
    return count / (time.perf_counter() - start)


def resident() -> float:
    """Return the resident memory of this process in MB."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 2**20


def memory(env, known: int = 10_000, new: int = 20) -> None:
    """Print how the resident memory grows over known and over new strategies."""
    rng, length = np.random.default_rng(0), len(env.problem.decisions)
    small = [list(rng.uniform(-1.0, -0.6, length)) for _ in range(5 + new)]
    for actions in small[:5]:  # the allocator gets its arenas
        play(env, actions)
    before = resident()
    for episode in range(known):
        play(env, small[episode % 5])
    between = resident()
    for actions in small[5:]:
        play(env, actions)
    print(
        f"resident memory over {known:,} known episodes: {before:.0f} to {between:.0f} MB, ", end=""
    )
    print(f"over {new} new strategies: {resident():.0f} MB")


@torch.inference_mode()
def amc_episode(evaluator, kept, images: torch.Tensor, labels: torch.Tensor) -> float:
    """Mask the full-size network and score it as AMC's published environment does."""
    network = copy.deepcopy(evaluator.network).to(memory_format=torch.contiguous_format)
    for (name, dim), stays in kept_positions(network, evaluator.table, kept).items():
        if dim == "in":
            weight = network.get_submodule(name).get_parameter("weight")
            removed = torch.ones(weight.shape[1], dtype=torch.bool)
            removed[stays] = False
            weight[:, removed] = 0
    right = 0
    for batch, answers in zip(images.split(AMC_BATCH), labels.split(AMC_BATCH), strict=True):
        right += int((network(batch).argmax(1) == answers).sum())
    return right / len(labels)


def warm_up_widths(full: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw a strategy as the agent's warm-up does: one ratio, with noise for every group."""
    actions = np.clip(rng.uniform(-1, 1) + rng.normal(0, 0.3, len(full)), -1, 1)
    return np.maximum((full * (0.5625 + 0.4375 * actions)).astype(int), 1)


def amc(env, strategies: int) -> None:
    """Print seconds per episode in AMC's manner and ours, for the same strategies."""
    evaluator, table = env.problem.evaluator, env.problem.evaluator.table
    search, rng = evaluator.data.search, np.random.default_rng(0)
    images = normalize(search.images, evaluator.data).contiguous()
    labels = torch.tensor(search.labels)
    half = np.maximum(table.full // 2, 1)
    random = [warm_up_widths(table.full, rng) for _ in range(strategies)]
    evaluator.candidate(table.configuration(half[None]))  # makes what all candidates share
    theirs, ours = [], []
    for number, widths in enumerate([half, *random]):
        start = time.perf_counter()
        amc_episode(evaluator, evaluator.kept(widths), images, labels)
        theirs.append(time.perf_counter() - start)
        ours.append(sum(parts(evaluator, widths)))
        name = f"random {number}" if number else "keep 0.5"
        print(
            f"{name:>9}: AMC's manner {theirs[-1]:6.2f} s, ours {ours[-1]:5.2f} s,"
            f" {theirs[-1] / ours[-1]:5.1f} times cheaper",
            flush=True,
        )
    if strategies:
        print(f"over the random ones: {sum(theirs[1:]) / sum(ours[1:]):.1f} times cheaper")


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--env", default="ChannelPrune-VGG16-CIFAR10-v0")
    parser.add_argument("--repair", default="least_squares")
    parser.add_argument("--part", choices=("episodes", "steps", "amc"), default=None)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--strategies", type=int, default=5, help="random ones, for amc")
    options = parser.parse_args()
    env = gym.make(options.env, repair=options.repair).unwrapped
    threads = f"{torch.get_num_threads()} threads, torch {torch.__version__}"
    print(f"{options.env}, {options.repair}, {threads}")
    if options.part in (None, "steps", "episodes"):
        rate = steps_per_second(env)
        print(f"steps a second without accuracy: {rate:.0f}")
    if options.part in (None, "steps"):
        memory(env)
    if options.part in (None, "episodes"):
        episodes(env, options.repeats, 1 / rate)
    if options.part in (None, "amc"):
        amc(env, options.strategies)


if __name__ == "__main__":
    main()
