"""The control plane: sandboxes are created, found, kept, copied and ended here; knows nothing of what runs in them."""

import contextlib
import datetime
import json
import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from typing import Final, TypeAlias
from urllib.parse import parse_qsl, unquote

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tumbler.contracts.sandbox_control import CompleteSandbox, SandboxInfo
from tumbler.errors import SandboxNotFound
from tumbler_backends.sandbox.service.e2b.boxes import Boxes
from tumbler_backends.sandbox.service.e2b.faults import RefusedError
from tumbler_backends.sandbox.service.e2b.file_http import measured, refusal
from tumbler_backends.sandbox.service.e2b.framing import Json
from tumbler_backends.sandbox.service.e2b.gate import Gate
from tumbler_backends.sandbox.service.e2b.messages import number
from tumbler_backends.sandbox.service.e2b.specs import (
    HIDDEN,
    TEMPLATE_LABEL,
    E2bOptions,
    lifetime,
    policy_of,
    spec_of,
)

__all__ = ["ControlPlane"]

_Answer: TypeAlias = Callable[[Request, str], Awaitable[Response]]

_ENVD_VERSION: Final = "0.6.4"
"""From this version on clients use all that is offered here."""
_PAGE: Final = 100
_BODY_BYTES: Final = 4 << 20
_MOST_FORKS: Final = 20


class ControlPlane:
    """The routes below the API's address; each is for a tenant, known by the API key."""

    def __init__(self, gate: Gate, boxes: Boxes, options: E2bOptions) -> None:
        """Serve the gate's sandboxes."""
        self._gate = gate
        self._boxes = boxes
        self._options = options

    def routes(self) -> list[Route]:
        """Return the routes."""
        one = "/sandboxes/{identity}"
        table: list[tuple[str, str, _Answer]] = [
            ("POST", "/sandboxes", self._create),
            ("POST", "/v2/sandboxes", self._create),
            ("GET", "/sandboxes", self._list),
            ("GET", "/v2/sandboxes", self._list),
            ("GET", one, self._detail),
            ("DELETE", one, self._delete),
            ("POST", f"{one}/timeout", self._set_timeout),
            ("POST", f"{one}/refreshes", self._refresh),
            ("POST", f"{one}/connect", self._connect),
            ("POST", f"/v2{one}/connect", self._connect),
            ("POST", f"{one}/resume", self._connect),
            ("POST", f"{one}/pause", self._pause),
            ("POST", f"{one}/snapshots", self._snapshot),
            ("POST", f"{one}/fork", self._fork),
            ("PUT", f"{one}/network", self._set_network),
            ("GET", f"{one}/metrics", self._metrics),
            ("GET", f"{one}/egress", self._egress),
            ("GET", "/snapshots", self._snapshots),
            ("DELETE", "/templates/{template:path}", self._delete_template),
        ]
        return [Route(path, self._guarded(answer), methods=[method]) for method, path, answer in table]

    def _guarded(self, answer: _Answer) -> Callable[[Request], Awaitable[Response]]:
        async def respond(request: Request) -> Response:
            try:
                tenant = await self._gate.authenticate(_key(request))
                if tenant is None:
                    raise RefusedError(401, "the API key in the header X-API-KEY is missing or not known")
                return await answer(request, tenant)
            except SandboxNotFound as error:
                if identity := request.path_params.get("identity"):
                    await self._boxes.forget(identity)
                return refusal(RefusedError(404, str(error)), request)
            except Exception as error:  # noqa: BLE001  # whatever a backend raises is told to the client
                return refusal(error, request)

        return respond

    async def _create(self, request: Request, tenant: str) -> Response:
        body = await _body(request)
        template = body.get("templateID")
        known = template in self._options.templates
        snapshots = [] if known else await self._gate.templates(tenant)
        spec = spec_of(
            body,
            self._options,
            snapshots=frozenset(each.id for each in snapshots),
            idempotency_key=request.headers.get("idempotency-key"),
        )
        return JSONResponse(self._handle(await self._gate.create(tenant, spec)), 201)

    async def _list(self, request: Request, tenant: str) -> Response:
        query = request.query_params
        wanted = {unquote(name): unquote(value) for name, value in parse_qsl(query.get("metadata", ""))}
        states = {state for each in query.getlist("state") for state in each.split(",")}
        found = [
            info
            for info in await self._gate.list(tenant, wanted)
            if (not states or info.state in states)
            and query.get("template", _template(info)) == _template(info)
            and info.created > _moment(query.get("startedAfter"))
        ]
        found.sort(key=lambda info: (info.created, info.id), reverse=query.get("order", "desc") != "asc")
        return _paged([_described(info) for info in found], request)

    async def _detail(self, request: Request, tenant: str) -> Response:
        sandbox = await self._gate.get(tenant, request.path_params["identity"])
        policy = sandbox.spec.network
        return JSONResponse(
            {
                **_described(await sandbox.info(), sandbox),
                "envdAccessToken": self._boxes.token(sandbox.id),
                "domain": None,
                "allowInternetAccess": policy.mode != "none",
                "network": {
                    "allowOut": [*policy.hosts, *policy.cidrs],
                    "denyOut": [] if policy.mode == "public" else ["0.0.0.0/0"],
                },
                "lifecycle": {"autoResume": False, "onTimeout": "kill"},
            }
        )

    async def _delete(self, request: Request, tenant: str) -> Response:
        identity = request.path_params["identity"]
        await self._gate.delete(tenant, identity)
        await self._boxes.forget(identity)
        return Response(status_code=204)

    async def _set_timeout(self, request: Request, tenant: str) -> Response:
        ttl = lifetime(await _body(request), self._options)
        await self._gate.extend(tenant, request.path_params["identity"], ttl)
        return Response(status_code=204)

    async def _refresh(self, request: Request, tenant: str) -> Response:
        body = await _body(request)
        ttl = lifetime({"timeout": number(body, "duration") or 15}, self._options)
        await self._gate.extend(tenant, request.path_params["identity"], ttl)
        return Response(status_code=204)

    async def _connect(self, request: Request, tenant: str) -> Response:
        ttl = lifetime(await _body(request), self._options)
        sandbox = await self._gate.get(tenant, request.path_params["identity"])
        info = await sandbox.info()
        if info.state == "paused":
            await sandbox.resume()
        if datetime.datetime.now(datetime.UTC).timestamp() + ttl > info.expires:
            await self._gate.extend(tenant, sandbox.id, ttl)
        return JSONResponse(self._handle(sandbox), 201 if info.state == "paused" else 200)

    async def _pause(self, request: Request, tenant: str) -> Response:
        sandbox = await self._gate.get(tenant, request.path_params["identity"])
        if (await sandbox.info()).state == "paused":
            raise RefusedError(409, f"sandbox {sandbox.id} is already paused")
        await sandbox.pause()
        return Response(status_code=204)

    async def _snapshot(self, request: Request, tenant: str) -> Response:
        template = await (await self._gate.get(tenant, request.path_params["identity"])).snapshot()
        return JSONResponse({"snapshotID": template.id, "names": []}, 201)

    async def _snapshots(self, request: Request, tenant: str) -> Response:
        source = request.query_params.get("sandboxID")
        templates = [each for each in await self._gate.templates(tenant) if source in {None, each.source}]
        return _paged([{"snapshotID": each.id, "names": []} for each in templates], request)

    async def _delete_template(self, request: Request, tenant: str) -> Response:
        await self._gate.delete_template(tenant, request.path_params["template"])
        return Response(status_code=204)

    async def _fork(self, request: Request, tenant: str) -> Response:
        body = await _body(request)
        count = number(body, "count") or 1
        if not 1 <= count <= _MOST_FORKS:
            raise RefusedError(400, f"count must lie between 1 and {_MOST_FORKS}")
        ttl = lifetime(body, self._options)
        copies = await self._gate.fork(tenant, request.path_params["identity"], count)
        for copy in copies:
            await self._gate.extend(tenant, copy.id, ttl)
        return JSONResponse([{"sandbox": self._handle(copy)} for copy in copies], 201)

    async def _set_network(self, request: Request, tenant: str) -> Response:
        body = await _body(request)
        policy = policy_of(body, body, self._options)
        await (await self._gate.get(tenant, request.path_params["identity"])).set_network(policy)
        return Response(status_code=204)

    async def _egress(self, request: Request, tenant: str) -> Response:
        """Answer with the egress log, which E2B's own service does not keep."""
        records = await (await self._gate.get(tenant, request.path_params["identity"])).egress()
        return JSONResponse([asdict(record) for record in records])

    async def _metrics(self, request: Request, tenant: str) -> Response:
        now = await measured(await self._gate.get(tenant, request.path_params["identity"]))
        moment = datetime.datetime.now(datetime.UTC)
        names = {"cpu_count": "cpuCount", "cpu_used_pct": "cpuUsedPct", "mem_used": "memUsed", "mem_total": "memTotal"}
        names |= {"mem_cache": "memCache", "disk_used": "diskUsed", "disk_total": "diskTotal"}
        sample = {name: now[key] for key, name in names.items()}
        sample |= {"timestamp": moment.isoformat(), "timestampUnix": int(moment.timestamp())}
        return JSONResponse([sample])

    def _handle(self, sandbox: CompleteSandbox) -> Json:
        """Return what a client needs to speak to a sandbox."""
        return {
            "templateID": sandbox.spec.labels.get(TEMPLATE_LABEL, "base"),
            "sandboxID": sandbox.id,
            "clientID": "tumbler",
            "envdVersion": _ENVD_VERSION,
            "envdAccessToken": self._boxes.token(sandbox.id),
            "trafficAccessToken": self._boxes.traffic_token(sandbox.id),
            "domain": None,
        }


def _described(info: SandboxInfo, sandbox: CompleteSandbox | None = None) -> Json:
    limits = sandbox.spec.resources if sandbox is not None else None
    return {
        "templateID": _template(info),
        "sandboxID": info.id,
        "clientID": "tumbler",
        "startedAt": _instant(info.created),
        "endAt": _instant(info.expires),
        "cpuCount": max(1, math.ceil(limits.cpus or 1)) if limits else 1,
        "memoryMB": (limits.memory_bytes or 0) >> 20 if limits else 0,
        "diskSizeMB": (limits.disk_bytes or 0) >> 20 if limits else 0,
        "state": info.state,
        "envdVersion": _ENVD_VERSION,
        "metadata": {name: value for name, value in info.labels.items() if not name.startswith(HIDDEN)},
    }


def _template(info: SandboxInfo) -> str:
    return info.labels.get(TEMPLATE_LABEL, "base")


def _instant(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat()


def _moment(value: str | None) -> float:
    if value is None:
        return 0.0
    try:
        return datetime.datetime.fromisoformat(value).timestamp()
    except ValueError:
        raise RefusedError(400, f"startedAfter {value!r} is no time") from None


def _paged(items: list[Json], request: Request) -> Response:
    query = request.query_params
    start, limit = query.get("nextToken", "0"), query.get("limit", str(_PAGE))
    if not (start.isdecimal() and limit.isdecimal() and int(limit)):
        raise RefusedError(400, "limit and nextToken must be positive numbers")
    end = int(start) + int(limit)
    headers = {"x-next-token": str(end)} if end < len(items) else {}
    return JSONResponse(items[int(start) : end], headers=headers)


async def _body(request: Request) -> Mapping[str, object]:
    if int(request.headers.get("content-length") or 0) > _BODY_BYTES:
        raise RefusedError(413, f"the body is longer than {_BODY_BYTES} bytes")
    data = await request.body()
    with contextlib.suppress(ValueError):
        body = json.loads(data or b"{}")
        if isinstance(body, dict):
            return body
    raise RefusedError(400, "the body is no JSON object")


def _key(request: Request) -> str:
    header = request.headers.get("authorization", "")
    return request.headers.get("x-api-key") or (header[7:] if header.lower().startswith("bearer ") else "")
