"""The dashboard: static files, told by the page's attributes what this gateway is."""

from __future__ import annotations

import mimetypes
from html import escape
from importlib.metadata import version
from importlib.resources import files
from importlib.resources.abc import Traversable

from quart import Blueprint, Response
from werkzeug.exceptions import NotFound

from pyoco_http.access import Access, access
from pyoco_http.call import current_call
from pyoco_http.operation import HTML, TEXT, described
from pyoco_http.proxies import Proxies
from pyoco_server.backend import Backend

# Everything from here, nothing inline, in nobody's frame.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    # Looked at each time, so that an update of the gateway is one of the page as well.
    "Cache-Control": "no-cache",
}


def dashboard_blueprint(backend: Backend) -> Blueprint:
    """`GET /` and `GET /static/*`."""
    blueprint = Blueprint("dashboard", __name__)
    static = _read(files("pyoco_http") / "static")
    proxies = Proxies(backend.settings)
    page = _page(backend, static.pop("index.html"), sorted(static))

    @blueprint.get("/")
    @access(Access.PUBLIC)
    @described("The dashboard", HTML)
    async def index() -> Response:
        root = proxies.root_of(current_call())
        # Relative where it is not known, which is right below any path that ends in a slash.
        text = page.replace(b"__ROOT__", f"{escape(root)}/".encode() if root else b"")
        return Response(text, content_type="text/html; charset=utf-8", headers=_HEADERS)

    @blueprint.get("/static/<path:name>")
    @access(Access.PUBLIC)
    @described("A file of the dashboard", {"*/*": TEXT}, refusals={404: "not found"})
    async def file(name: str) -> Response:
        if name not in static:
            raise NotFound(f"no file {name!r}")
        kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
        return Response(static[name], content_type=f"{kind}; charset=utf-8", headers=_HEADERS)

    return blueprint


def _read(folder: Traversable, prefix: str = "") -> dict[str, bytes]:
    """The files below a folder by their path there; small enough to be kept in memory."""
    found: dict[str, bytes] = {}
    for entry in folder.iterdir():
        if entry.is_dir():
            found |= _read(entry, f"{prefix}{entry.name}/")
        else:
            found[prefix + entry.name] = entry.read_bytes()
    return found


def _page(backend: Backend, template: bytes, names: list[str]) -> bytes:
    """The page; it names every module, so that a browser asks for all of them at once."""
    settings = backend.settings
    values = {
        "__LANG__": settings.dashboard_lang,
        "__AUTH__": settings.http_auth_mode,
        "__HEADER__": settings.http_api_key_header,
        "__VERSION__": version("pyoco-server"),
    }
    text = template.decode()
    for name, value in values.items():
        text = text.replace(name, escape(value))
    modules = (
        f'<link rel="modulepreload" href="__ROOT__static/{name}">'
        for name in names
        if name.startswith("js/")
    )
    return text.replace("<!-- modules -->", "".join(modules)).encode()
