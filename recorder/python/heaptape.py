"""Talk to the heaptape recorder from inside a recorded Python program.

    import heaptape

    heaptape.mark("warm")                 # FILE@marker:warm
    with heaptape.span("request"):        # FILE@marker:request:begin .. FILE@marker:request:end
        ...
    @heaptape.span("job")
    def job(): ...

One file, standard library only: copy it beside your program. Outside a recording every call does nothing, and costs one test.

Inside a recording the calls go to the recorder's library by way of `_ctypes`, which is imported then: some ten blocks that stay, and at each call a few small ones that are
freed before it returns. They are in the recording like everything else.
"""

import os

__all__ = ["mark", "span", "start", "stop", "is_recording"]


def _connect():
    """The recorder's functions by name, or none: not recorded, or a Python without `_ctypes`."""
    if "HEAPTAPE_SEGMENT" not in os.environ:
        return {}
    try:
        import _ctypes

        program = _ctypes.dlopen(None, 0)
        return {
            name: (_ctypes.call_cdeclfunction, _ctypes.dlsym(program, "heaptape_" + name))
            for name in ("mark", "start", "stop", "state")
        }
    except (ImportError, OSError, AttributeError):
        return {}


_functions = _connect()


def _call(name, *arguments):
    function = _functions.get(name)
    if function is None:
        return 0
    call, address = function
    return call(address, arguments)


def mark(name):
    """Puts a marker at this place in the order of events: `FILE@marker:NAME`."""
    if _functions:
        # What cannot be part of a C string is left out.
        _call("mark", str(name).replace("\0", "").encode("utf-8", "surrogateescape"))


def start():
    """Events are recorded from here on (after `heaptape record --paused`, or a stop)."""
    _call("start")


def stop():
    """Events are not recorded from here on, in no process of the recording."""
    _call("stop")


def is_recording():
    """Whether events are being recorded now."""
    return _call("state") == 1


class span:
    """Marks the beginning and the end of a piece of work: a context manager, and a decorator for functions and coroutine functions.

    The markers are `NAME:begin` and `NAME:end`; the latter comes when an exception passes, too.
    """

    def __init__(self, name):
        self.name = str(name)

    def __enter__(self):
        mark(self.name + ":begin")
        return self

    def __exit__(self, kind, value, traceback):
        mark(self.name + ":end")
        return False

    async def __aenter__(self):
        return self.__enter__()

    async def __aexit__(self, kind, value, traceback):
        return self.__exit__(kind, value, traceback)

    def __call__(self, function):
        import functools

        is_coroutine = 0x80
        if getattr(getattr(function, "__code__", None), "co_flags", 0) & is_coroutine:

            @functools.wraps(function)
            async def within(*arguments, **named):
                with self:
                    return await function(*arguments, **named)

        else:

            @functools.wraps(function)
            def within(*arguments, **named):
                with self:
                    return function(*arguments, **named)

        return within
