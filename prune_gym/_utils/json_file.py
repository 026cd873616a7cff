"""Read JSON files of unknown origin."""

import json
from pathlib import Path
from typing import Any

from prune_gym._utils.paths import read_text
from prune_gym.errors import UserError, first_line


def read_json(path: Path) -> Any:
    """Return the content of a JSON file.

    Raises:
        FileAccessError: it cannot be read.
        UserError: it is not JSON, or nested too deeply.
    """
    try:
        return json.loads(read_text(path))
    except RecursionError:
        raise UserError(f"{path} is not JSON of a sane depth: it is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise UserError(f"{path} is not JSON ({error})") from error
    except ValueError as error:  # a number of thousands of digits
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path} is not JSON ({first_line(error)})") from error
