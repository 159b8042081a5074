"""PTX as NVRTC writes it, split into statements. Called functions become part of the kernels that call them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from ptx.errors import PtxError

_FUNCTION = re.compile(
    r"^(?:\.visible \.entry|\.func) (?P<name>\w+)\s*\((?P<params>[^)]*)\)(?P<directives>[^{;]*)\{(?P<body>.*?)^\}",
    re.MULTILINE | re.DOTALL,
)
#: A label, a directive, an instruction with its predicate, or a brace of a scope.
_STATEMENT = re.compile(
    r"\s*(?:(?P<label>\$\w+):|(?P<directive>\.[^;]*);|(?P<guard>@!?%\w+\s+)?(?P<op>[a-z][\w.:]*)(?P<rest>[^;]*);|[{}])"
)
_OPERAND = re.compile(r"\{[^}]*\}|\[[^\]]*\]|[^\s,{}\[\]()]+")


@dataclass(frozen=True)
class Statement:
    """An instruction, or a label where ``op`` is empty.

    Attributes
    ----------
    op : str
        With its modifiers: ``add.s32``.
    operands : tuple of str
        As they are written; of a label its name.
    guard : str
        The predicate of a branch: ``%p1`` or ``!%p1``.
    """

    op: str
    operands: tuple[str, ...]
    guard: str = ""


@dataclass
class Kernel:
    """One entry.

    Attributes
    ----------
    threads : int
        Of a block.
    params : int
        Bytes of its parameter.
    registers : dict
        Type (``pred``, ``b32``, ``b64``) of each register.
    statements : list of Statement
    written : int
        Instructions as the text has them, those of a called function once.
    text : str
        What it was read from, without what differs from one compilation to the next.
    """

    name: str
    threads: int
    params: int
    text: str
    written: int = 0
    registers: dict[str, str] = field(default_factory=dict)
    statements: list[Statement] = field(default_factory=list)


@dataclass
class _Function:
    name: str
    registers: dict[str, str]
    statements: list[Statement]


def read_kernels(ptx: str) -> dict[str, Kernel]:
    """Every entry by name."""
    # The name of a file without one is drawn.
    text = re.sub(r"_INTERNAL_[0-9a-f]+_\d+_all_cu_[0-9a-f]+", "_INTERNAL_", re.sub(r"//.*", "", ptx))
    functions, kernels = {}, {}
    for found in _FUNCTION.finditer(text):
        function = _Function(found["name"], *_statements(found["body"]))
        functions[function.name] = function
        threads = re.search(r"\.maxntid (\d+), 1, 1", found["directives"])
        if threads is not None:
            size = re.search(r"\[(\d+)\]", found["params"])
            assert size is not None
            kernels[function.name] = Kernel(function.name, int(threads[1]), int(size[1]), found[0])
    for kernel in kernels.values():
        _expand(functions[kernel.name], functions, kernel)
    return kernels


def _statements(body: str) -> tuple[dict[str, str], list[Statement]]:
    registers: dict[str, str] = {}
    statements = []
    end = 0
    for found in _STATEMENT.finditer(body):
        if found.start() != end:
            raise PtxError(f"PTX that is not understood: {body[end : end + 80]!r}")
        end = found.end()
        if found["label"]:
            statements.append(Statement("", (found["label"],)))
        elif found["directive"]:
            _declare(found["directive"], registers)
        elif found["op"]:
            guard = (found["guard"] or "").strip().removeprefix("@")
            statements.append(Statement(found["op"], tuple(_OPERAND.findall(found["rest"])), guard))
    if body[end:].strip():
        raise PtxError(f"PTX that is not understood: {body[end : end + 80]!r}")
    return registers, statements


def _declare(directive: str, registers: dict[str, str]) -> None:
    found = re.fullmatch(r"\.reg \.(\w+)\s+(%\w+)<(\d+)>", directive)
    if found is None:
        return
    kind = {"f32": "b32"}.get(found[1], found[1])
    if kind not in ("pred", "b32", "b64"):
        raise PtxError(f"registers of type {found[1]} are not supported")
    registers.update((f"{found[2]}{i}", kind) for i in range(int(found[3])))


def _expand(function: _Function, functions: dict[str, _Function], kernel: Kernel) -> None:
    """Put the statements of every called function in place of the call, with registers and labels of their own."""
    kernel.registers.update(function.registers)
    called = {statement.operands[0] for statement in function.statements if statement.op.startswith("call")}
    parts = [function, *(functions[name] for name in called)]
    kernel.written = sum(bool(statement.op) for part in parts for statement in part.statements)
    for calls, statement in enumerate(function.statements):
        if statement.op.startswith("st.param"):
            _store_argument(statement, kernel)
        elif statement.op.startswith("call"):
            callee = functions[statement.operands[0]]
            kernel.registers.update((_renamed(name), kind) for name, kind in callee.registers.items())
            after = f"$after_call_{calls}"
            for inner in callee.statements:
                kernel.statements.append(_inlined(inner, callee, statement.operands[1:], calls, after))
            kernel.statements.append(Statement("", (after,)))
        else:
            kernel.statements.append(statement)


def _store_argument(statement: Statement, kernel: Kernel) -> None:
    """An argument of a call is a register of its own: ``%param0+0``."""
    place, source = statement.operands
    name = "%" + place.strip("[]")
    kernel.registers[name] = "b64" if statement.op.endswith("64") else "b32"
    kernel.statements.append(Statement("mov." + statement.op.rsplit(".", 1)[1], (name, source)))


def _renamed(register: str) -> str:
    return "%called_" + register.removeprefix("%")


def _inlined(statement: Statement, callee: _Function, arguments: tuple[str, ...], call: int, after: str) -> Statement:
    if statement.op == "ret":
        return Statement("bra.uni", (after,), re.sub(r"%\w+", lambda m: _renamed(m[0]), statement.guard))
    operands = []
    for operand in statement.operands:
        found = re.fullmatch(rf"\[{callee.name}_param_(\d+)(\+\d+)?\]", operand)
        if found is not None:
            operands.append(f"%{arguments[int(found[1])]}{found[2] or '+0'}")
        else:
            plain = re.sub(r"%(?!tid|ntid|ctaid)\w+", lambda m: _renamed(m[0]), operand)
            operands.append(f"{plain}_call_{call}" if plain.startswith("$") else plain)
    op = statement.op
    if op.startswith("ld.param"):
        op = "mov." + op.rsplit(".", 1)[1]
    guard = re.sub(r"%\w+", lambda m: _renamed(m[0]), statement.guard)
    return Statement(op, tuple(operands), guard)
