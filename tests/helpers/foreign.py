"""Files as somebody might have changed them: values exchanged, left out or added, bytes flipped."""

import json

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

FUZZ = settings(
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    max_examples=100,
)
NESTED = json.loads("[" * 500 + "]" * 500)
ODD = st.sampled_from(
    [None, True, -1, 0, 10**400, -(10**30), 1e308, float("nan"), float("inf"), "", "[/red]"]
    + ["\x1b[2J", "\udc80", "\0", "a:b", "../../etc/passwd", "x" * 10_000, [], {}, NESTED]
)
ANYTHING = st.recursive(
    ODD | st.integers() | st.floats() | st.text(max_size=5),
    lambda each: (
        st.lists(each, max_size=3) | st.dictionaries(st.text(max_size=5), each, max_size=3)
    ),
    max_leaves=5,
)


def places(value, path=()):
    """Return the path of every value inside of plain data."""
    found = [path] if path else []
    inside = value if isinstance(value, dict | list) else ()
    for key, each in inside.items() if isinstance(value, dict) else enumerate(inside):
        found += places(each, (*path, key))
    return found


def changed(plain, draw):
    """Return plain data with one value of it exchanged, left out or added."""
    content = json.loads(json.dumps(plain))
    *above, last = draw(st.sampled_from(places(content)))
    holder = content
    for key in above:
        holder = holder[key]
    kind = draw(st.sampled_from(["exchange", "leave out", "add"]))
    if kind == "exchange":
        holder[last] = draw(ANYTHING)
    elif kind == "leave out":
        del holder[last]
    elif isinstance(holder, dict):
        holder[draw(st.text(max_size=5))] = draw(ANYTHING)
    else:
        holder.append(draw(ANYTHING))
    return content


def changed_bytes(content, draw):
    """Return a file's content with bytes exchanged, or cut off, or with rubbish around it."""
    content = bytearray(content)
    for _ in range(draw(st.integers(0, 3))):
        content[draw(st.integers(0, len(content) - 1))] = draw(st.integers(0, 255))
    content = content[: draw(st.sampled_from([len(content), len(content) // 2, 1, 0]))]
    before = draw(st.sampled_from([b"", b"\xef\xbb\xbf", b"\0", b"[" * 100_000]))
    return before + bytes(content)
