"""Lines of JSON with a checksum: what a killed process left unfinished is recognized."""

import json
import zlib
from typing import Any


def checked_line(record: dict[str, Any]) -> bytes:
    """Return a record as one line: checksum, space, JSON."""
    body = json.dumps(record)
    return f"{_checksum(body)} {body}\n".encode()


def read_checked_line(line: str) -> dict[str, Any] | None:
    """Return the record of a line, None where its checksum is wrong or it is no record."""
    checksum, _, body = line.partition(" ")
    if checksum != _checksum(body):
        return None
    try:
        record = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def _checksum(body: str) -> str:
    return f"{zlib.crc32(body.encode()):08x}"
