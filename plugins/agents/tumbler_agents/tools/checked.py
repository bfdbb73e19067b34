"""Makes a tool from a model of its arguments and a function, so that schema, check and description cannot drift.

Knows no sandbox, and of calls only that those which cannot be carried out are answered.
"""

from collections.abc import Awaitable, Callable
from typing import Annotated, Generic, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import ErrorDetails

from tumbler.contracts.values import JSONObject, ToolSpec
from tumbler.errors import SandboxError
from tumbler.plugins.names import did_you_mean
from tumbler_agents.tools.tool import ToolOutput

__all__ = ["Arguments", "CheckedTool", "Refusal", "Words"]

_MOST_PROBLEMS = 10


class Refusal(Exception):
    """A call that cannot be carried out; the message tells the policy why, and how to mend it."""


class Arguments(BaseModel):
    """The arguments of one tool. The class's docstring describes the tool, the docstring under a field the argument."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


def _without_nul(value: str) -> str:
    if "\0" in value:
        raise ValueError("holds a NUL character, which no path and no command can")
    return value


Words = Annotated[str, AfterValidator(_without_nul)]
"""A text that reaches the operating system as a path or as a command."""

Given = TypeVar("Given", bound=Arguments)


class CheckedTool(Generic[Given]):
    """A `Tool` whose arguments are checked before `carry_out` sees them."""

    def __init__(
        self,
        name: str,
        arguments: type[Given],
        carry_out: Callable[[Given], Awaitable[ToolOutput]],
        *,
        reads_only: bool = False,
    ) -> None:
        """Take the parts; `carry_out` may raise `Refusal`, and the builtin `OSError` classes of a sandbox."""
        self._arguments = arguments
        self._carry_out = carry_out
        self._reads_only = reads_only
        self._spec = ToolSpec(
            name=name, description=" ".join((arguments.__doc__ or "").split()), parameters=_schema(arguments)
        )

    @property
    def spec(self) -> ToolSpec:
        """Return name, description and the JSON Schema of the arguments."""
        return self._spec

    @property
    def reads_only(self) -> bool:
        """Return whether it changes nothing."""
        return self._reads_only

    async def call(self, arguments: JSONObject) -> ToolOutput:
        """Carry out one call; raises only `SandboxError` whose `infra` is true."""
        try:
            given = self._arguments.model_validate(arguments)
        except ValidationError as error:
            return ToolOutput(text=f"error: {self._problems(error)}", errored=True)
        try:
            return await self._carry_out(given)
        except Refusal as refusal:
            return ToolOutput(text=f"error: {refusal}", errored=True)
        except SandboxError as error:
            if error.infra:
                raise
            return ToolOutput(text=f"error: {error}", errored=True)
        except OSError as error:
            return ToolOutput(text=f"error: {_said(error)}", errored=True)

    def _problems(self, error: ValidationError) -> str:
        found = error.errors(include_url=False, include_context=False)
        lines = [self._problem(each) for each in found[:_MOST_PROBLEMS]]
        return "\n".join(f"{self._spec.name}: {line}" for line in lines)

    def _problem(self, details: ErrorDetails) -> str:
        place = ".".join(str(each) for each in details["loc"])
        if not place:
            return "the arguments must be a JSON object"
        if details["type"] == "missing":
            return f"the argument {place!r} is missing"
        if details["type"] == "extra_forbidden":
            hint = did_you_mean(place, self._arguments.model_fields) if "." not in place else ""
            return f"there is no argument {place!r}. {hint}".strip()
        reason = details["msg"].removeprefix("Value error, ")
        return f"the argument {place!r} is wrong: {reason}"


class _BareSchema(GenerateJsonSchema):
    """Leaves out the titles, which repeat the names and cost tokens."""

    def field_title_should_be_set(self, schema: object) -> bool:
        """Tell that no field needs a title."""
        return False


def _schema(arguments: type[Arguments]) -> JsonSchemaValue:
    schema = arguments.model_json_schema(schema_generator=_BareSchema)
    for model in (schema, *schema.get("$defs", {}).values()):
        model.pop("title", None)
    schema.pop("description", None)
    return schema


def _said(error: OSError) -> str:
    reason = error.strerror or str(error) or type(error).__name__
    return f"{reason}: {error.filename}" if error.filename is not None else reason
