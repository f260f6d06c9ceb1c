"""A pytest plugin: limits on the memory of tests, and where it went when one is broken.

    @pytest.mark.limit_memory("24 MB")                  the most that is alive at once of what the test allocates
    @pytest.mark.limit_leaks("1 MB", warmup=2)          what any one line leaves behind, after so many runs of the body that do not count
    @pytest.mark.limit_objects("app.Session", 0)        objects of a type (a glob) that are left behind

The marks hold with `--heaptape`. Then pytest runs in a recording, in which each test is a span of its name; so does each worker of pytest-xdist, in the same tape. A
mark is judged when the test's body has ended, so a broken limit is a failure like any other, for reruns, `-x` and reports too.
"""

import functools
import gc
import inspect
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time

import pytest

import heaptape

_TAPE = "HEAPTAPE_PYTEST_TAPE"
_MARKS = ("limit_memory", "limit_leaks", "limit_objects")
# The recorder makes the tape readable this often, in seconds; so long has a test with a limit to wait for its verdict.
_FLUSH = 0.05
# A collector that has not written a marker for so many seconds never will.
_PATIENCE = 30.0


def pytest_addoption(parser):
    group = parser.getgroup("heaptape")
    group.addoption("--heaptape", action="store_true", help="record the tests' memory, and hold the limits of their marks")
    group.addoption("--heaptape-tape", metavar="FILE", help="keep the recording, with a span for each test (implies --heaptape)")
    group.addoption(
        "--heaptape-baseline",
        metavar="FILE",
        help="hold each test against a summary of an earlier recording, made by heaptape summarize (implies --heaptape)",
    )
    parser.addini("heaptape_growth", "how much more than in the baseline a test may take and leave behind", default="+10 %")


def pytest_configure(config):
    config.addinivalue_line("markers", "limit_memory(size): the most that may be alive at once of what the test allocates (with --heaptape)")
    config.addinivalue_line("markers", "limit_leaks(size, *, warmup=0): what any one line may leave behind (with --heaptape)")
    config.addinivalue_line("markers", "limit_objects(type, count): how many objects of a type may be left behind (with --heaptape)")
    tape = os.environ.get(_TAPE)
    if tape and heaptape.is_recording():
        config.pluginmanager.register(_Recorded(tape), "heaptape-recorded")


def _is_wanted(options):
    return options.heaptape or options.heaptape_tape or options.heaptape_baseline


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config):
    """Starts pytest again, in a recording, and ends as that does."""
    options = config.option
    is_worker = hasattr(config, "workerinput")
    if not _is_wanted(options) or is_worker or heaptape.is_recording() or options.help or options.version:
        return None
    with tempfile.TemporaryDirectory(prefix="heaptape-") as scratch:
        tape = os.path.abspath(options.heaptape_tape or os.path.join(scratch, "pytest.tape"))
        command = [_program(), "record", "-q", "--flush", str(_FLUSH), "-o", tape, "--", *_own_command(config)]
        status = subprocess.call(command, env={**os.environ, _TAPE: tape})
        if options.heaptape_baseline and os.path.exists(tape):
            verdict = _compare(tape, options.heaptape_baseline, config.getini("heaptape_growth"), scratch)
            status = status or verdict
    return status


def _own_command(config):
    """The command that this process was started with."""
    arguments = list(config.invocation_params.args)
    words = getattr(sys, "orig_argv", [])
    if arguments and words[-len(arguments) :] == arguments or not arguments and len(words) == 2:
        return [sys.executable, *words[1:]]
    return [sys.executable, "-m", "pytest", *arguments]


def _program():
    """The command line beside this interpreter, or the one in the PATH."""
    beside = os.path.join(os.path.dirname(sys.executable), "heaptape")
    found = beside if os.access(beside, os.X_OK) else shutil.which("heaptape")
    if found is None:
        raise pytest.UsageError("--heaptape: expected the program heaptape beside %s or in PATH; found none" % sys.executable)
    return found


def _unrecorded():
    """This environment without the recorder in it."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HEAPTAPE_")}
    preload = environment.pop("LD_PRELOAD", "").replace(":", " ").split()
    others = [library for library in preload if "libheaptape" not in library]
    if others:
        environment["LD_PRELOAD"] = ":".join(others)
    return environment


def _compare(tape, baseline, growth, scratch):
    budget = os.path.join(scratch, "budget.toml")
    with open(budget, "w", encoding="utf-8") as file:
        file.write('[[span]]\nglob = "*"\nwarmup = 0\npeak = %s\nleft = %s\n' % (json.dumps(growth), json.dumps(growth)))
    print("heaptape: the tests against %s" % baseline, flush=True)
    # Another way to start pytest is no other program.
    command = [_program(), "check", tape, "--baseline", baseline, "--budget", budget, "--any-program", "--no-index"]
    return subprocess.call(command, env=_unrecorded())


def _limits(item):
    """The item's limits as lines of a budget, and how often its body runs beforehand."""
    lines, objects, warmup, seen = [], [], 0, set()
    # The nearest comes first: one on a test counts before one on its class or module.
    for mark in item.iter_markers():
        if mark.name not in _MARKS:
            continue
        arguments = dict(mark.kwargs)
        expected = {"limit_memory": ["size"], "limit_leaks": ["size", "warmup"], "limit_objects": ["type", "count"]}[mark.name]
        if len(mark.args) <= len(expected):
            arguments.update(zip(expected, mark.args))
        if len(mark.args) > len(expected) or set(arguments) - set(expected) or set(expected) - {"warmup"} - set(arguments):
            said = ", ".join([*map(repr, mark.args), *("%s=%r" % pair for pair in mark.kwargs.items())])
            raise pytest.UsageError("%s: expected %s(%s), found %s(%s)" % (item.nodeid, mark.name, ", ".join(expected), mark.name, said))
        about = (mark.name, arguments["type"] if mark.name == "limit_objects" else None)
        if about in seen:
            continue
        seen.add(about)
        if mark.name == "limit_memory":
            lines.append("peak = %s" % json.dumps(arguments["size"]))
        elif mark.name == "limit_leaks":
            lines.append("left_per_site = %s" % json.dumps(arguments["size"]))
            warmup = arguments.get("warmup", 0)
        else:
            objects.append("%s = %s" % (json.dumps(arguments["type"]), json.dumps(arguments["count"])))
    if objects:
        lines.append("types = { %s }" % ", ".join(objects))
    return lines, warmup


class _Recorded:
    """Inside of the recording: a span around each test's body, and verdicts."""

    def __init__(self, tape):
        self.tape = tape
        self.times = {}
        self.verdicts = {}

    @pytest.hookimpl(hookwrapper=True)
    def pytest_pyfunc_call(self, pyfuncitem):
        lines, warmup = _limits(pyfuncitem)
        if warmup:
            function = pyfuncitem.obj
            if inspect.iscoroutinefunction(function):
                raise pytest.UsageError("%s: warmup expects a plain function, found a coroutine" % pyfuncitem.nodeid)
            names = pyfuncitem._fixtureinfo.argnames
            for _ in range(warmup):
                function(**{name: pyfuncitem.funcargs[name] for name in names})
        function = pyfuncitem.obj
        if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
            yield from self._span(pyfuncitem, lines)
            return
        name = self._name(pyfuncitem)
        begin, end = name + ":begin", name + ":end"

        # As near to the body as can be: what pytest makes to call it is not the test's.
        @functools.wraps(function)
        def _span(*arguments, **named):
            gc.collect()
            heaptape.mark(begin)
            try:
                return function(*arguments, **named)
            finally:
                gc.collect()
                heaptape.mark(end)

        pyfuncitem.obj = _span
        try:
            outcome = yield
        finally:
            pyfuncitem.obj = function
        if lines and outcome.excinfo is None:
            self.verdicts[pyfuncitem.nodeid] = self._judge(name, lines)

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_call(self, item):
        # Tests of unittest are not called as functions.
        if hasattr(item, "_testcase") or type(item).__name__ == "TestCaseFunction":
            yield from self._span(item, _limits(item)[0])
        else:
            yield

    def _name(self, item):
        """What the span of an item's next run is called."""
        time_run = self.times[item.nodeid] = self.times.get(item.nodeid, 0) + 1
        return item.nodeid if time_run == 1 else "%s#%d" % (item.nodeid, time_run)

    def _span(self, item, lines):
        name = self._name(item)
        gc.collect()
        heaptape.mark(name + ":begin")
        outcome = yield
        gc.collect()
        heaptape.mark(name + ":end")
        if lines and outcome.excinfo is None:
            self.verdicts[item.nodeid] = self._judge(name, lines)

    def _judge(self, name, limits):
        """The broken limits of a span in words, with their sites; `None` if all hold."""
        descriptor, budget = tempfile.mkstemp(suffix=".toml")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write("[[span]]\nname = %s\nwarmup = 0\n%s\n" % (json.dumps(name, ensure_ascii=False), "\n".join(limits)))
            command = [_program(), "check", self.tape, "--budget", budget, "--unfinished", "--no-index"]
            begun = time.monotonic()
            while True:
                # What was marked is in the tape when the recorder has written it out for the next time.
                time.sleep(_FLUSH)
                done = subprocess.run(command, env=_unrecorded(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
                text = done.stdout.decode("utf-8", "replace")
                is_missing = done.returncode == 2 and "no span of this name" in text
                if not is_missing or time.monotonic() - begun > _PATIENCE:
                    break
        finally:
            os.unlink(budget)
        if done.returncode == 0:
            return None
        # How pytest comes to call a test is not what anybody asks.
        is_own = ("site-packages/_pytest/", "site-packages/pluggy/", "pytest_heaptape.py")
        lines = [line for line in text.splitlines() if not (line.startswith("      from ") and any(part in line for part in is_own))]
        text = "\n".join(lines) + "\n" + done.stderr.decode("utf-8", "replace")
        return text.strip("\n") or "heaptape check ended with status %d" % done.returncode

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_makereport(self, item, call):
        outcome = yield
        report = outcome.get_result()
        if call.when != "call":
            return
        verdict = self.verdicts.pop(item.nodeid, None)
        if verdict and report.passed:
            report.outcome = "failed"
            report.longrepr = verdict.splitlines()[0]
            report.sections.append(("heaptape", verdict))

    def pytest_report_header(self):
        return "heaptape: recording"

    def pytest_report_teststatus(self, report):
        if report.when == "call" and report.failed and any(title == "heaptape" for title, _ in report.sections):
            return "failed", "M", "MEMORY"
        return None
