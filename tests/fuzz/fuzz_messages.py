"""Changes of protobuf messages: fields, not bytes, so that most results can be parsed."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any, NamedTuple

INTEGERS = (
    0,
    1,
    -1,
    2,
    3,
    4,
    7,
    8,
    15,
    16,
    255,
    256,
    65535,
    65537,
    (1 << 31) - 1,
    -(1 << 31),
    (1 << 63) - 1,
    -(1 << 63),
)
REALS = (0.0, -0.0, 1.0, -1.0, 0.5, 1e-30, 1e30, float("inf"), float("-inf"), float("nan"))
TEXTS = ("", "x", "\0", "a" * 3000, "é")


class _Place(NamedTuple):
    """A field of a message somewhere in another; ``index`` is -1 for one that is not repeated."""

    message: Any
    field: Any
    index: int


def _places(message: Any) -> Iterator[_Place]:
    for field, value in message.ListFields():
        if field.type == field.TYPE_MESSAGE and field.message_type.GetOptions().map_entry:
            continue
        if field.is_repeated:
            for index, entry in enumerate(value):
                yield _Place(message, field, index)
                if field.type == field.TYPE_MESSAGE:
                    yield from _places(entry)
        else:
            yield _Place(message, field, -1)
            if field.type == field.TYPE_MESSAGE:
                yield from _places(value)


def mutate(message: Any, draw: random.Random) -> None:
    """Change one to three fields of a message, in place."""
    for _ in range(draw.choice((1, 1, 2, 3))):
        places = list(_places(message))
        if not places:
            return
        # Kinds of fields count alike: weights would outnumber everything.
        name = draw.choice(sorted({place.field.full_name for place in places}))
        place = draw.choice([place for place in places if place.field.full_name == name])
        try:
            _change(place, places, draw)
        except (ValueError, TypeError):  # Out of the range of the field, or a text that is not UTF-8.
            continue


def _change(place: _Place, places: list[_Place], draw: random.Random) -> None:
    message, field, index = place
    values = getattr(message, field.name)
    how = draw.random()
    if field.is_repeated and how < 0.3:
        other = draw.randrange(len(values))
        if how < 0.1:
            del values[index]
        elif field.type == field.TYPE_MESSAGE:
            values.add().CopyFrom(values[index])
            if how < 0.2:
                values[other].CopyFrom(values[index])
        else:
            values.append(values[other])
    elif how < 0.36:
        message.ClearField(field.name)
    elif field.type == field.TYPE_MESSAGE:
        alike = [each for each in places if each.field.message_type == field.message_type]
        source, target = _value(draw.choice(alike)), _value(place)
        if source is not target:
            copy = type(source)()
            copy.CopyFrom(source)
            target.CopyFrom(copy)
    else:
        changed = _scalar(_value(place), place, places, draw)
        if index < 0:
            setattr(message, field.name, changed)
        else:
            values[index] = changed


def _value(place: _Place) -> Any:
    value = getattr(place.message, place.field.name)
    return value if place.index < 0 else value[place.index]


def _scalar(value: Any, place: _Place, places: list[_Place], draw: random.Random) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return draw.choice((draw.choice(INTEGERS), value + draw.choice((-1, 1)), draw.randrange(300)))
    if isinstance(value, float):
        return draw.choice(REALS)
    if isinstance(value, str):
        # Names of operators and of values among one another.
        alike = [_value(each) for each in places if each.field.type == place.field.type]
        return draw.choice((*TEXTS, *[draw.choice(alike) for _ in range(8)]))
    return _bytes(value, draw)


def _bytes(value: bytes, draw: random.Random) -> bytes:
    changed = bytearray(value)
    how = draw.random()
    if how < 0.5 and changed:
        for _ in range(draw.choice((1, 2, 8))):
            changed[draw.randrange(len(changed))] = draw.choice((0, 1, 0x7F, 0x80, 0xFF, draw.randrange(256)))
    elif how < 0.7:
        del changed[draw.randrange(len(changed) + 1) :]
    elif how < 0.8:
        changed += draw.randbytes(draw.choice((1, 4, 8)))
    else:
        changed[:] = bytes([draw.choice((0, 0x7F, 0x80, 0xFF))]) * len(changed)
    return bytes(changed)
