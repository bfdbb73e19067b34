"""The control plane of E2B: create, find, list, copy; knows no single sandbox's inside."""

import datetime
import math
import re
import time
from collections.abc import Mapping
from typing import Final

from e2b import AsyncSandbox, SandboxQuery
from e2b.connection_config import ApiParams, ConnectionConfig
from e2b.sandbox.sandbox_api import SandboxInfo as E2bInfo
from e2b.sandbox.sandbox_api import SandboxNetworkOpts

from tumbler.contracts.sandbox import SandboxSpec
from tumbler.contracts.sandbox_control import SandboxInfo, Template
from tumbler_backends.sandbox.e2b.admission import egress_rules
from tumbler_backends.sandbox.e2b.labels import NAME, OWNER, labels_of
from tumbler_backends.sandbox.e2b.settings import E2bSettings

__all__ = ["Service"]

_SNAPSHOT: Final = re.compile(r"tumbler-(?P<created>\d+)-(?P<source>[^:]+)")


class Service:
    """The service that the settings name. Every method raises what E2B's clients raise."""

    def __init__(self, settings: E2bSettings) -> None:
        """Contact nobody yet."""
        self._settings = settings
        self._made: dict[str, Template] = {}

    @property
    def parameters(self) -> ApiParams:
        """Return what every call of the SDK is given."""
        settings = self._settings
        parameters: ApiParams = {"request_timeout": settings.request_timeout}
        if settings.api_key is not None:
            parameters["api_key"] = settings.api_key.get_secret_value()
        if settings.api_url is not None:
            parameters["api_url"] = settings.api_url
        if settings.sandbox_url is not None:
            parameters["sandbox_url"] = settings.sandbox_url
        return parameters

    @property
    def has_key(self) -> bool:
        """Tell whether there is an API key."""
        return ConnectionConfig(**self.parameters).api_key is not None

    @property
    def exposes(self) -> bool:
        """Tell whether each sandbox has addresses of its own."""
        config = ConnectionConfig(**self.parameters)
        return not config.debug and config._sandbox_url is None

    async def create(self, spec: SandboxSpec, metadata: Mapping[str, str]) -> AsyncSandbox:
        """Create a sandbox."""
        rules = egress_rules(spec.network)
        template = spec.template or spec.image or self._settings.template
        timeout, envs = max(1, math.ceil(spec.ttl)), dict(spec.env)
        if rules.allowed:
            network: SandboxNetworkOpts = {"allow_out": list(rules.allowed), "deny_out": list(rules.denied)}
            return await AsyncSandbox.create(
                template, timeout, dict(metadata), envs, network=network, **self.parameters
            )
        return await AsyncSandbox.create(
            template,
            timeout,
            dict(metadata),
            envs,
            allow_internet_access=rules.internet,
            **self.parameters,
        )

    async def connect(self, identity: str) -> AsyncSandbox:
        """Return the SDK's object of a living sandbox; its life is not made shorter."""
        return await AsyncSandbox.connect(identity, timeout=1, **self.parameters)

    async def kill(self, identity: str) -> bool:
        """End a sandbox; tell whether there was one."""
        return await AsyncSandbox.kill(identity, **self.parameters)

    async def look_up(self, identity: str) -> E2bInfo:
        """Return what the service knows of a sandbox."""
        return await AsyncSandbox.get_info(identity, **self.parameters)

    async def listed(self, metadata: Mapping[str, str]) -> list[E2bInfo]:
        """Return the living sandboxes that have all this metadata, oldest first."""
        paginator = AsyncSandbox.list(SandboxQuery(metadata=dict(metadata)), order="asc", **self.parameters)
        found: list[E2bInfo] = []
        while paginator.has_next:
            found += await paginator.next_items()
        return sorted(found, key=lambda info: (info.started_at, info.sandbox_id))

    def described(self, info: E2bInfo) -> SandboxInfo:
        """Return what the service knows in Tumbler's words."""
        return SandboxInfo(
            id=info.sandbox_id,
            backend="e2b",
            state="paused" if str(info.state.value) == "paused" else "running",
            tier=self._settings.tier,
            created=_seconds(info.started_at),
            expires=_seconds(info.end_at),
            owner=info.metadata.get(OWNER, ""),
            name=info.metadata.get(NAME),
            image=info.template_id,
            labels=labels_of(info.metadata),
        )

    async def snapshot(self, sdk: AsyncSandbox) -> Template:
        """Copy a sandbox into a template; its name says when, and of which sandbox, as nothing else does."""
        created = int(time.time())
        name = f"tumbler-{created}-{sdk.sandbox_id}"
        made = await sdk.create_snapshot(name, mode=self._settings.snapshot_mode, **self.parameters)
        template = Template(id=made.snapshot_id, created=float(created), source=sdk.sandbox_id)
        self._made[template.id] = template
        return template

    async def templates(self) -> list[Template]:
        """Return the account's snapshots."""
        paginator = AsyncSandbox.list_snapshots(**self.parameters)
        found: list[Template] = []
        while paginator.has_next:
            for each in await paginator.next_items():
                found.append(self._made.get(each.snapshot_id) or _template(each.snapshot_id, each.names))
        return sorted(found, key=lambda template: template.created)

    async def delete_template(self, identity: str) -> bool:
        """Remove a snapshot; tell whether there was one."""
        self._made.pop(identity, None)
        return await AsyncSandbox.delete_snapshot(identity, **self.parameters)


def _template(identity: str, names: list[str]) -> Template:
    for name in (identity, *names):
        if found := _SNAPSHOT.search(name):
            return Template(id=identity, created=float(found["created"]), source=found["source"])
    return Template(id=identity, created=0.0)


def _seconds(moment: datetime.datetime) -> float:
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=datetime.UTC)).timestamp()
