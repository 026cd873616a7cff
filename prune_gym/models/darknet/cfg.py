"""Read and write Darknet's `.cfg` files: sections of options, one section per layer.

The format is that of Redmon's Darknet with AlexeyAB's additions, as public YOLO files use it.
"""

import math
from dataclasses import dataclass, field, replace
from pathlib import Path

from prune_gym._utils.paths import is_file
from prune_gym.errors import MissingFileError, UserError, unknown

# Options of Darknet's parser that change what a layer computes, or which numbers of a weights file
# are its own, in a way that is not implemented; with the value that changes nothing. All others
# that the layers here do not read concern training or what Darknet prints.
UNSUPPORTED: dict[str, dict[str, int | str]] = {
    "convolutional": {
        **{"dilation": 1, "binary": 0, "xnor": 0, "antialiasing": 0, "share_index": -1_000_000_000},
        **{"flipped": 0, "dontload": 0, "dontloadscales": 0},
        **{"sway": 0, "rotate": 0, "stretch": 0, "stretch_sway": 0},
    },
    "maxpool": {"maxpool_depth": 0, "antialiasing": 0, "maxpool_zero_nonmax": 0},
    "shortcut": {"weights_type": "none", "alpha": 1, "beta": 1},
    "upsample": {"scale": 1},
    "yolo": {"new_coords": 0},
    "route": {},
    "avgpool": {},
    "dropout": {},
}
MAX_NUMBER = 65_536  # of channels, pixels and the like: no network has more
SHOWN = 60  # characters of a wrong value in a message


@dataclass(frozen=True)
class Section:
    """One section of a cfg file.

    Attributes:
        kind: the name in brackets.
        line: where it starts, counted from 1.
        options: the values as they stand in the file.
        file: the file's name, for messages.
    """

    kind: str
    line: int
    options: dict[str, str] = field(default_factory=dict)
    file: str = "cfg"

    def whole(self, key: str, default: int | None = None) -> int:
        """Return an option as an integer.

        Raises:
            UserError: it is absent and has no default, or is no integer.
        """
        return int(self._number(key, default, int))

    def count(self, key: str, default: int | None = None, least: int = 1) -> int:
        """Return an option as an integer from ``least`` to ``MAX_NUMBER``.

        Raises:
            UserError: it is absent and has no default, or is no such integer.
        """
        value = self.whole(key, default)
        if not least <= value <= MAX_NUMBER:
            raise self.wrong(f"{key}= must be from {least} to {MAX_NUMBER:,}, got {value}")
        return value

    def real(self, key: str, default: float) -> float:
        """Return an option as a finite float; raises as `whole` does."""
        value = float(self._number(key, default, float))
        if not math.isfinite(value):
            raise self.wrong(f"{key}= must be a finite number, got {self._shown(key)}")
        return value

    def wholes(self, key: str) -> tuple[int, ...]:
        """Return an option as integers separated by commas; raises as `whole` does."""
        return tuple(int(each) for each in self._numbers(key, int))

    def reals(self, key: str) -> tuple[float, ...]:
        """Return an option as floats separated by commas; raises as `whole` does."""
        return tuple(float(each) for each in self._numbers(key, float))

    def changed(self, **options: object) -> "Section":
        """Return the section with other values."""
        return replace(self, options=self.options | {k: str(v) for k, v in options.items()})

    def wrong(self, what: str) -> UserError:
        """Return the error that names the section and its line."""
        return UserError(f"{self.file}:{self.line}: [{self.kind}] {what}")

    def _number(self, key: str, default: float | None, kind: type) -> float:
        if key not in self.options and default is not None:
            return default
        try:
            return kind(self.options[key][:SHOWN])
        except (KeyError, ValueError):
            raise self.wrong(f"{key}= must be a number, got {self._shown(key)}") from None

    def _numbers(self, key: str, kind: type) -> tuple[float, ...]:
        try:
            return tuple(kind(part) for part in self.options[key].split(",") if part.strip())
        except (KeyError, ValueError):
            raise self.wrong(
                f"{key}= must be numbers separated by commas, got {self._shown(key)}"
            ) from None

    def _shown(self, key: str) -> str:
        return repr(self.options[key][:SHOWN]) if key in self.options else "nothing"


def read_cfg(path: str | Path) -> tuple[Section, ...]:
    """Read a cfg file; see `parse_cfg`.

    Raises:
        MissingFileError: no such file.
        UserError: something in it is not understood; names the line.
    """
    path = Path(path)
    if not is_file(path):
        raise MissingFileError(f"{path}: no such Darknet cfg file")
    return parse_cfg(path.read_text(encoding="utf-8-sig", errors="replace"), path.name)


def parse_cfg(text: str, file: str = "cfg") -> tuple[Section, ...]:
    """Return the sections of a cfg; the first is ``[net]``, the others are layers 0, 1, ...

    Raises:
        UserError: a line that is neither section nor option, an unknown section, or an option
            whose effect is not implemented; names the line.
    """
    sections: list[Section] = []
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.split("#")[0].split(";")[0].strip()
        if line.startswith("[") and line.endswith("]"):
            sections.append(Section(line[1:-1].strip(), number, {}, file))
        elif "=" in line and sections:
            key, _, value = line.partition("=")
            sections[-1].options[key.strip()] = value.strip()
        elif line:
            raise UserError(f"{file}:{number}: neither a [section] nor key=value: {line[:SHOWN]!r}")
    if not sections or sections[0].kind not in ("net", "network"):
        raise UserError(f"{file}: the first section must be [net]; is this a Darknet cfg?")
    for section in sections[1:]:
        _check(section)
    return tuple(sections)


def _check(section: Section) -> None:
    if section.kind not in UNSUPPORTED:
        raise section.wrong(unknown("section", section.kind[:SHOWN], UNSUPPORTED))
    for key, value in UNSUPPORTED[section.kind].items():
        given = section.options.get(key, str(value))
        if key == "dilation" and section.whole("size", 1) == 1:
            continue  # Darknet ignores it there
        if not _equal(given, value):
            raise section.wrong(
                f"{key}={given[:SHOWN]} is not supported, only {key}={value}, the default"
            )


def _equal(given: str, value: int | str) -> bool:
    if isinstance(value, str):
        return given == value
    try:
        return float(given) == value
    except ValueError:
        return False


def write_cfg(sections: tuple[Section, ...]) -> str:
    """Return the text of a cfg that `parse_cfg` reads back to equal options."""
    return "\n".join(
        "\n".join([f"[{section.kind}]", *(f"{k}={v}" for k, v in section.options.items()), ""])
        for section in sections
    )
