"""What an upload says about its bytes. What kind of file it is, is read from the bytes themselves."""

from typing import NamedTuple

from app.errors import Refused

FORMS = (
    "application/jsonl",
    "application/x-ndjson",
    "application/json",
    "text/csv",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "application/yaml",
    "application/octet-stream",
)
_ENCODINGS = {"": None, "identity": None, "gzip": "gzip", "x-gzip": "gzip"}
_MAX_CHARS = 100


class UnsupportedMedia(Refused):
    """Send the file itself as the body, as it is or with `Content-Encoding: gzip`."""

    code = "unsupported_media_type"
    status = 415


class Media(NamedTuple):
    """encoding: `gzip`, or None for a file as it is."""

    media_type: str
    encoding: str | None


def media_of(content_type: str | None, content_encoding: str | None) -> Media:
    """Raises: UnsupportedMedia."""
    media_type = (content_type or "application/octet-stream").partition(";")[0].strip().lower()
    if media_type.startswith("multipart/"):
        raise UnsupportedMedia("send the file itself as the body, not a form that it is a part of")
    encoding = (content_encoding or "").strip().lower()
    if encoding not in _ENCODINGS:
        raise UnsupportedMedia("the only Content-Encoding that is taken is gzip")
    return Media(media_type[:_MAX_CHARS], _ENCODINGS[encoding])
