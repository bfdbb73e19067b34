"""The front end as one ASGI application: the control plane and, told apart by headers, every sandbox's own server."""

import contextlib
from collections.abc import AsyncGenerator

from starlette.applications import Starlette

from tumbler_backends.sandbox.service.e2b.boxes import Boxes
from tumbler_backends.sandbox.service.e2b.code_http import code_routes
from tumbler_backends.sandbox.service.e2b.control import ControlPlane
from tumbler_backends.sandbox.service.e2b.file_http import file_routes
from tumbler_backends.sandbox.service.e2b.filesystem_rpc import filesystem_routes
from tumbler_backends.sandbox.service.e2b.gate import Gate
from tumbler_backends.sandbox.service.e2b.process_rpc import process_routes
from tumbler_backends.sandbox.service.e2b.specs import E2bOptions

__all__ = ["e2b_app"]


def e2b_app(gate: Gate, options: E2bOptions | None = None) -> Starlette:
    """Return the application; mount it at the root of an address, as E2B's clients know no path prefix.

    `E2B_API_URL` and `E2B_SANDBOX_URL` of a client may both be that address. The gate's backend is
    started and closed by the caller.
    """
    boxes = Boxes(gate)

    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncGenerator[None, None]:
        yield
        await boxes.close()

    routes = [
        *ControlPlane(gate, boxes, options or E2bOptions()).routes(),
        *process_routes(boxes),
        *filesystem_routes(boxes),
        *file_routes(boxes),
        *code_routes(boxes),
    ]
    return Starlette(routes=routes, lifespan=lifespan)
