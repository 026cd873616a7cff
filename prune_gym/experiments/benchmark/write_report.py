"""Table and pictures of a benchmark, from its CSV alone."""

import io
from pathlib import Path

from matplotlib.figure import Figure

from prune_gym._utils.json_file import read_json
from prune_gym._utils.paths import write_atomically
from prune_gym.errors import UserError
from prune_gym.experiments.benchmark.collect import ABOUT
from prune_gym.experiments.benchmark.plots import curves_figure, final_figure
from prune_gym.experiments.benchmark.summary import read_summaries
from prune_gym.experiments.benchmark.table import markdown

TABLE, CURVES, FINAL = "benchmark.md", "hypervolume.png", "final.png"


def write_report(folder: Path) -> str:
    """Write the table and the pictures beside the CSV; returns the table.

    Of ``results.csv`` alone the table says no versions.

    Raises:
        MissingFileError: no results in the folder.
        UserError: they are damaged.
    """
    try:
        summaries = read_summaries(folder)
        about = folder / ABOUT
        made_by = read_json(about) if about.is_file() else {}
        text = markdown(summaries, made_by)
    except (ValueError, LookupError, TypeError) as error:
        raise UserError(
            f"the results in {folder} are damaged ({error}); the same `prune-gym benchmark` "
            "command writes them again"
        ) from error
    write_atomically(folder / TABLE, text.encode())
    write_atomically(folder / CURVES, _png(curves_figure(summaries)))
    write_atomically(folder / FINAL, _png(final_figure(summaries)))
    return text


def _png(figure: Figure) -> bytes:
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=120)
    return image.getvalue()
