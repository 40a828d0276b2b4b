"""Key templates: ``"user:{id}:{lang}"`` and a function's arguments make a key.

No two different calls share a key by accident.

How rendered values are kept apart
----------------------------------
Put together as they are,
("a:b", "c") and ("a", "b:c") would both be ``a:b:c``. So in rendered values some characters are
written as ``%`` and two hexadecimal digits per UTF-8 byte, as in a URL: ``%`` itself, ``:``, both
braces, and of each text that stands between two fields the first character that is neither letter
nor digit. ``user:{id}:{lang}`` of ("a:b", "c") is ``user:a%3Ab:c``. A value therefore ends where
that character first comes; so two calls whose values render differently have different keys, and
since ``:`` is always written so, no key of ``user:{id}`` is one of ``user:{id}:{lang}``. The braces
are escaped because those of the template make the hash tag: ``{{user:{id}}}:cart`` puts all of a
user's keys on one shard, and no user can choose another's.
"""

import operator
import re
from collections.abc import Callable
from itertools import pairwise
from string import Formatter
from typing import Any

from shardcache.errors import InvalidArgument
from shardcache.key_templates.binding import Binding
from shardcache.key_templates.stable_text import plain_text, to_stable_text

__all__ = ("KeyTemplate",)

_ALWAYS_ESCAPED = "%:{}"
_FIELD = re.compile(r"([^.\[\]]*)((?:\.[^.\[\]]+|\[[^\[\]]+\])*)")
_STEP = re.compile(r"\.([^.\[\]]+)|\[([^\[\]]+)\]")

Read = Callable[[Any], str]


class KeyTemplate:
    """Makes a key from the arguments of a call of ``function``, by a text as for `str.format`.

    ``{name}`` is an argument, passed by position, by name, or left to its default;
    ``{name.attribute}`` and ``{name[item]}`` are parts of it; ``{{`` and ``}}`` are braces.
    ``self`` and ``cls`` are arguments like any: not in the key unless the template names them
    (``{self.id}``). A value is rendered as `str` shows it, so 1 and "1" share a key; ``{name!r}``
    tells them apart; ``{price:.2f}`` formats it. Sets and dicts are sorted. Of ``*args`` and
    ``**kwargs`` all is rendered, or ``{args[0]}``, ``{kwargs[lang]}``. What is not named makes no
    difference to the key.

    Raises `InvalidArgument`: here if the text is malformed, names what ``function`` does not have,
    or puts nothing between two fields that would keep their values apart; at the call if a value
    has no text that is the same in every process (an object that shows its address). Wrong
    arguments raise the `TypeError` that the function would.
    """

    __slots__ = ("_binding", "_complete", "_escaped", "_fields", "_head", "text")

    def __init__(self, text: str, function: Callable[..., object]) -> None:
        self.text = text
        self._binding = Binding(function)
        self._complete = self._binding.complete
        self._head, fields = self._parse()
        self._escaped = re.compile(f"[{re.escape(_ALWAYS_ESCAPED + self._separators(fields))}]")
        self._fields = tuple(
            (self._index(name), self._reader(*how), after) for name, how, after in fields
        )

    def __repr__(self) -> str:
        return f"KeyTemplate({self.text!r}, {self._binding})"

    def __call__(self, /, *args: object, **kwargs: object) -> str:
        """Return the key of the call with these arguments."""
        complete = len(args) == self._complete and not kwargs
        values = args if complete else self._binding.values(args, kwargs)
        parts = [self._head]
        for index, read, after in self._fields:
            value = values[index]
            if read is None and type(value) is str:
                part = value
            else:
                part = self._render(value, read or plain_text, index)
            # What is escaped is never a letter or a digit, and most values are nothing else.
            parts += part if part.isalnum() else self._escaped.sub(_escape, part), after
        return "".join(parts)

    def _render(self, value: object, read: Read, index: int) -> str:
        try:
            return read(value)
        except (AttributeError, LookupError, TypeError, ValueError, RecursionError) as error:
            raise InvalidArgument(
                f"argument {self._binding.names[index]!r} cannot be rendered in {self.text!r}: "
                f"{error}"
            ) from error

    def _parse(self) -> tuple[str, list[tuple[str, tuple[str, str, str], str]]]:
        """Return the text before the first field, and each field: name, reading, text after it."""
        if not isinstance(self.text, str) or not self.text:
            raise InvalidArgument(
                f"a key template must be a str that is not empty, got {self.text!r:.80}"
            )
        head, fields = "", list[tuple[str, tuple[str, str, str], str]]()
        try:
            self.text.encode()
            for literal, field, spec, conversion in Formatter().parse(self.text):
                if fields:
                    name, how, after = fields[-1]
                    fields[-1] = (name, how, after + literal)
                else:
                    head += literal
                if field is not None:
                    found = _FIELD.fullmatch(field)
                    if found is None:
                        raise ValueError(f"{field!r} is neither a name nor a part of one")
                    fields.append((found[1], (found[2], conversion or "", spec or ""), ""))
        except ValueError as error:
            raise InvalidArgument(
                f"the key template {self.text!r:.200} is malformed: {error}"
            ) from None
        return head, fields

    def _separators(self, fields: list[tuple[str, tuple[str, str, str], str]]) -> str:
        separators = ""
        for (name, _, after), (following, _, _) in pairwise(fields):
            mark = next(
                (character for character in after if not character.isalnum() and character != "%"),
                None,
            )
            if mark is None:
                raise InvalidArgument(
                    f"in the key template {self.text!r} nothing keeps {{{name}}} and "
                    f"{{{following}}} apart: put a character "
                    "between them that is neither letter, digit nor '%', such as ':'; there is "
                    f"{after!r}"
                )
            separators += mark
        return separators

    def _index(self, name: str) -> int:
        names = self._binding.names
        if name not in names:
            allowed = f"the names in it are {', '.join(names)}" if names else "it has no parameters"
            raise InvalidArgument(
                f"the key template {self.text!r} names {name!r}, but of {self._binding} {allowed}"
            )
        return names.index(name)

    def _reader(self, path: str, conversion: str, spec: str) -> Read | None:
        """Return what makes a field's text from its argument; None where they are the same."""
        if conversion not in ("", "r", "s"):
            raise InvalidArgument(
                f"in the key template {self.text!r} a conversion may be !r or !s, got !{conversion}"
            )
        if "{" in spec:
            raise InvalidArgument(
                f"in the key template {self.text!r} a format must be fixed, got {spec!r}"
            )
        steps = [_step(attribute, item) for attribute, item in _STEP.findall(path)]
        text = to_stable_text if conversion == "r" else plain_text
        if not steps and not spec:
            return text if conversion else None

        def read(value: Any) -> str:
            for step in steps:
                value = step(value)
            if not spec:
                return text(value)
            return format(text(value) if conversion else value, spec)

        return read


def _step(attribute: str, item: str) -> Callable[[Any], Any]:
    if attribute:
        return operator.attrgetter(attribute)
    return operator.itemgetter(int(item) if item.isdecimal() else item)


def _escape(found: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in found[0].encode())
