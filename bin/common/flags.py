"""Generates absl flags from frozen dataclasses, so that an option is declared only once.

A new flag is a field of a program's config:

    sigma: float | None = option(None, "Standard deviation of the noise.", lower_bound=0)

`define(__name__, Config)`, called when the program is imported, defines `--sigma`, and
`read(Config)`, called after absl has parsed the command line, sets the field.

The type of a field determines how its flag is parsed: `str`, `int`, `float` and `bool`; a `Literal`
of strings for a choice; a `tuple` of strings or numbers for comma-separated values. Each type may
be `| None`. If the type of a field is a dataclass, the flags of its fields are added;
`bin.common.configs` has the dataclasses that programs share. Programs that share a field share its
flag, which is defined once per process; two different options with the same name are an error.

A program with another default passes it to `define`, which shows it in `--help`. A program passes
values that it computes to `read`. Flags that don't determine the run (where to write, how many
workers) are fields of a separate dataclass.

    flags.define(__name__, Config, configs.Output, defaults={"epochs": 5}, leave_out=["snapshots"])
    config = flags.read(Config, learning_rate=1e-5 if flags.given("sigma") else 1e-3)
"""

import dataclasses
import functools
import pathlib
import sys
import types
import typing
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple, TypeVar

from absl import flags

FLAGS = flags.FLAGS
_T = TypeVar("_T")


class UsageError(Exception):
    """The flags or the output folder can't be used; the message says what to do."""


class _ByProgram:
    """The default of an option whose default each program must set."""


BY_PROGRAM: Final = _ByProgram()


@dataclasses.dataclass(frozen=True)
class Option:
    """The arguments of `option`."""

    default: Any
    help: str
    lower_bound: float | None
    upper_bound: float | None
    choices: tuple[str, ...]
    is_path: bool
    several: bool
    argument: str | None
    valid: Callable[[Any], object] | None = dataclasses.field(compare=False)
    message: str


def option(
    default: Any,
    help: str,
    *,
    lower_bound: float | None = None,
    upper_bound: float | None = None,
    choices: Collection[str] = (),
    is_path: bool = False,
    several: bool = False,
    argument: str | None = None,
    valid: Callable[[Any], object] | None = None,
    message: str = "",
) -> Any:
    """Declares a field of a frozen dataclass that is also a flag.

    Args:
        default: the default of the flag and of the field. With `BY_PROGRAM` there is no default:
            each program must set the value, by `defaults` of `define` or by an argument of `read`.
        help: the flag's help.
        lower_bound: smallest value of a number.
        upper_bound: largest value of a number.
        choices: the valid values of a flag of type `str`; a `Literal` determines its choices.
        is_path: whether to expand a leading ~, which a shell doesn't expand in --name=~/x.
        several: whether the flag takes several comma-separated values instead of one: a field of
            type `tuple[KIND, ...]` then holds one KIND per value.
        argument: the name of the library's argument that the flag sets, so that an error can name
            the flag; None for the name of the flag, "" if the flag sets no argument.
        valid: a function from the value as parsed by absl (strings for a list) to whether it is
            valid.
        message: the error message for an invalid value: "must be ...".
    """
    made = Option(
        default,
        help,
        lower_bound,
        upper_bound,
        tuple(choices),
        is_path,
        several,
        argument,
        valid,
        message,
    )
    if default is BY_PROGRAM:
        return dataclasses.field(metadata={"option": made})
    return dataclasses.field(default=default, metadata={"option": made})


@dataclasses.dataclass(frozen=True)
class _Program:
    """The differences of a program from the defaults of a config's options."""

    defaults: Mapping[str, Any]
    leave_out: Collection[str]


_PROGRAMS: dict[type, _Program] = {}
_DEFINED: dict[str, tuple[Option, Any]] = {}


def define(
    module: str,
    *kinds: type,
    defaults: Mapping[str, Any] | None = None,
    leave_out: Collection[str] = (),
) -> None:
    """Defines the flags of a program, and shows them in its `--help`.

    Args:
        module: the program's `__name__`.
        *kinds: the dataclasses whose options become flags.
        defaults: {flag: default} for defaults that differ from those of the options.
        leave_out: options of `kinds` that don't become flags; their fields have the default.

    Raises:
        ValueError: another option has the same name.
    """
    defaults = dict(defaults or {})
    # absl identifies the main module by the name of its file.
    program = sys.argv[0] if module == "__main__" else module
    unknown = {*defaults, *leave_out}
    for kind in kinds:
        if kind.__module__ == module:
            _PROGRAMS[kind] = _Program(defaults, tuple(leave_out))
        for field in _fields(kind):
            if field.option is None:
                continue
            unknown.discard(field.name)
            if field.name not in leave_out:
                _define_flag(field, field.option)
                FLAGS.register_key_flag_for_module(program, FLAGS[field.name])
                if module == "__main__" and field.name in defaults:
                    FLAGS.set_default(field.name, _for_absl(defaults[field.name]))
    if unknown:
        raise ValueError(f"{module} has no options {', '.join(sorted(unknown))}.")


def read(kind: type[_T], **values: Any) -> _T:
    """Returns a config with the values of its flags.

    Args:
        kind: the dataclass.
        **values: values of fields, at any depth, that replace those of flags, and values of fields
            that aren't options.

    Raises:
        UsageError: a flag has several values, but `kind` takes one.
    """
    unknown = values.keys() - {field.name for field in _fields(kind)}
    if unknown:
        raise TypeError(f"{kind.__name__} has no fields {', '.join(sorted(unknown))}.")
    return _read(kind, values, _PROGRAMS.get(kind, _Program({}, ())))


def names(kind: type) -> tuple[str, ...]:
    """Returns the names of a config's flags, including those of nested configs."""
    found = (field.name for field in _fields(kind) if field.option is not None)
    return tuple(dict.fromkeys(found))


def paths(config: Any) -> Iterator[tuple[str, str]]:
    """Yields (flag, path) for the values of a config's options that may name files."""
    for field in dataclasses.fields(config):
        value, made = getattr(config, field.name), field.metadata.get("option")
        values = value if isinstance(value, tuple) else (value,)
        for part in values:
            if dataclasses.is_dataclass(part):
                yield from paths(part)
            elif made is not None and made.is_path and isinstance(part, str):
                yield field.name, part


def given(name: str) -> bool:
    """Returns whether a flag is on the command line, with any value."""
    return name in FLAGS and bool(FLAGS[name].present)


def as_arguments(names: Iterable[str]) -> list[str]:
    """Returns those of the flags that are on the command line, as arguments of a program."""
    return [FLAGS[name].serialize() for name in names if given(name)]


def of_argument(argument: str) -> str | None:
    """Returns the name of the flag that sets an argument of the library, None if there is none."""
    for name, (made, _) in _DEFINED.items():
        fed = name if made.argument is None else made.argument
        if fed == argument:
            return name
    return None


def expanded(path: str) -> str:
    """Returns a path with a leading ~ expanded."""
    return str(pathlib.Path(path).expanduser()) if path.startswith("~") else path


class _Field(NamedTuple):
    """A field of a config or of a nested config; `option` is None if it isn't a flag."""

    owner: type
    name: str
    hint: Any
    option: Option | None


def _fields(kind: type) -> Iterator[_Field]:
    """Yields the fields of a config and of its nested configs."""
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        hint, found = hints[field.name], field.metadata.get("option")
        yield _Field(kind, field.name, hint, found)
        nested = _nested(hint)
        if nested is not None:
            yield from _fields(nested)


def _nested(hint: Any) -> type | None:
    """Returns the dataclass of a field or of the elements of a tuple, None if there is none."""
    hint = _required(hint)
    if typing.get_origin(hint) is tuple:
        hint = typing.get_args(hint)[0]
    return hint if isinstance(hint, type) and dataclasses.is_dataclass(hint) else None


def _required(hint: Any) -> Any:
    """Returns a type without its `| None`."""
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        (hint,) = (part for part in typing.get_args(hint) if part is not types.NoneType)
    return hint


def _element(hint: Any) -> Callable[[str], Any] | None:
    """Returns the type of the elements of a tuple, None for other types."""
    hint = _required(hint)
    return typing.get_args(hint)[0] if typing.get_origin(hint) is tuple else None


def _define_flag(field: _Field, made: Option) -> None:
    name, hint = field.name, field.hint
    if name in _DEFINED:
        if _DEFINED[name] != (made, hint):
            raise ValueError(f"{field.owner.__module__}: another option already defines --{name}.")
        return
    module = field.owner.__module__
    common: dict[str, Any] = {
        "name": name,
        "default": None if made.default is BY_PROGRAM else _for_absl(made.default),
        "help": made.help,
        "module_name": sys.argv[0] if module == "__main__" else module,
    }
    bounds: dict[str, Any] = {"lower_bound": made.lower_bound, "upper_bound": made.upper_bound}
    plain = _required(hint)
    if made.several or _element(hint) is not None:
        flags.DEFINE_list(**common)
    elif made.choices or typing.get_origin(plain) is typing.Literal:
        flags.DEFINE_enum(enum_values=list(made.choices or typing.get_args(plain)), **common)
    elif plain is bool:
        flags.DEFINE_boolean(**common)
    elif plain is int:
        flags.DEFINE_integer(**bounds, **common)
    elif plain is float:
        flags.DEFINE_float(**bounds, **common)
    elif plain is str:
        flags.DEFINE_string(**common)
    else:
        raise TypeError(f"{field.owner.__name__}.{name}: no flag has the type {hint}.")
    _DEFINED[name] = (made, hint)
    if made.is_path:
        flags.register_validator(
            name, functools.partial(_are_paths, some=made.several), "must be a path, not empty"
        )
    if made.valid is not None:
        flags.register_validator(name, made.valid, made.message)
    elif _element(hint) in (int, float):
        flags.register_validator(
            name, lambda value: _are_numbers(value, hint), "must be numbers separated by commas"
        )


def _are_paths(value: str | list[str] | None, *, some: bool) -> bool:
    parts = [value] if isinstance(value, str) else value or []
    return all(part.strip() for part in parts) and (bool(parts) or not some)


def _are_numbers(value: list[str] | None, hint: Any) -> bool:
    try:
        _for_field(value, hint)
    except ValueError:
        return False
    return True


def _for_absl(value: Any) -> Any:
    """Converts a field's value to a default for absl."""
    return [str(part) for part in value] if isinstance(value, tuple) else value


def _for_field(value: Any, hint: Any) -> Any:
    """Converts a flag's value to that of its field."""
    element = _element(hint)
    if element is None or value is None:
        return value
    return tuple(element(part) for part in value)


def _flag_value(name: str, hint: Any, made: Option, program: _Program) -> Any:
    """Returns the flag's value if given, or the program's default, or the option's default."""
    unset = name not in FLAGS or name in program.leave_out
    if unset or (FLAGS[name].using_default_value and name in program.defaults):
        value = program.defaults.get(name, made.default)
        if value is BY_PROGRAM:
            raise TypeError(f"--{name} has no default: pass one to `define` or `read`.")
        parts = [value] if made.several else value
    else:
        parts = FLAGS[name].value
        if parts is None and made.default is BY_PROGRAM:
            raise TypeError(f"--{name} has no default: pass one to `define` or `read`.")
    if made.is_path and parts is not None:
        parts = expanded(parts) if isinstance(parts, str) else [expanded(part) for part in parts]
    return parts if made.several else _for_field(parts, hint)


def _read(kind: type[_T], values: Mapping[str, Any], program: _Program) -> _T:
    hints = typing.get_type_hints(kind)
    found: dict[str, Any] = {}
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]  # a dataclass, as documented
        name, hint = field.name, hints[field.name]
        made, nested = field.metadata.get("option"), _nested(hint)
        if name in values:
            found[name] = values[name]
        elif made is not None and made.several:
            (found[name], *more) = _flag_value(name, hint, made, program)
            if more:
                raise UsageError(f"--{name} takes only one value in this program.")
        elif made is not None:
            found[name] = _flag_value(name, hint, made, program)
        elif nested is not None and typing.get_origin(_required(hint)) is tuple:
            found[name] = _read_several(nested, values, program)
        elif nested is not None:
            found[name] = _read(nested, values, program)
    return kind(**found)


def _read_several(kind: type, values: Mapping[str, Any], program: _Program) -> tuple[Any, ...]:
    """Returns one config per value of the flag of `kind` that takes several values."""
    (field,) = (field for field in _fields(kind) if field.option and field.option.several)
    assert field.option is not None
    if field.name in values:
        return (_read(kind, values, program),)
    each = _flag_value(field.name, field.hint, field.option, program)
    return tuple(_read(kind, {**values, field.name: value}, program) for value in each)
