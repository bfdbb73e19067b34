"""Ask this machine's resolver for a name's addresses, with bounds; judges none of them."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Final, TypeAlias

__all__ = ["Resolver", "resolve_on_host"]

Resolver: TypeAlias = Callable[[str], Awaitable[Sequence[str]]]
"""Takes a name and returns its addresses, best first; raises `OSError` where there are none."""

_THREADS: Final = 16


async def resolve_on_host(name: str) -> Sequence[str]:
    """Ask `getaddrinfo`. It cannot be cancelled, so it has threads of its own: a slow name blocks no other work."""
    loop = asyncio.get_running_loop()
    found = await loop.run_in_executor(
        _threads(), lambda: socket.getaddrinfo(name, None, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    )
    return tuple(dict.fromkeys(str(place[0]) for *_, place in found))


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_THREADS, thread_name_prefix="tumbler-resolver")
