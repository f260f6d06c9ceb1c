"""Runs the shell steps of the templates in docs/ci, as GitHub's and GitLab's runners would, and holds what they write against its schemas. Called by `.ci/templates`."""

import functools
import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import threading

import jsonschema
import xmlschema
import yaml

GOOD = """#include <stdlib.h>
char *volatile kept;
static void work(void)
{
    for (int i = 0; i < 50; i++) {
        kept = malloc(200);
        free(kept);
    }
}
int main(void)
{
    work();
    return 0;
}
"""
LEAK = GOOD.replace("        free(kept);\n", "        if (i % 5)\n            free(kept);\n")
LINE = 6

# What GitLab requires of each issue, and what its documentation allows as severity.
GITLAB = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["description", "check_name", "fingerprint", "severity", "location"],
        "properties": {
            "description": {"type": "string", "minLength": 1},
            "check_name": {"type": "string", "minLength": 1},
            "fingerprint": {"type": "string", "minLength": 1},
            "severity": {"enum": ["info", "minor", "major", "critical", "blocker"]},
            "location": {
                "type": "object",
                "required": ["path", "lines"],
                "properties": {
                    # Relative to the repository.
                    "path": {"type": "string", "pattern": r"^(?!\./|/)"},
                    "lines": {"type": "object", "required": ["begin"], "properties": {"begin": {"type": "integer", "minimum": 1}}},
                },
            },
        },
    },
}


def expect(condition, text):
    if not condition:
        sys.exit("templates: " + text)


def build(folder, source):
    path = os.path.join(folder, "app.c")
    with open(path, "w", encoding="utf-8") as file:
        file.write(source)
    subprocess.run(["cc", "-g", "-o", "app", path], cwd=folder, check=True)


def shell(script, folder, environment, shell=("bash", "-e", "-o", "pipefail", "-c")):
    done = subprocess.run([*shell, script], cwd=folder, env={**os.environ, **environment}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
    return done.returncode, done.stdout.decode("utf-8", "replace")


def filled(text, context):
    """A text with the values of its `${{ }}`; one that is not known is an error."""
    return re.sub(r"\$\{\{ *([^}]*?) *\}\}", lambda match: context[match.group(1)], str(text))


class Schemas:
    def __init__(self, folder):
        with open(os.path.join(folder, "sarif.json"), encoding="utf-8") as file:
            self.sarif = json.load(file)
        self.junit = xmlschema.XMLSchema(os.path.join(folder, "junit.xsd"))

    def check(self, path, form):
        if form == "junit":
            self.junit.validate(path)
            return
        with open(path, encoding="utf-8") as file:
            found = json.load(file)
        if form == "sarif":
            jsonschema.Draft7Validator(self.sarif, format_checker=jsonschema.FormatChecker()).validate(found)
        else:
            jsonschema.validate(found, GITLAB)
            prints = [issue["fingerprint"] for issue in found]
            expect(len(prints) == len(set(prints)), "%s: expected fingerprints that differ, found %s" % (path, prints))


def github(action, folder, artifacts, branch, inputs):
    """Runs the action's steps; `artifacts` is what earlier runs uploaded. Returns the status, the job's summary and the output."""
    context = {
        "github.event.repository.default_branch": "main",
        "github.workflow": "tests",
        "github.repository": "team/app",
        "github.server_url": "https://github.example",
        "github.run_id": "7",
        "github.token": "none",
    }
    for name, value in action["inputs"].items():
        context["inputs." + name] = inputs.get(name, filled(value.get("default", ""), context))
    tools = os.path.join(folder, "tools")
    os.makedirs(tools, exist_ok=True)
    with open(os.path.join(tools, "gh"), "w", encoding="utf-8") as file:
        # Run 5 has no such artifact.
        file.write(
            '#!/bin/sh\ncase "$1 $2" in\n"run list") printf "5\\n4\\n" ;;\n'
            '"run download") [ "$3" = 4 ] && [ -d "%s/$5" ] && mkdir -p "$7" && cp -r "%s/$5/." "$7" ;;\n*) exit 9 ;;\nesac\n' % (artifacts, artifacts)
        )
    os.chmod(os.path.join(tools, "gh"), 0o755)
    files = {name: os.path.join(folder, name) for name in ("GITHUB_STEP_SUMMARY", "GITHUB_OUTPUT")}
    for path in files.values():
        open(path, "w", encoding="utf-8").close()
    printed = ""
    for step in action["runs"]["steps"]:
        if "if" in step:
            expect(step["if"] == "github.ref_name == inputs.branch && steps.check.outputs.status == '0'", "a condition that is not known here: " + step["if"])
            if branch != context["inputs.branch"] or context["steps.check.outputs.status"] != "0":
                continue
        if step.get("uses", "").startswith("actions/upload-artifact@"):
            name, path = filled(step["with"]["name"], context), os.path.join(folder, filled(step["with"]["path"], context))
            place = os.path.join(artifacts, name)
            shutil.rmtree(place, ignore_errors=True)
            if os.path.isdir(path):
                shutil.copytree(path, place)
            else:
                os.makedirs(place)
                shutil.copy(path, place)
            continue
        environment = {name: filled(value, context) for name, value in step.get("env", {}).items()}
        environment.update(files, GITHUB_WORKSPACE=folder, PATH=tools + os.pathsep + os.environ["PATH"])
        status, text = shell(step["run"], folder, environment)
        printed += text
        with open(files["GITHUB_OUTPUT"], encoding="utf-8") as file:
            for line in file:
                name, value = line.rstrip("\n").split("=", 1)
                context["steps.%s.outputs.%s" % (step.get("id", ""), name)] = value
        if status:
            break
    with open(files["GITHUB_STEP_SUMMARY"], encoding="utf-8") as file:
        return status, file.read(), printed


def try_github(work, schemas):
    with open("docs/ci/action.yml", encoding="utf-8") as file:
        action = yaml.safe_load(file)
    folder, artifacts = os.path.join(work, "github"), os.path.join(work, "artifacts")
    os.makedirs(folder)
    os.makedirs(artifacts)
    inputs = {"program": "./app 'two words'", "runs": "2"}
    build(folder, GOOD)
    status, summary, text = github(action, folder, artifacts, "main", inputs)
    expect(status == 0 and "nothing was judged" in summary, "a first run: status %d\n%s%s" % (status, text, summary))
    expect(os.path.exists(artifacts + "/heap-baseline/heap.json"), "a first run keeps no baseline")
    kept = open(artifacts + "/heap-baseline/heap.json", "rb").read()
    shutil.rmtree(folder + "/heaptape")
    status, summary, text = github(action, folder, artifacts, "change", inputs)
    expect(status == 0 and "✅" in summary, "nothing changed: status %d\n%s%s" % (status, text, summary))
    build(folder, LEAK)
    shutil.rmtree(folder + "/heaptape")
    status, summary, text = github(action, folder, artifacts, "main", inputs)
    expect(status == 1, "a leak: expected status 1, found %d\n%s" % (status, text))
    expect("app.c:%d work: 1.95 KiB" % LINE in summary or "app.c:%d work: 2000 B" % LINE in summary, "the guilty line is not in the summary:\n" + summary)
    expect("[differential flame graph](https://github.example/team/app/actions/runs/7#artifacts)" in summary, "no link to the flame graph:\n" + summary)
    expect(open(artifacts + "/heap-baseline/heap.json", "rb").read() == kept, "a run that is worse becomes the baseline")
    kept = os.listdir(artifacts + "/heap")
    expect({"run.1.tape", "run.2.tape", "diff.svg", "verdict.md", "heap.json", "heap.sarif"} <= set(kept), "artifacts: " + ", ".join(kept))
    schemas.check(artifacts + "/heap/heap.sarif", "sarif")
    status, summary, text = github(action, folder, artifacts, "main", {**inputs, "budget": "missing.toml"})
    expect(status == 2, "a budget that is not there: expected status 2, found %d\n%s" % (status, text))
    print("docs/ci/action.yml: first run, no change, a leak, a missing budget")


def try_gitlab(work, schemas):
    with open("docs/ci/gitlab.yml", encoding="utf-8") as file:
        job = yaml.safe_load(file)[".heaptape"]
    folder, served = os.path.join(work, "gitlab"), os.path.join(work, "served")
    place = os.path.join(served, "api/projects/3/jobs/artifacts/main/raw/heap")
    os.makedirs(folder)
    os.makedirs(place)

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=served))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    variables = {
        "CI_DEFAULT_BRANCH": "main",
        "CI_JOB_TOKEN": "none",
        "CI_API_V4_URL": "http://127.0.0.1:%d/api" % server.server_port,
        "CI_PROJECT_ID": "3",
        "CI_JOB_NAME": "heap",
        "CI_PROJECT_DIR": folder,
    }

    def run(**own):
        shutil.rmtree(folder + "/heap", ignore_errors=True)
        chosen = {**job["variables"], "HEAP_PROGRAM": "./app 'two words'", **own}
        chosen = {name: re.sub(r"\$(\w+)", lambda match: variables[match.group(1)], value) for name, value in chosen.items()}
        # All lines of a job run in one shell.
        return shell("\n".join(job["script"]), folder, {**variables, **chosen}, ("sh", "-e", "-c"))

    build(folder, GOOD)
    status, text = run()
    expect(status == 0 and "nothing is judged" in text, "a first run: status %d\n%s" % (status, text))
    shutil.copy(folder + "/heap/heap.json", place)
    status, text = run()
    expect(status == 0 and "limit(s) hold" in text, "nothing changed: status %d\n%s" % (status, text))
    schemas.check(folder + "/heap/junit.xml", "junit")
    schemas.check(folder + "/heap/quality.json", "gitlab")
    build(folder, LEAK)
    status, text = run()
    expect(status == 1 and "app.c:%d work" % LINE in text, "a leak: status %d\n%s" % (status, text))
    for name, form in (("junit.xml", "junit"), ("quality.json", "gitlab")):
        schemas.check(folder + "/heap/" + name, form)
    with open(folder + "/heap/quality.json", encoding="utf-8") as file:
        place = json.load(file)[0]["location"]
    expect(place == {"path": "app.c", "lines": {"begin": LINE}}, "the report leads to %s" % place)
    with open(folder + "/limits.toml", "w", encoding="utf-8") as file:
        file.write('[[span]]\nname = "<&>"\nleft = 0\n')
    status, text = run(HEAP_BUDGET="limits.toml")
    expect(status == 2 and "no span of this name" in text, "a span that is not there: status %d\n%s" % (status, text))
    for name, form in (("junit.xml", "junit"), ("quality.json", "gitlab")):
        schemas.check(folder + "/heap/" + name, form)
    subprocess.run(["heaptape", "check", folder + "/heap/run.1.tape", "--budget", folder + "/limits.toml", "--format", "sarif", "-o", folder + "/heap/heap.sarif"])
    schemas.check(folder + "/heap/heap.sarif", "sarif")
    server.shutdown()
    print("docs/ci/gitlab.yml: first run, no change, a leak, a limit that cannot be judged; JUnit, SARIF and code quality by their schemas")


schemas = Schemas(os.path.join(sys.argv[1], "schemas"))
try_github(sys.argv[1], schemas)
try_gitlab(sys.argv[1], schemas)
