"""Makes freeze-core's console interpreter behave like a plain `python`.

freeze-core starts a frozen program, so its C code reads no arguments and no PYTHON* variables: it
imports `__init__NAME` (NAME is the executable's name up to the first dot) and calls its `run`.
This file is installed under that name. It reads the arguments as `python` does: `FILE`, `-m MODULE`,
`-c CODE`, `-` or a program on standard input, after the usual one-letter options.

Nothing but `sys` and `os` is imported before the program starts: a traced program's import locks
and threads must be its own.
"""

import os
import sys

# Options without a meaning here are accepted: harnesses pass them (subprocess, multiprocessing).
_FLAGS = "bBdEiIOPqRsSuvx"
_WITH_VALUE = "WX"


def _usage_error(message):
    sys.stderr.write(f"{sys.executable}: {message}\n")
    raise SystemExit(2)


def _parse(argv):
    """Splits argv into (seen flags, [(option, value)], mode, rest) where mode is c, m or None."""
    flags, values = set(), []
    while argv:
        word = argv[0]
        if word in ("-V", "--version"):
            return flags | {"V"}, values, None, []
        if word == "--":
            return flags, values, None, argv[1:]
        if word == "-" or not word.startswith("-"):
            break
        if word.startswith("--"):
            _usage_error(f"unknown option {word}")
        argv = argv[1:]
        for at, letter in enumerate(word[1:], 2):
            if letter in _FLAGS:
                flags.add(letter)
                continue
            if letter not in _WITH_VALUE + "cm":
                _usage_error(f"unknown option -{letter}")
            value = word[at:]
            if not value:
                if not argv:
                    _usage_error(f"argument expected for the -{letter} option")
                value, argv = argv[0], argv[1:]
            if letter in "cm":
                return flags, values, letter, [value, *argv]
            values.append((letter, value))
            break
    return flags, values, None, argv


def _apply(flags, values):
    """Gives the options that can still have an effect at this point theirs."""
    environ = {} if flags & {"E", "I"} else os.environ
    extra = environ.get("PYTHONPATH", "")
    sys.path[:0] = [entry for entry in extra.split(os.pathsep) if entry]
    if "u" in flags or environ.get("PYTHONUNBUFFERED"):
        for stream in (sys.stdout, sys.stderr):
            stream.reconfigure(write_through=True)
    if "B" in flags or environ.get("PYTHONDONTWRITEBYTECODE"):
        sys.dont_write_bytecode = True
    for letter, value in values:
        if letter == "X":
            name, _, given = value.partition("=")
            sys._xoptions[name] = given or True
        else:
            import warnings

            sys.warnoptions.append(value)
            warnings._processoptions([value])


def _execute(code, name_space):
    """Runs `code`; an uncaught exception ends the process as `python` ends it: 1, 130 for Ctrl-C."""
    try:
        exec(code, name_space)
    except SystemExit:
        raise
    except BaseException as error:
        # The program's own frames start below this one.
        own = error.__traceback__.tb_next
        sys.excepthook(type(error), error.with_traceback(own), own)
        raise SystemExit(130 if isinstance(error, KeyboardInterrupt) else 1) from None


def _compile(source, name):
    try:
        return compile(source, name, "exec")
    except SyntaxError as error:
        sys.excepthook(type(error), error.with_traceback(None), None)
        raise SystemExit(1) from None


def run(_main_name):
    home = os.path.dirname(os.path.realpath(sys.executable))
    sys.stdlib_dir = os.path.join(home, "lib")
    sys.path[:] = [entry for entry in sys.path if entry]

    flags, values, mode, rest = _parse(sys.argv[1:])
    if "V" in flags:
        print("Python " + sys.version.split()[0])
        return
    _apply(flags, values)

    main = sys.modules.get("__main__")
    if main is None:
        main = sys.modules["__main__"] = type(sys)("__main__")
    name_space = main.__dict__
    name_space.update(__name__="__main__", __builtins__=sys.modules["builtins"], __spec__=None)
    isolated = bool(flags & {"I", "P"})

    if mode == "c":
        sys.argv[:] = ["-c", *rest[1:]]
        if not isolated:
            sys.path.insert(0, "")
        _execute(_compile(rest[0], "<string>"), name_space)
    elif mode == "m":
        import runpy

        sys.argv[:] = rest
        if not isolated:
            sys.path.insert(0, os.getcwd())
        _execute("import runpy; runpy._run_module_as_main(" + repr(rest[0]) + ")", {})
    elif rest and rest[0] != "-":
        sys.argv[:] = rest
        path = rest[0]
        if not isolated:
            sys.path.insert(0, os.path.dirname(os.path.realpath(path)))
        try:
            with open(path, "rb") as file:
                source = file.read()
        except OSError as error:
            _usage_error(f"can't open file {os.path.abspath(path)!r}: {error}")
        name_space["__file__"] = os.path.abspath(path)
        _execute(_compile(source, name_space["__file__"]), name_space)
    else:
        sys.argv[:] = rest or [""]
        if not isolated:
            sys.path.insert(0, "")
        _execute(_compile(sys.stdin.read(), "<stdin>"), name_space)
