"""What kinds of file a dataset is made from."""

import re
from typing import NamedTuple

from app.datasets.reading import Form
from app.errors import Refused

FORMS = {
    "application/jsonl": Form.jsonl,
    "application/x-jsonlines": Form.jsonl,
    "application/x-ndjson": Form.jsonl,
    "application/ndjson": Form.jsonl,
    "text/csv": Form.csv,
}
_ENCODINGS = {"": None, "identity": None, "gzip": "gzip", "x-gzip": "gzip"}
_CHARSET = re.compile(r"charset=\"?([^\s;\"]+)", re.IGNORECASE)


class UnsupportedMedia(Refused):
    """Send JSONL (application/jsonl) or CSV (text/csv) in UTF-8, as it is or with `Content-Encoding: gzip`."""

    code = "unsupported_media_type"
    status = 415


class Media(NamedTuple):
    """encoding: `gzip`, or None for a file as it is."""

    media_type: str
    encoding: str | None


def media_of(content_type: str | None, content_encoding: str | None) -> Media:
    """Raises: UnsupportedMedia."""
    media_type, _, parameters = (content_type or "").partition(";")
    media_type = media_type.strip().lower()
    charset = _CHARSET.search(parameters)
    if media_type not in FORMS or (charset and charset[1].lower() not in ("utf-8", "utf8")):
        raise UnsupportedMedia(f"send one of {', '.join(FORMS)}, in UTF-8")
    encoding = (content_encoding or "").strip().lower()
    if encoding not in _ENCODINGS:
        raise UnsupportedMedia("the only Content-Encoding that is taken is gzip")
    return Media(media_type, _ENCODINGS[encoding])
