"""A compiled program's communication, random draws and memory traffic, read from its HLO text. No JAX.

Seen in the text of XLA for CPU and for TPU (jax 0.10.2). A TPU splits a collective into a chain of fusions, so that
others run beside it; the text then holds it in every link, of which one counts: the one that starts the chain.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

COLLECTIVES = ("all-gather", "reduce-scatter", "all-reduce", "all-to-all", "collective-permute")

_FREE = ("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while", "conditional", "call", "after-all")
_BITS = {"pred": 8, "bf16": 16, "token": 0, "opaque": 0}

_COMPUTATION = re.compile(r"(?P<entry>ENTRY )?%?(?P<name>[\w.\-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"\s+(?:ROOT )?%?(?P<name>[\w.\-]+) = (?P<rest>.*)$")
_OPERATION = re.compile(r"(?P<type>.*?) (?P<operation>[a-z][\w\-]*)\((?P<operands>[^)]*)\)(?P<attributes>.*)$")
_ARRAY = re.compile(r"\b(?P<dtype>[a-z]\w*)\[(?P<shape>[\d,]*)\](?:\{[^{}]*?(?P<space>S\(\d+\))?\})?")
_CALLED = re.compile(r"\b(?:calls|to_apply|body|condition)=%?([\w.\-]+)|branch_computations=\{([^}]*)\}")


@dataclass(frozen=True)
class Collective:
    """One collective operation as one device sees it.

    `full_bytes`: of the whole array, before it is scattered or after it is gathered. `devices`: how many take part.
    `times`: how often it runs in a step, more than once inside a loop. `shapes`: of its results.
    """

    kind: str
    full_bytes: int
    devices: int
    times: int
    shapes: tuple[tuple[int, ...], ...]

    @property
    def sent_bytes(self) -> float:
        """Least bytes that a device sends in a step: a ring sends each part once, and twice where it also reduces."""
        fraction = (self.devices - 1) / self.devices
        factor = {"all-reduce": 2 * fraction, "collective-permute": 1.0}.get(self.kind, fraction)
        return self.times * factor * self.full_bytes


@dataclass(frozen=True)
class Summary:
    """What one device does in one run of the program.

    `collectives`: those between several devices. `random_shapes`: of the arrays of random bits drawn. `loops`: how
    often the body of each runs. `memory_bytes`: read and written by the operations, without what stays in a TPU's
    vector memory; an operation that touches a part of an array is counted with all of it.
    """

    collectives: tuple[Collective, ...]
    random_shapes: tuple[tuple[int, ...], ...]
    loops: tuple[int, ...]
    memory_bytes: float

    def sent_bytes(self) -> dict[str, float]:
        """Bytes that a device sends, by kind of collective."""
        kinds = sorted({one.kind for one in self.collectives}, key=COLLECTIVES.index)
        return {kind: sum(one.sent_bytes for one in self.collectives if one.kind == kind) for kind in kinds}


def summarize(text: str, num_devices: int) -> Summary:
    """Read the text of a compiled program (`compiled.as_text()`) that runs on `num_devices`."""
    computations, entry = _computations(text)
    times = _times(computations, entry)
    collectives, randoms, loops, moved = [], [], [], 0.0
    fused = _fused(computations)
    for name, instructions in computations.items():
        if not times.get(name):
            continue
        types = {one.name: one.type for one in instructions}
        link = any("AsyncCollective" in one.attributes for one in instructions)
        starts = any("AsyncCollectiveStart" in one.attributes for one in instructions)
        for one in instructions:
            kind = one.operation.removesuffix("-start")
            later_link = "chain_id=" in one.attributes and not starts
            if kind in COLLECTIVES and not later_link:
                collectives.append(_collective(kind, one, name, num_devices, times[name]))
            if one.operation == "rng-bit-generator":
                randoms.append(max(_shapes(one.type), key=math.prod))
            if one.operation == "while":
                loops.append(_trips(one, computations))
            if name not in fused and not link:
                moved += times[name] * _moved(one, types)
    between = tuple(one for one in collectives if one.devices > 1)
    return Summary(between, tuple(randoms), tuple(loops), moved)


@dataclass(frozen=True)
class _Instruction:
    name: str
    type: str
    operation: str
    operands: tuple[str, ...]
    attributes: str
    constant: int | None  # the value of an integer constant


def _computations(text: str) -> tuple[dict[str, list[_Instruction]], str]:
    """Instructions by computation, and the name of the one that the program starts with."""
    computations: dict[str, list[_Instruction]] = {}
    entry, current = "", None
    for line in text.splitlines():
        if opening := _COMPUTATION.match(line):
            current = computations.setdefault(opening["name"], [])
            entry = opening["name"] if opening["entry"] else entry
        elif line.startswith("}"):
            current = None
        elif current is not None and (found := _INSTRUCTION.match(line)):
            rest = re.sub(r"/\*.*?\*/", "", found["rest"])
            # A tuple's type stands in parentheses: find where they close before looking for the operation.
            end = _closing(rest) if rest.startswith("(") else 0
            parts = _OPERATION.match(rest[end:])
            if parts:
                names = tuple(re.findall(r"%([\w.\-]+)", parts["operands"]))
                value = int(parts["operands"]) if parts["operands"].isdecimal() else None
                constant = value if parts["operation"] == "constant" else None
                current.append(
                    _Instruction(
                        found["name"],
                        rest[:end] + parts["type"],
                        parts["operation"],
                        names,
                        parts["attributes"],
                        constant,
                    )
                )
    return computations, entry


def _closing(text: str) -> int:
    depth = 0
    for place, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if depth == 0:
            return place + 1
    return len(text)


def _times(computations: dict[str, list[_Instruction]], entry: str) -> dict[str, int]:
    """How often each computation runs; more than once inside a loop, as often as its condition says."""
    times: dict[str, int] = {}

    def visit(name: str, count: int) -> None:
        times[name] = max(times.get(name, 0), count)
        for one in computations.get(name, ()):
            body = re.search(r"\bbody=%?([\w.\-]+)", one.attributes)
            for called in _called(one):
                visit(called, count * _trips(one, computations) if body and called == body[1] else count)

    visit(entry, 1)
    return times


def _called(instruction: _Instruction) -> Iterator[str]:
    for one, several in _CALLED.findall(instruction.attributes):
        yield from [one] if one else [name.strip().lstrip("%") for name in several.split(",")]


def _trips(loop: _Instruction, computations: dict[str, list[_Instruction]]) -> int:
    """How often a loop runs: the constant that its counter is compared with."""
    if known := re.search(r'"known_trip_count":\{"n":"(\d+)"', loop.attributes):
        return int(known[1])
    condition = re.search(r"\bcondition=%?([\w.\-]+)", loop.attributes)
    instructions = computations.get(condition[1], []) if condition else []
    return max((one.constant for one in instructions if one.constant is not None), default=1)


def _fused(computations: dict[str, list[_Instruction]]) -> set[str]:
    """Computations that are part of one operation of another: what they touch inside stays in registers."""
    return {
        called
        for instructions in computations.values()
        for one in instructions
        if one.operation not in ("while", "conditional", "call")
        for called in _called(one)
    }


def _collective(kind: str, one: _Instruction, computation: str, num_devices: int, times: int) -> Collective:
    devices = _group(one.attributes, num_devices)
    arrays = list(_ARRAY.finditer(one.type))
    if one.operation.endswith("-start") and kind != "all-reduce":
        # The type holds the operands as well, before the results.
        arrays = arrays[len(one.operands) : 2 * len(one.operands)]
    size = sum(map(_bytes, arrays))
    if kind == "all-reduce" and computation.startswith("all-reduce-scatter"):
        kind = "reduce-scatter"  # a TPU's fusion of both; the type is still that of the whole
    elif kind == "reduce-scatter":
        size *= devices
    return Collective(kind, size, devices, times, tuple(_shape(array) for array in arrays))


def _group(attributes: str, num_devices: int) -> int:
    """How many devices a collective spans, from its `replica_groups` or `source_target_pairs`."""
    if groups := re.search(r"replica_groups=\{\{([\d,]+)\}", attributes):
        return len(groups[1].split(","))
    if groups := re.search(r"replica_groups=\[\d+,(\d+)\]", attributes):
        return int(groups[1])
    if groups := re.search(r"replica_groups=mesh\[([^\]]*)\][^{}]*\{([^}]*)\}", attributes):
        sizes = {name: int(size) for name, size in re.findall(r"('[^']*')=(\d+)", groups[1])}
        return math.prod(sizes[name.split(":")[0].strip()] for name in groups[2].split(","))
    return num_devices


def _moved(one: _Instruction, types: dict[str, str]) -> int:
    """Bytes of main memory that an instruction reads and writes."""
    if one.operation in _FREE:
        return 0
    if one.operation == "slice-start":  # ((operand), slice, context): of the operand only the slice is read
        return sum(map(_bytes, list(_ARRAY.finditer(one.type))[len(one.operands) :]))
    # What is started reads, and writes when it is done.
    reads = 0 if one.operation.endswith("-done") else sum(_in_memory(types.get(name, "")) for name in one.operands)
    return reads + (0 if one.operation.endswith("-start") else _in_memory(one.type))


def _in_memory(type_: str) -> int:
    return sum(_bytes(array) for array in _ARRAY.finditer(type_) if not array["space"])


def _shapes(type_: str) -> list[tuple[int, ...]]:
    return [_shape(array) for array in _ARRAY.finditer(type_)]


def _shape(array: re.Match[str]) -> tuple[int, ...]:
    return tuple(int(size) for size in array["shape"].split(",") if size)


def _bytes(array: re.Match[str]) -> int:
    dtype = array["dtype"]
    bits = _BITS.get(dtype) if dtype in _BITS else int((re.search(r"\d+", dtype) or [0])[0])
    return math.prod(_shape(array)) * (bits or 0) // 8
