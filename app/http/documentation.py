"""The OpenAPI document as a page for people: without a script, and with nothing from anywhere else."""

import asyncio
import base64
import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.responses import HTMLResponse, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from app.auth.access import no_key
from app.auth.route import KeyedRoute

router = APIRouter(route_class=KeyedRoute, include_in_schema=False)
_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
code, pre { font-family: ui-monospace, monospace; font-size: 0.9em; }
article { border-top: 1px solid #ccc; padding: 0.5rem 0; }
table { border-collapse: collapse; width: 100%; } td { vertical-align: top; padding: 0.2rem 0.6rem 0.2rem 0; }
h3 b { display: inline-block; min-width: 4.5rem; } summary { cursor: pointer; }
"""
_DIGEST = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_POLICY = f"default-src 'none'; frame-ancestors 'none'; style-src 'sha256-{_DIGEST}'"


class _Documents(NamedTuple):
    page: str
    document: bytes


@router.get("/docs", dependencies=[Depends(no_key)])
async def documentation(request: Request) -> HTMLResponse:
    return HTMLResponse((await _documents(request.app)).page, headers={"Content-Security-Policy": _POLICY})


@router.get("/openapi.json", dependencies=[Depends(no_key)])
async def openapi_document(request: Request) -> Response:
    return Response((await _documents(request.app)).document, media_type="application/json")


async def _documents(api: FastAPI) -> _Documents:
    """Made once, in a thread: it takes half a second, and strangers may ask for it."""
    if not hasattr(api.state, "documents"):
        api.state.documents = await asyncio.to_thread(_made, api)
    found: _Documents = api.state.documents
    return found


def _made(api: FastAPI) -> _Documents:
    folder = FileSystemLoader(Path(__file__).parent)
    pages = Environment(
        loader=folder, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    pages.globals["shape"] = shape
    document = api.openapi()
    template = pages.get_template("documentation.html.jinja")
    page = template.render(document=document, style=_STYLE, schemas=document["components"]["schemas"])
    return _Documents(page, json.dumps(document, ensure_ascii=False).encode())


def shape(said: dict[str, Any]) -> list[tuple[str, str | None]]:
    """A type in words; with each word the name of the schema that it refers to, where it does."""
    if "$ref" in said:
        name = said["$ref"].rpartition("/")[2]
        return [(name, name)]
    for several in ("anyOf", "oneOf", "allOf"):
        if several in said:
            parts = [shape(one) for one in said[several]]
            return [
                word
                for number, part in enumerate(parts)
                for word in ([(" or ", None)] if number else []) + part
            ]
    if "enum" in said:
        return [(" | ".join(str(one) for one in said["enum"]), None)]
    if said.get("type") == "array":
        return [("list of ", None), *shape(said.get("items", {}))]
    if "const" in said:
        return [(str(said["const"]), None)]
    return [(said.get("format") or said.get("type") or "anything", None)]
