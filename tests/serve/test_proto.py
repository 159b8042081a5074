"""The generated messages are those of the .proto, and their fields those that other clients know."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

import nybble
from nybble.serve.rpc import inference_pb2

SOURCE = Path(nybble.__file__).parents[1]
PROTO = "nybble/serve/rpc/inference.proto"

#: Prints where a message or a field of the file on standard input is another one in tritonclient's.
COMPARE = """
import sys
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from tritonclient.grpc import model_config_pb2, service_pb2
theirs = {}
for module in (service_pb2, model_config_pb2):
    theirs.update(module.DESCRIPTOR.message_types_by_name)
def compare(message, known, where):
    for field in message.field:
        other = known.fields_by_name.get(field.name)
        if other is None or (other.number, other.type) != (field.number, field.type):
            print(where, field.name)
        if field.label == 3 and not other.message_type and other.default_value != []:
            print(where, field.name, "is repeated")
    for nested in message.nested_type:
        compare(nested, known.nested_types_by_name[nested.name], f"{where}.{nested.name}")
file = FileDescriptorProto.FromString(sys.stdin.buffer.read())
for message in file.message_type:
    compare(message, theirs[message.name], message.name)
print(len(file.message_type))
"""


def test_the_messages_are_generated(tmp_path: Path) -> None:
    """`make proto` writes them."""
    pytest.importorskip("grpc_tools")
    out = tmp_path / "set"
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{SOURCE}", f"--descriptor_set_out={out}", PROTO]
    subprocess.run(command, check=True, timeout=60, cwd=SOURCE)
    (compiled,) = FileDescriptorSet.FromString(out.read_bytes()).file
    own = FileDescriptorProto()
    inference_pb2.DESCRIPTOR.CopyToProto(own)
    assert _without_json_names(own) == _without_json_names(compiled)


def _without_json_names(file: FileDescriptorProto) -> FileDescriptorProto:
    waiting = list(file.message_type)
    while waiting:
        message = waiting.pop()
        waiting += message.nested_type
        for field in message.field:
            field.ClearField("json_name")
    return file


def test_fields_have_the_numbers_that_tritons_clients_know() -> None:
    pytest.importorskip("tritonclient")
    own = FileDescriptorProto()
    inference_pb2.DESCRIPTOR.CopyToProto(own)
    done = subprocess.run(
        [sys.executable, "-c", COMPARE], input=own.SerializeToString(), capture_output=True, timeout=60
    )
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.decode().split() == [str(len(own.message_type))]
