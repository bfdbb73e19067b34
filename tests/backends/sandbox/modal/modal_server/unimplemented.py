"""Fill a service's base class: what a test double does not serve is refused as a real server refuses it."""

import grpclib
from grpclib.const import Handler, Status


class Servable:
    """A service with all its calls."""

    def __mapping__(self) -> dict[str, Handler]:
        raise NotImplementedError("the generated base class overrides this")


def complete(base: type) -> type[Servable]:
    """Return a subclass of `base` each abstract method of which answers UNIMPLEMENTED."""

    def refuse(name: str) -> object:
        async def method(self: object, stream: object) -> None:
            raise grpclib.GRPCError(Status.UNIMPLEMENTED, f"this test server does not serve {name}")

        return method

    methods = {name: refuse(name) for name in getattr(base, "__abstractmethods__", ())}
    return type(base.__name__, (base, Servable), methods)
