"""hiredis, and a check of what a server announces before hiredis allocates memory for it.

Theory of operation
-------------------
hiredis makes a list as soon as it has read its length: ``*2000000000`` takes 15 GiB and seconds,
and this header is 13 bytes long. So the headers of long lists are checked here, before the bytes
go on to hiredis. The headers of long values are checked as well, so that no caller waits for
512 MiB that no command of this client can have asked for.

Checking every header in Python would cost more than the rest of the exchange. Three facts make
it cheap:

- Only a list of 1,000 items or more matters: hiredis nests nine deep at most. So a piece of the
  stream can go on as it is if nowhere in it the first byte of a list is followed by four digits.
  Most pieces hold no such byte at all.
- hiredis tells where it stands. When it wants more (`gets` has said so), and `has_data` is false,
  it stands between two items, and a header comes next. If `has_data` is true, it is in the middle
  of a value, and what looks like a header is part of that value.
- A long value says how long it is, so its bytes can be skipped.

So a suspicious piece is handed on up to the suspicious place, hiredis is asked where it stands,
and only a real header is read. The bytes that are handed on later are in `held`; `more` hands on
the next part of them.
"""

import re
from collections.abc import Sequence
from typing import Any

import hiredis

from shardcache.errors import OutOfStep, ReplyTooLarge
from shardcache.resp import Command, ErrorReply

__all__ = ("NOT_YET", "SLACK", "Answers", "ReplyParser")

NOT_YET: Any = object()
SLACK = 256 * 1024  # bytes that a reply may have beside the values in it
ITEMS = 64 * 1024  # items that a list may have, beside the values that were asked for
_PAGE = 64 * 1024 * 1024  # bytes of a page of SCAN: some hundred keys of up to 64 KiB
_NO_VALUES = frozenset({b"SET", b"UNLINK", b"EXISTS", b"PEXPIRE", b"PTTL", b"PING", b"FLUSHDB"})
_SMALL = 4096  # bytes: longer pieces contain long values, which are skipped
_LONG = 256  # bytes of a value that is worth skipping
_LINE = 24  # bytes of a header at most
# Array, push, set, attribute: hiredis allocates the list of each at once, but not that of a map.
_LISTS = frozenset(b"*>~|")
_VALUES = frozenset(b"$=!")
_SHAPE = bytes(42 if byte in _LISTS else 48 if 48 <= byte <= 57 else 46 for byte in range(256))
_LONG_LIST = b"*0000"  # in that shape
_BEGINNING = re.compile(rb"[*>~|][0-9]{0,19}\r?\Z")

Answers = int | Sequence[Command]
"""What the replies can hold: a number of values, or the commands from which it follows."""


class ReplyParser:
    """Parses the stream of one connection.

    ``gets`` and ``has_data`` are those of hiredis. A caller that gets `NOT_YET` from ``gets``
    calls `more` before it waits.

    ``shard``: its name, for errors.
    ``max_value``: the longest value, in bytes.
    ``answers``: what the replies can hold; set before each exchange.
    """

    __slots__ = (
        "_at",
        "_feed",
        "_max_value",
        "_shape",
        "_skip",
        "answers",
        "gets",
        "has_data",
        "held",
        "shard",
    )

    def __init__(self, shard: str, max_value: int) -> None:
        reader = hiredis.Reader(replyError=ErrorReply, notEnoughData=NOT_YET)
        self.shard = shard
        self.gets = reader.gets
        self.has_data = reader.has_data
        self.held = b""  # not handed on yet, from `_at` on
        self.answers: Answers = 0
        self._feed = reader.feed
        self._max_value = max_value
        self._at = 0
        self._shape = b""  # of what is held
        self._skip = 0  # bytes yet to come of a value that is skipped

    def feed(self, data: bytes) -> None:
        """Take what has come in. Hand it on if it is harmless, else hold it."""
        if (
            not self.held
            and not self._skip
            and len(data) <= _SMALL
            and (not (42 in data or 62 in data or 126 in data or 124 in data) or _is_harmless(data))
        ):
            self._feed(data)
        elif not self.held and self._skip > len(data):
            self._skip -= len(data)
            self._feed(data)
        else:
            self.held = self.held[self._at :] + data if self.held else data
            self._at = 0
            self._shape = b""

    def more(self) -> bool:
        """Hand on the next part of `held`, now that hiredis wants more; return whether it did.

        Raises `ReplyTooLarge`.
        """
        data, begin = self.held, self._at
        if self._skip:
            known, end = True, begin
        else:
            known = not self.has_data()
            end = begin
        if known:
            end, header = self._pass(data, begin)
            if header is not None or end == len(data):
                return self._hand_on(end)
        # From here on hiredis alone knows where the headers are.
        if not self._shape:
            self._shape = data.translate(_SHAPE)
        suspect = self._shape.find(_LONG_LIST, end if known else end + 1)
        if suspect < 0:
            suspect = len(data)
            if data[-1] != 10:  # a header may have begun, and its digits are yet to come
                found = _BEGINNING.search(data, max(end if known else end + 1, suspect - _LINE))
                suspect = suspect if found is None else found.start()
        return self._hand_on(suspect)

    def most(self) -> int:
        """Return the bytes that the replies can have."""
        values, extra = self._counted()
        return SLACK + extra + values * (self._max_value + SLACK)

    def _counted(self) -> tuple[int, int]:
        """Return how many values there can be, and how many bytes beside them."""
        answers = self.answers
        if isinstance(answers, int):
            return answers, 0
        values = extra = 0
        for command in answers:
            if command[0] == b"SCAN":
                extra += _PAGE
            elif command[0] not in _NO_VALUES:
                values += max(len(command) - 1, 1)
        return values, extra

    def _pass(self, data: bytes, at: int) -> tuple[int, int | None]:
        """Check the headers from ``at`` on, where one begins, and skip long values.

        Return the place up to which all is known; and the same place again if a header begins
        there that is not complete yet, else None.
        """
        if self._skip:
            at += self._skip
            self._skip = 0
        size = len(data)
        while at < size:
            kind = data[at]
            # A number or a short line needs no check: hiredis can have it.
            if kind not in _LISTS and kind not in _VALUES:
                return at, None
            line = data.find(b"\r\n", at, at + _LINE)
            if line < 0:
                if size - at >= _LINE:
                    raise OutOfStep(
                        self.shard,
                        f"the reply breaks the protocol: {data[at : at + _LINE]!r} is no header",
                    )
                return at, at
            # What is no number is -1 (nil), or an error that hiredis reports.
            number = data[at + 1 : line]
            count = int(number) if number.isdigit() else 0
            # Of a list only the header is passed: its items have headers of their own.
            if kind in _LISTS:
                if count > ITEMS and count > ITEMS + self._counted()[0]:
                    raise ReplyTooLarge(
                        self.shard,
                        f"it announced a list of {count} items, more than can be the answer",
                    )
                at = line + 2
            else:
                if count > SLACK and count > self.most():
                    raise ReplyTooLarge(
                        self.shard, f"it announced {count} bytes, more than can be the answer"
                    )
                if count < _LONG:
                    return at, None
                at = line + 2 + count + 2
        self._skip = at - size
        return size, None

    def _hand_on(self, end: int) -> bool:
        data, begin = self.held, self._at
        if end == len(data):
            self.held, self._at, self._shape = b"", 0, b""
        else:
            self._at = end
        if begin == end:
            return False
        self._feed(data if begin == 0 and end == len(data) else data[begin:end])
        return True


def _is_harmless(data: bytes) -> bool:
    """Whether no long list is announced anywhere in ``data``, not even the beginning of one."""
    if data[-1] != 10:
        return False
    # The most frequent case: only the list that was asked for, of texts.
    if (
        data.find(b"\r", 1, 5) > 0
        and data.find(b"*", 1) < 0
        and data.find(b">", 1) < 0
        and data.find(b"~", 1) < 0
        and data.find(b"|", 1) < 0
    ):
        return True
    return _LONG_LIST not in data.translate(_SHAPE)
