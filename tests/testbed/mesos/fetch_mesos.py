"""Downloads mesos.scheduler 1.11.0 and checks its SHA-256.   usage: fetch_mesos.py TARGET

The archive holds libmesos.so whole, but in a form that pip itself cannot install. It is therefore fetched with the package
index client pypi-simple, from the index (and with the certificate bundle) that pip is configured with.
"""

import hashlib
import os
import subprocess
import sys

from pip._internal.models.index import PyPI
from pypi_simple import PyPISimple

PROJECT = "mesos.scheduler"
ARCHIVE = "mesos.scheduler-1.11.0.linux-x86_64.tar.gz"
SHA256 = "1d376f20bca6d05ee8b90c1c123a452b28753497ccc2f1c80ea3ac94c12e8f6e"


def pip_setting(name):
    """A setting of pip, from PIP_<NAME> in the environment or pip's configuration files; None if it is not set."""
    value = os.environ.get("PIP_" + name.upper().replace("-", "_"))
    if value:
        return value
    command = [sys.executable, "-m", "pip", "config", "get", "global." + name]
    return subprocess.run(command, capture_output=True, text=True).stdout.strip() or None


def download(target):
    certificates = pip_setting("cert")
    if certificates:
        os.environ.setdefault("REQUESTS_CA_BUNDLE", certificates)
    with PyPISimple(pip_setting("index-url") or PyPI.simple_url) as index:
        packages = index.get_project_page(PROJECT).packages
        package = next((p for p in packages if p.filename == ARCHIVE), None)
        if package is None:
            sys.exit(f"the package index has no {ARCHIVE}")
        index.download_package(package, target)


def sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def main():
    target = sys.argv[1]
    download(target)
    found = sha256(target)
    if found != SHA256:
        sys.exit(f"{ARCHIVE}: SHA-256 is {found}, expected {SHA256}")


main()
