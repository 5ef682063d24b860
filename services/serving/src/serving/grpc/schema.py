"""The messages of `inference.proto`, made when this is imported: no compiler, and no generated code to keep in step.

Read is what that file uses of the language: nested messages, enums, `oneof`, `map`, `repeated`, and unary calls.
"""

import re
from collections.abc import Mapping
from functools import partial
from importlib.resources import files
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

FILE = "inference.proto"
PACKAGE = "inference"
SERVICE = f"{PACKAGE}.GRPCInferenceService"
_TOKEN = re.compile(r'[\w.]+|[{}()=;<>,]|"[^"]*"')
_KINDS = {
    "double": 1,
    "float": 2,
    "int64": 3,
    "uint64": 4,
    "int32": 5,
    "bool": 8,
    "string": 9,
    "bytes": 12,
    "uint32": 13,
}
"""Numbers of the scalar types, as descriptors have them. What is not here is a message or an enum of the file."""
_OPTIONAL, _REPEATED = 1, 3


class _Reader:
    """Walks through the words of a file."""

    def __init__(self, text: str) -> None:
        self._words = _TOKEN.findall(re.sub(r"//[^\n]*", "", text))
        self._words.reverse()
        self.file: Any = descriptor_pb2.FileDescriptorProto(name=FILE, syntax="proto3", package=PACKAGE)

    def read(self) -> Any:
        """The file's descriptor."""
        known = {
            "message": lambda: self._message(self.file.message_type.add()),
            "enum": lambda: self._enum(self.file.enum_type.add()),
            "service": lambda: self._service(self.file.service.add()),
        }
        while self._words:
            known.get(self._next(), self._statement)()
        return self.file

    def _next(self) -> str:
        return str(self._words.pop())

    def _take(self, *expected: str) -> None:
        for word in expected:
            if (found := self._next()) != word:
                raise ValueError(f"{FILE}: {word!r} was expected, and {found!r} is there")

    def _statement(self) -> None:
        while self._next() != ";":
            pass

    def _is_over(self) -> bool:
        if self._words[-1] != "}":
            return False
        self._next()
        return True

    def _message(self, message: Any) -> None:
        message.name = self._next()
        self._take("{")
        while not self._is_over():
            word = self._next()
            if word == "message":
                self._message(message.nested_type.add())
            elif word == "oneof":
                message.oneof_decl.add(name=self._next())
                self._take("{")
                while not self._is_over():
                    field = self._field(message, self._next())
                    field.oneof_index = len(message.oneof_decl) - 1
            elif word == "map":
                self._map(message)
            elif word == "repeated":
                self._field(message, self._next()).label = _REPEATED
            else:
                self._field(message, word)

    def _field(self, message: Any, kind: str) -> Any:
        field = message.field.add(name=self._next(), label=_OPTIONAL)
        self._take("=")
        field.number = int(self._next())
        self._take(";")
        if kind in _KINDS:
            field.type = _KINDS[kind]
        else:
            field.type_name = kind
        return field

    def _map(self, message: Any) -> None:
        """A map is a repeated message of a key and a value, which its field's name gives its name."""
        self._take("<")
        key = self._next()
        self._take(",")
        value = self._next()
        self._take(">")
        field = self._field(message, "")
        field.label = _REPEATED
        field.type_name = "".join(part.capitalize() for part in field.name.split("_")) + "Entry"
        entry = message.nested_type.add(name=field.type_name)
        entry.options.map_entry = True
        for number, (name, kind) in enumerate((("key", key), ("value", value)), 1):
            self._words += [";", str(number), "=", name]
            self._field(entry, kind)

    def _enum(self, enum: Any) -> None:
        enum.name = self._next()
        self._take("{")
        while not self._is_over():
            value = enum.value.add(name=self._next())
            self._take("=")
            value.number = int(self._next())
            self._take(";")

    def _service(self, service: Any) -> None:
        service.name = self._next()
        self._take("{")
        while not self._is_over():
            self._take("rpc")
            method = service.method.add(name=self._next())
            self._take("(")
            method.input_type = self._next()
            self._take(")", "returns", "(")
            method.output_type = self._next()
            self._take(")", ";")


def described() -> Any:
    """`inference.proto` as a `FileDescriptorProto`."""
    return _Reader(files(__package__).joinpath(FILE).read_text()).read()


def _classes() -> tuple[Mapping[str, Any], Mapping[str, tuple[Any, Any]]]:
    pool = descriptor_pool.DescriptorPool()  # of our own: another library of the process may have brought the protocol
    pool.Add(described())
    file = pool.FindFileByName(FILE)
    class_of = partial(message_factory.GetMessageClass)
    messages = {name: class_of(it) for name, it in file.message_types_by_name.items()}
    service = pool.FindServiceByName(SERVICE)
    methods = {it.name: (class_of(it.input_type), class_of(it.output_type)) for it in service.methods}
    return messages, methods


MESSAGES, METHODS = _classes()
"""Classes of messages by name, and by a call's name what goes in and what comes out. They are made as the program runs,
so that no type checker knows their fields."""
