"""Everything that the local server and the backend take for granted about Modal's client and protocol."""

import inspect
from importlib.metadata import version

import modal
import modal.experimental
import pytest
from google.protobuf.message import Message
from modal_proto import api_pb2, task_command_router_pb2
from modal_proto.api_grpc import ModalClientBase
from modal_proto.task_command_router_grpc import TaskCommandRouterBase

CONTROL_CALLS = {
    "AppGetOrCreate": ("app_name -> app_id"),
    "AuthTokenGet": "-> token",
    "EnvironmentGetOrCreate": "deployment_name -> environment_id metadata",
    "ImageDelete": "image_id ->",
    "ImageFromId": "image_id -> image_id",
    "ImageGetOrCreate": "image app_id builder_version -> image_id result metadata",
    "SandboxCreateV2": "app_id definition secret_sources tags -> sandbox_id task_id metadata command_router_access",
    "SandboxGetCommandRouterAccess": "sandbox_id task_id -> jwt url",
    "SandboxGetFromNameV2": "sandbox_name app_name environment_name -> sandbox_id metadata",
    "SandboxGetTaskIdV2": "sandbox_id -> task_id task_result",
    "SandboxGetTunnelsV2": "sandbox_id timeout -> tunnels",
    "SandboxListV2": "app_id before_timestamp tags -> sandboxes",
    "SandboxTagsGetV2": "sandbox_id -> tags",
    "SandboxTagsSetV2": "sandbox_id tags ->",
    "SandboxTerminateV2": "sandbox_id -> existing_result",
    "SandboxWaitV2": "sandbox_id timeout -> result metadata",
}
ROUTER_CALLS = {
    "SandboxStdinWriteV2": "task_id offset data eof ->",
    "SandboxStdioReadV2": "task_id offset file_descriptor -> data starting_offset",
    "TaskExecPoll": "task_id exec_id -> code signal",
    "TaskExecStart": "task_id exec_id command_args workdir timeout_secs env secret_sources ->",
    "TaskExecStdinStatus": "task_id exec_id -> num_bytes_written closed",
    "TaskExecStdinWrite": "task_id exec_id offset data eof ->",
    "TaskExecStdinWriteStream": "start data end ->",
    "TaskExecStdioRead": "task_id exec_id offset file_descriptor -> data",
    "TaskExecWait": "task_id exec_id -> code signal",
    "TaskSetNetworkAccess": "task_id network_access ->",
    "TaskSnapshotFilesystem": "task_id snapshot_id ttl_seconds -> image_id",
}
MESSAGES = {
    api_pb2.Sandbox: "entrypoint_args image_id resources timeout_secs workdir network_access open_ports "
    "idle_timeout_secs name",
    api_pb2.Resources: "memory_mb_max milli_cpu_max",
    api_pb2.NetworkAccess: "network_access_type allowed_cidrs allowed_domains",
    api_pb2.SandboxTag: "tag_name tag_value",
    api_pb2.SecretSource: "secret_id env",
    api_pb2.GenericResult: "status exitcode",
    api_pb2.SandboxInfo: "id created_at app_id tags name image_id metadata",
    api_pb2.TunnelData: "host port unencrypted_host unencrypted_port container_port",
    api_pb2.CommandRouterAccess: "jwt url",
}
STREAMS = ("STDOUT", "STDERR")
CLIENT_CALLS = {
    modal.Client.from_credentials: "token_id token_secret",
    modal.App.lookup: "name create_if_missing client environment_name",
    modal.Sandbox.create: "app client name tags image env workdir timeout idle_timeout cpu memory region cloud "
    "encrypted_ports unencrypted_ports runtime block_network outbound_cidr_allowlist outbound_domain_allowlist",
    modal.Sandbox.from_id: "sandbox_id client",
    modal.Sandbox.from_name: "app_name name environment_name client",
    modal.Sandbox.list: "app_id tags client",
    modal.Image.from_id: "image_id client",
    modal.experimental.image_delete: "image_id client",
}


def _handlers(base: type) -> dict[str, tuple[type[Message], type[Message]]]:
    """Return the request and reply classes of a service's calls."""
    complete = type("Complete", (base,), dict.fromkeys(base.__abstractmethods__))
    return {
        path.rpartition("/")[2]: (handler.request_type, handler.reply_type)
        for path, handler in complete().__mapping__().items()
    }


def _fields(message: type[Message]) -> set[str]:
    return {field.name for field in message.DESCRIPTOR.fields}


def test_the_client_is_of_the_version_that_the_server_was_written_for() -> None:
    assert version("modal").split(".")[:2] == ["1", "6"], "read the client's changes, then this module's tables"


@pytest.mark.parametrize("base, calls", [(ModalClientBase, CONTROL_CALLS), (TaskCommandRouterBase, ROUTER_CALLS)])
def test_every_call_has_the_fields_that_are_used(base: type, calls: dict[str, str]) -> None:
    handlers = _handlers(base)
    for name, fields in calls.items():
        request, reply = handlers[name]
        asked, _, answered = fields.partition("->")
        assert set(asked.split()) <= _fields(request), name
        assert set(answered.split()) <= _fields(reply), name


def test_every_message_has_the_fields_that_are_used() -> None:
    for message, fields in MESSAGES.items():
        assert set(fields.split()) <= _fields(message), message.__name__


def test_the_results_have_the_numbers_that_are_used() -> None:
    status = api_pb2.GenericResult.GenericStatus
    named = {"SUCCESS": 1, "FAILURE": 2, "TERMINATED": 3, "TIMEOUT": 4, "INIT_FAILURE": 5, "IDLE_TIMEOUT": 7}
    assert {name: status.Value(f"GENERIC_STATUS_{name}") for name in named} == named
    assert api_pb2.NetworkAccess.NetworkAccessType.items() == [
        ("UNSPECIFIED", 0),
        ("OPEN", 1),
        ("BLOCKED", 2),
        ("ALLOWLIST", 3),
    ]
    for kind in ("TASK_EXEC", "SANDBOX"):
        streams = [getattr(task_command_router_pb2, f"{kind}_STDIO_FILE_DESCRIPTOR_{name}") for name in STREAMS]
        assert len(set(streams)) == len(STREAMS)


def test_the_clients_calls_take_the_arguments_that_are_used() -> None:
    for call, arguments in CLIENT_CALLS.items():
        assert set(arguments.split()) <= set(inspect.signature(call).parameters), call
    for name in ("exec", "poll", "terminate", "detach", "tunnels", "get_tags", "set_tags", "snapshot_filesystem"):
        assert hasattr(modal.Sandbox, name), name
    assert hasattr(modal.Sandbox, "_experimental_set_outbound_network_policy")


def test_the_server_serves_what_is_listed_here_and_refuses_the_rest() -> None:
    from modal_server.control import ControlPlane
    from modal_server.router import CommandRouter

    served = {name for name in vars(ControlPlane) if name[0].isupper()}
    assert served == {*CONTROL_CALLS, "ClientHello", "SandboxGetFromName"}
    assert {name for name in vars(CommandRouter) if name[0].isupper()} == set(ROUTER_CALLS)
