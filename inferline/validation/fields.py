"""
The policy for the fields of a request that could harm a backend.

Some name an address that the backend would fetch from, inside its network. Some hand it code,
templates or pickled tensors, or name hosts to connect to. Others have a grammar that it has to
compile. All other fields pass, known or not.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Any, Final, Literal

from inferline.errors import AddressNotAllowed, FieldNotAllowed, SizeLimitExceeded
from inferline.validation.json_scan import NODES, SCHEMAS, JsonScan

FieldRole = Literal["denied", "template", "media", "place", "grammar", "schema", "call", "opaque"]

_NAMES: Final[Mapping[FieldRole, str]] = {
    # Run by the backend: Jinja, Python names, pickles; loaded by torch; adapters from paths; limits
    # of its preprocessing; hosts to connect to; and parsers that llama.cpp keeps for itself.
    "denied": "chat_template prompt_embeds image_embeds audio_embeds video_embeds input_embeds "
    "logits_processors custom_logit_processor lora_request lora_path mm_processor_kwargs "
    "media_io_kwargs kv_transfer_params ec_transfer_params bootstrap_host bootstrap_port "
    "bootstrap_room api_base base_url chat_parser",
    "template": "chat_template_kwargs",
    # Their value is a picture, sound, film or file, or where one is; or where a tool server is.
    "media": "image images image_url input_image audio audio_url input_audio video video_url "
    "input_video file file_url file_uri file_data document_url media_url source server_url "
    "mcp_servers multimodal_data image_data audio_data video_data",
    # The same, but only within one of those.
    "place": "url uri path data",
    "grammar": "guided_regex guided_grammar guided_whitespace_pattern grammar regex ebnf "
    "structural_tag pattern whitespace_pattern definition",
    # In these those names are no fields; what they hold of grammar is `pattern`.
    "schema": " ".join(SCHEMAS),
    # What a model called a tool with, if that is what it stands in.
    "call": "input",
    # Data of the client's own or of a model's, which no backend reads as a request.
    "opaque": "arguments metadata",
}
_ROLES: Final[Mapping[str, FieldRole]] = {
    name: role for role, names in _NAMES.items() for name in names.split()
}
_NAMED: Final = frozenset(_ROLES)
#: A document with none of these outside of schemas needs no closer look.
_SUSPECT: Final = frozenset(
    name for name, role in _ROLES.items() if role not in ("schema", "call", "opaque")
)
#: What `type` says of an object that is itself a picture, sound, film or file.
_MEDIA_TYPES: Final = frozenset({"image", "audio", "video", "file"})
#: Template variables that are really options of the call that renders it: another
#: template, or work that blocks the server. The rest are a template's own, as `enable_thinking`.
_RENDERING: Final = frozenset(
    {"chat_template", "tokenize", "tokenizer", "tokenizer_kwargs", "processor_kwargs"}
    | {"conversation", "model_config", "padding", "truncation", "max_length", "return_tensors"}
    | {"return_dict", "return_assistant_tokens_mask", "trust_remote_code"}
)

#: An address without a user, an escape or a character that two parsers could read differently.
_ADDRESS: Final = re.compile(r"https?://([A-Za-z0-9.-]+(?::[0-9]{1,5})?)(?:[/?][!-\[\]-~]*)?")
#: Longer, and it is no path on any system.
_PATH_CHARS_MAX: Final = 4096
#: How a JPEG begins in base64; all else that begins with a slash may be a path.
_JPEG: Final = "/9j/"
#: Characters of a field's position in an error.
_PARAM_CHARS_MAX: Final = 200

#: Where a field is: its name or number, and the same of what it is in. Nothing is put together
#: before it is needed, or long names would make the scan slow.
Path = tuple["Path", str | int] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldPolicy:
    """The rules for the fields of a request."""

    #: Hosts that backends may fetch from, in lower case, with the port if it is not the default.
    hosts: Set[str]
    #: Characters of a regular expression or a grammar.
    grammar_chars_max: float

    def check(self, document: Mapping[str, Any], outline: JsonScan) -> None:
        """
        Raise FieldNotAllowed, AddressNotAllowed or SizeLimitExceeded for what is not allowed.

        It costs next to nothing while no field has a name that matters.
        """
        respelled = _respelled(outline.names)
        has_long = outline.pattern_chars > self.grammar_chars_max
        if respelled or has_long or not _SUSPECT.isdisjoint(outline.names):
            _FieldScanner(self, respelled, has_long).object(document, None)

    def check_field(self, document: Mapping[str, Any], outline: JsonScan) -> None:
        """Check a field of a form or a query, whose name alone may say that it holds an address."""
        has_long = outline.pattern_chars > self.grammar_chars_max
        _FieldScanner(self, True, has_long).object(document, None, inside=True)

    def check_grammar(self, text: str, path: Path) -> None:
        """Raise SizeLimitExceeded when a regular expression or grammar is too long."""
        if len(text) > self.grammar_chars_max:
            raise SizeLimitExceeded(
                "A regular expression or grammar may have "
                f"{self.grammar_chars_max} characters at the most.",
                param=path_text(path),
            )

    def check_place(self, value: str, path: Path) -> None:
        """
        Raise AddressNotAllowed unless it is the content itself, as a `data:` URL or in base64, or
        at one of the hosts.
        """
        if value.startswith("data:"):
            return
        may_be_path = value.startswith(("/", "~", "\\")) and len(value) < _PATH_CHARS_MAX
        if "." in value or ":" in value or (may_be_path and not value.startswith(_JPEG)):
            address = _ADDRESS.fullmatch(value)
            if address is None or address[1].lower() not in self.hosts:
                raise AddressNotAllowed(param=path_text(path))


@dataclass(frozen=True, slots=True)
class _FieldScanner:
    """A search of a whole document for fields, by their names and positions."""

    fields: FieldPolicy
    #: True if a name may be written in another case.
    respelled: bool
    #: True if some schema has a regular expression that is too long.
    has_long: bool

    def object(self, node: Mapping[str, Any], path: Path, *, inside: bool = False) -> None:
        """Check an object outside schemas; ``inside`` one that is or names media."""
        if self.respelled or not _NAMED.isdisjoint(node):
            kind = node.get("type")
            inside = inside or (type(kind) is str and kind in _MEDIA_TYPES)
            for name, value in node.items():
                self._field(name, value, path, node, inside)
        else:
            for name, value in node.items():
                if type(value) in NODES:
                    self._node(value, (path, name))

    def _node(self, node: Any, path: Path, *, inside: bool = False) -> None:
        if type(node) is dict:
            self.object(node, path, inside=inside)
            return
        for place, value in enumerate(node):
            if type(value) in NODES:
                self._node(value, (path, place), inside=inside)
            elif inside and type(value) is str:
                self.fields.check_place(value, (path, place))

    def _field(
        self, name: str, value: Any, above: Path, node: Mapping[str, Any], inside: bool
    ) -> None:
        role = _ROLES.get(name)
        if role is None and self.respelled:
            role = _ROLES.get(name.casefold())
        if role == "denied" and value is not None:
            raise _not_passed((above, name))
        if type(value) in NODES:
            # A whole request's `input` is no call, whatever its type.
            if role != "opaque" and not (role == "call" and above and _is_tool_use(node)):
                self._below(role, value, (above, name), inside)
        elif type(value) is str:
            if role == "grammar":
                self.fields.check_grammar(value, (above, name))
            elif _is_place(role, name, node, inside):
                self.fields.check_place(value, (above, name))

    def _below(self, role: FieldRole | None, value: Any, path: Path, inside: bool) -> None:
        if role == "template":
            _check_template(value, path)
        elif role != "schema":
            self._node(value, path, inside=role == "media" or (role == "place" and inside))
        elif self.has_long:
            self._schema(value, path)

    def _schema(self, node: Any, path: Path) -> None:
        for name, value in node.items() if type(node) is dict else enumerate(node):
            if type(value) in NODES:
                if name == "patternProperties" and type(value) is dict:
                    for pattern in value:
                        self.fields.check_grammar(pattern, (path, name))
                self._schema(value, (path, name))
            elif name == "pattern" and type(value) is str:
                self.fields.check_grammar(value, (path, name))


def path_text(path: Path) -> str:
    """Format the position of a field, as in ``messages[0].content``."""
    steps: list[str] = []
    while path is not None:
        path, step = path
        steps.append(f"[{step}]" if isinstance(step, int) else f".{step[:_PARAM_CHARS_MAX]}")
    return "".join(reversed(steps)).removeprefix(".")[:_PARAM_CHARS_MAX]


def _not_passed(path: tuple[Path, str]) -> FieldNotAllowed:
    return FieldNotAllowed(
        f"`{path[1]}` is not passed on to LLM servers here.", param=path_text(path)
    )


def _check_template(variables: Any, path: Path) -> None:
    for name in variables if isinstance(variables, dict) else ():
        if name.casefold() in _RENDERING:
            raise _not_passed((path, name))


def _is_place(role: FieldRole | None, name: str, node: Mapping[str, Any], inside: bool) -> bool:
    """Return True if a text is an address, or the content itself."""
    if role == "media":
        return name != "source"  # As a text it is what a search result is called.
    # A document may be its own text.
    return role == "place" and inside and not (name == "data" and node.get("type") == "text")


def _is_tool_use(node: Mapping[str, Any]) -> bool:
    """Return True if it is a model's call of a tool, whose `input` is the model's."""
    kind = node.get("type")
    return isinstance(kind, str) and kind.endswith("tool_use")


def _respelled(names: Set[str]) -> bool:
    """Return True if a name in another case matters: backends in Go ignore case."""
    together = "".join(names)
    if together.isascii() and together == together.lower():
        return False
    return any(name not in _SUSPECT and name.casefold() in _SUSPECT for name in names)
