"""A library of pruned and retrained networks, one per density, that candidates start from.

EMOMC (IEEE CIM 16(3), 2021) prunes in small steps, retrains after each and keeps every network, so
that its search needs no training: ``prune-gym library`` makes the files, an environment that is
made with ``library=FOLDER`` uses them.
"""

import copy
import hashlib
import reprlib
from collections.abc import Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load
from torch import nn

from prune_gym._utils.json_file import read_json
from prune_gym._utils.paths import file_version, is_file
from prune_gym.compression.unstructured import sparsify
from prune_gym.errors import MissingFileError, UserError
from prune_gym.evaluation.evaluator import Evaluator
from prune_gym.graph.configuration import Configuration
from prune_gym.models.weights_file import fill

FORMAT, MANIFEST = "prune-gym-library-1", "library.json"
DECIDES = ("global_density", "weight_bits", "activation_bits")


class Library:
    """The networks of one folder, all made from one network; element-wise pruned.

    Attributes:
        folder: where the files are.
        manifest: ``start`` (checksum of the weights they were made from), ``densities`` (planned)
            and ``networks``: density, file, SHA-256 and search accuracy of each.
    """

    def __init__(self, folder: str | Path) -> None:
        """Open a finished library.

        Raises:
            MissingFileError: there is none.
            UserError: it is damaged, or not finished.
        """
        self.folder, self.manifest = Path(folder), read_manifest(Path(folder))
        made, planned = len(self.manifest["networks"]), len(self.manifest["densities"])
        if made < planned:
            raise UserError(
                f"{folder} is not finished ({made} of {planned} networks): go on with the same "
                "`prune-gym library` command"
            )

    def network_at(self, density: float, original: nn.Module) -> nn.Module:
        """Return the sparsest network that is at least so dense: ``original`` where none is.

        Raises:
            UserError: its file is missing or not the one that was made.
        """
        network = copy.deepcopy(original)
        dense = [each for each in self.manifest["networks"] if each["density"] >= density - 1e-9]
        if not dense or density >= 1:
            return network
        return read_network(self.folder, min(dense, key=lambda each: each["density"]), network)


class LibraryEvaluator(Evaluator):
    """Candidates start from the library's networks and are quantized; nothing is repaired."""

    def __init__(self, base: Evaluator, folder: str) -> None:
        """Use the library in ``folder`` for the task of ``base``.

        Raises:
            MissingFileError: there is no library.
            UserError: it is damaged, not finished or of another network.
        """
        tables = (base.network, base.table, base.data, base.calibration, base.pixels)
        super().__init__(*tables, base.repair, device=base.device)
        self._base, self._folder, self._library = base, folder, Library(folder)
        if self._library.manifest["start"] != base.checksum:
            raise UserError(
                f"library {folder} was made from other weights (its {MANIFEST} says network "
                f"{self._library.manifest['network']} on {self._library.manifest['data']})"
            )

    def __reduce__(self) -> tuple:
        """Pickle the task and the folder's name."""
        return (evaluator_with_library, (self._base, self._folder))

    @cached_property
    def checksum(self) -> str:
        """Return a checksum of the library: of the original and of every network in it."""
        manifest = self._library.manifest
        files = [manifest["start"], *(each["sha256"] for each in manifest["networks"])]
        return hashlib.sha256(" ".join(files).encode()).hexdigest()

    def candidate(self, configuration: Configuration) -> nn.Module:
        """Return the pruned, retrained and quantized network of one strategy."""
        density = configuration.density[0]
        network = self._library.network_at(float(density[0]), self.network)
        network = sparsify(network.to(self.device), self.table, density)
        return self.quantize(network, configuration)


def with_library(evaluator: Evaluator, folder: str, decide: Sequence[str]) -> Evaluator:
    """Return an evaluator whose candidates start from a library; equal calls share it.

    Raises:
        MissingFileError: there is no library.
        UserError: it is damaged, not finished or of another network; ``decide`` asks for more than
            one density for all layers, and bits.
    """
    if "global_density" not in decide or any(kind not in DECIDES for kind in decide):
        raise UserError(
            "library: its networks have one density for all layers; expected decide=("
            f"'global_density', ...) out of {DECIDES}, got {tuple(decide)}"
        )
    if evaluator.table.block_size != 1:
        raise UserError(
            "library: its networks are pruned element-wise; expected granularity=1, got "
            f"{evaluator.table.block_size}"
        )
    return evaluator_with_library(evaluator, folder)


def evaluator_with_library(base: Evaluator, folder: str) -> LibraryEvaluator:
    """Return the shared evaluator of a task and a library's folder."""
    return _evaluator_with_library(base, folder, file_version(Path(folder) / MANIFEST))


@lru_cache(maxsize=8)
def _evaluator_with_library(
    base: Evaluator, folder: str, version: tuple[int, int] | None
) -> LibraryEvaluator:
    """Make it; ``version`` is that of the library's manifest, for one that is made again."""
    return LibraryEvaluator(base, folder)


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return what a library's folder says of itself.

    Raises:
        MissingFileError: there is no library.
        UserError: the file is damaged or of another kind.
    """
    path = folder / MANIFEST
    if not is_file(path):
        raise MissingFileError(f"{path}: no such file; `prune-gym library --out {folder}` makes it")
    manifest = read_json(path)
    found = manifest.get("format") if isinstance(manifest, dict) else type(manifest).__name__
    if found != FORMAT:
        raise UserError(f"{path}: expected format {FORMAT!r}, got {reprlib.repr(found)}")
    for key, fits in MANIFEST_FIELDS.items():
        if not fits(manifest.get(key)):
            raise UserError(f"{path} is damaged at {key}: {reprlib.repr(manifest.get(key))}")
    return manifest


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _are_shares(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_share, value))


def _is_share(value: Any) -> bool:
    return isinstance(value, int | float) and 0 <= value <= 1


def _are_networks(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(each, dict)
        and _is_share(each.get("density"))
        and _is_text(each.get("sha256"))
        and _is_text(each.get("file"))
        and Path(each["file"]).name == each["file"]  # in the library's own folder
        for each in value
    )


MANIFEST_FIELDS = {
    "network": _is_text,
    "data": _is_text,
    "start": _is_text,
    "densities": _are_shares,
    "networks": _are_networks,
}


def read_network(folder: Path, entry: dict[str, Any], network: nn.Module) -> nn.Module:
    """Fill ``network`` with the weights of one entry of the manifest and return it.

    Raises:
        UserError: the file is missing or not the one that was made.
    """
    path = folder / entry["file"]
    content = path.read_bytes() if is_file(path) else b""
    if hashlib.sha256(content).hexdigest() != entry["sha256"]:
        raise UserError(
            f"{path} is {'not the file that was made' if content else 'missing'}: its checksum is "
            f"not that of {MANIFEST}; make the library again in an empty folder"
        )
    try:
        fill(network, load(content), path)
    except SafetensorError as error:
        raise UserError(f"{path} is not a whole safetensors file ({error})") from None
    return network
