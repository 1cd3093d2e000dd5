"""The OpenAPI document as a page for people: without a script, and with nothing from anywhere else."""

import base64
import hashlib
from functools import cache
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.responses import HTMLResponse
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
_POLICY = "default-src 'none'; frame-ancestors 'none'; style-src 'sha256-{digest}'"


@router.get("/docs", dependencies=[Depends(no_key)])
async def documentation(request: Request) -> HTMLResponse:
    digest = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
    return HTMLResponse(
        _page(request.app), headers={"Content-Security-Policy": _POLICY.format(digest=digest)}
    )


@cache  # as FastAPI keeps the document that it is made from
def _page(api: FastAPI) -> str:
    folder = FileSystemLoader(Path(__file__).parent)
    made = Environment(
        loader=folder, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    made.globals["shape"] = shape
    document = api.openapi()
    return made.get_template("documentation.html.jinja").render(
        document=document, style=_STYLE, schemas=document["components"]["schemas"]
    )


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
