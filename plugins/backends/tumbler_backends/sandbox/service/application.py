"""Puts the service's parts together into one ASGI application."""

from typing import Final

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import PlainTextResponse

from tumbler import __version__
from tumbler_backends.sandbox.service import failures
from tumbler_backends.sandbox.service.desk import INSTANCE_HEADER, Caller, Desk
from tumbler_backends.sandbox.service.limits import Application, Receive, Scope, Send, Surroundings
from tumbler_backends.sandbox.service.routes import commands, environments, files, processes, sandboxes, sessions

__all__ = ["make_application", "native_application"]

_DESCRIPTION: Final = """Sandboxes to run commands in.

Send the token as `Authorization: Bearer …`. Errors are objects with `error`, the class's name, and `message`. A request
that repeats an earlier one may carry the header `Tumbler-Instance` with the value that the server's answers had: it is
then refused if the server was restarted in between."""

_OWN: Final = ("/v1/", "/healthz", "/readyz", "/metrics", "/openapi.json")

_health = APIRouter(tags=["health"])


@_health.get("/healthz", response_class=PlainTextResponse)
async def healthy() -> str:
    """Tell that the process answers."""
    return "ok\n"


_operation = APIRouter(tags=["operation"], responses=failures.PROBLEMS)


@_operation.get("/readyz", response_class=PlainTextResponse)
async def ready(request: Request) -> str:
    """Tell that new sandboxes can be made."""
    desk: Desk = request.app.state.desk
    await desk.holdings.require_ready()
    return "ok\n"


@_operation.get("/metrics", response_class=PlainTextResponse)
async def metrics(caller: Caller) -> PlainTextResponse:
    """Return the counts as Prometheus reads them."""
    return PlainTextResponse(caller.desk.holdings.metrics.text(), media_type="text/plain; version=0.0.4")


def native_application(desk: Desk) -> FastAPI:
    """Return the native API."""
    app = FastAPI(
        title="Tumbler sandboxes",
        version=__version__,
        description=_DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.desk = desk
    app.include_router(_health)
    app.include_router(_operation)
    for part in (sandboxes, commands, processes, sessions, files, environments):
        app.include_router(part.router, prefix="/v1")
    failures.install(app)
    return app


def make_application(desk: Desk, other: Application) -> Application:
    """Return the whole service: the native API, and `other` for all paths that are not the native API's."""
    native = native_application(desk)

    async def choose(scope: Scope, receive: Receive, send: Send) -> None:
        chosen: Application = native if _is_native(scope) else other
        await chosen(scope, receive, send)

    return Surroundings(
        choose,
        header=(INSTANCE_HEADER.lower().encode(), desk.instance.encode()),
        body_bytes=desk.settings.body_bytes,
        upload_bytes=desk.settings.upload_bytes,
        local_only=desk.tenants.open,
    )


def _is_native(scope: Scope) -> bool:
    if scope["type"] != "http":
        return True
    # The other front end speaks to sandboxes under paths of its own, /metrics among them.
    routed = any(name == b"e2b-sandbox-id" for name, _ in scope["headers"])
    path: str = scope["path"]
    return not routed and any(path == own or (own.endswith("/") and path.startswith(own)) for own in _OWN)
