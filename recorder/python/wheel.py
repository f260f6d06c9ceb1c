"""Builds the wheel `heaptape`: the module, the pytest plugin, and the programs.

    python3 recorder/python/wheel.py FOLDER_WITH_PROGRAMS OUTPUT_FOLDER

The first is cargo's release folder. Prints the wheel's path. Standard library only; the same input gives the same bytes.
"""

import base64
import hashlib
import os
import re
import sys
import zipfile

HERE = os.path.dirname(os.path.abspath(__file__))
# The recorder needs that C library.
TAG = "py3-none-manylinux_2_34_x86_64"
MODULES = ("heaptape.py", "pytest_heaptape.py")
PROGRAMS = ("heaptape", "heaptape-record")
LIBRARY = "libheaptape_preload.so"


def version():
    with open(os.path.join(HERE, "../../Cargo.toml"), encoding="utf-8") as file:
        return re.search(r'^\[workspace\.package\]\nversion = "([^"]+)"', file.read(), re.M).group(1)


def read(*path):
    with open(os.path.join(*path), "rb") as file:
        return file.read()


def contents(programs, number):
    """Path in the wheel, bytes, mode."""
    data, info = "heaptape-%s.data" % number, "heaptape-%s.dist-info" % number
    for name in MODULES:
        yield name, read(HERE, name), 0o644
    for name in PROGRAMS:
        yield "%s/scripts/%s" % (data, name), read(programs, name), 0o755
    # The launcher looks for its library in ../lib/heaptape.
    yield "%s/data/lib/heaptape/%s" % (data, LIBRARY), read(programs, LIBRARY), 0o755
    yield info + "/entry_points.txt", b"[pytest11]\nheaptape = pytest_heaptape\n", 0o644
    yield info + "/licenses/LICENSE", read(HERE, "../../LICENSE"), 0o644
    metadata = (
        "Metadata-Version: 2.1\nName: heaptape\nVersion: %s\nSummary: Records the heap of a program, and keeps its tests within limits.\n"
        "License: MIT\nRequires-Python: >=3.8\nClassifier: Framework :: Pytest\n" % number
    )
    yield info + "/METADATA", metadata.encode(), 0o644
    wheel = "Wheel-Version: 1.0\nGenerator: heaptape\nRoot-Is-Purelib: false\nTag: %s\n" % TAG
    yield info + "/WHEEL", wheel.encode(), 0o644


def build(programs, output):
    number = version()
    path = os.path.join(output, "heaptape-%s-%s.whl" % (number, TAG))
    os.makedirs(output, exist_ok=True)
    record = []
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:

        def add(name, content, mode):
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.external_attr = (0o100000 | mode) << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            wheel.writestr(entry, content)

        for name, content, mode in contents(programs, number):
            add(name, content, mode)
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
            record.append("%s,sha256=%s,%d\n" % (name, digest, len(content)))
        own = "heaptape-%s.dist-info/RECORD" % number
        add(own, ("".join(record) + own + ",,\n").encode(), 0o644)
    return path


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("expected two folders: python3 wheel.py FOLDER_WITH_PROGRAMS OUTPUT_FOLDER")
    try:
        print(build(*sys.argv[1:]))
    except OSError as error:
        sys.exit("wheel.py: %s" % error)
