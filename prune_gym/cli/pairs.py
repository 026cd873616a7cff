"""``NAME=NUMBER`` on the command line."""

import argparse


def pair(text: str) -> tuple[str, float]:
    """Read ``NAME=NUMBER``, as a parser's ``type``."""
    name, _, value = text.partition("=")
    try:
        return name.strip(), float(value)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected NAME=NUMBER, got {text!r}") from None


def pairs(text: str) -> dict[str, float]:
    """Read ``NAME=NUMBER,...``, as a parser's ``type``."""
    return dict(pair(part) for part in text.split(","))
