"""CSV read so that NULL (nothing at all) and the empty text (`""`) stay apart, which Python's csv module cannot."""

import re

_CELL = re.compile(r'(?:"([^"]*(?:""[^"]*)*)"|([^",\r\n]*))(,|\r\n|\n)')


def rows(content):
    """Every row, the header too, as a list of texts and None. Strict: anything but RFC 4180 with an end of line fails."""
    text, at, row, found = content.decode("utf-8"), 0, [], []
    while at < len(text):
        cell = _CELL.match(text, at)
        assert cell, f"not a CSV cell at {at}: {text[at:at + 80]!r}"
        quoted, bare, end = cell.groups()
        row.append(quoted.replace('""', '"') if quoted is not None else bare or None)
        if end != ",":
            found.append(row)
            row = []
        at = cell.end()
    assert not row, f"the last line has no end: {row!r}"
    return found
