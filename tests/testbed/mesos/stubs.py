"""Makes empty stand-ins for old libraries that libmesos.so is linked with and today's systems lack.   usage: stubs.py LIBMESOS OUTPUT_DIR

OpenSSL 1.0, libcurl with its old symbol version, and Python 2's C API. The testbed uses no TLS, no curl fetcher and no Python
binding, so their functions are never called; they must only resolve. The symbols are read from libmesos.so itself.
"""

import collections
import pathlib
import subprocess
import sys


def undefined_symbols(library):
    """Yields (name, version or None, type) of each symbol that the library expects from others."""
    listing = subprocess.run(["readelf", "--dyn-syms", "-W", library], capture_output=True, text=True, check=True).stdout
    for line in listing.splitlines():
        columns = line.split()
        if len(columns) < 8 or columns[6] != "UND":
            continue
        name, _, version = columns[7].partition("@")
        yield name, version.lstrip("@") or None, columns[3]


def definition(name, is_data):
    return f"char {name}[256];" if is_data else f"long {name}(void) {{ return 0; }}"


def build(directory, soname, symbols, version_script=None):
    source = directory / (soname + ".c")
    source.write_text("\n".join(definition(name, is_data) for name, is_data in sorted(symbols)))
    command = ["cc", "-w", "-fno-builtin", "-shared", "-fPIC", "-o", directory / soname, source, "-Wl,-soname," + soname]
    if version_script:
        script = directory / (soname + ".map")
        script.write_text(version_script)
        command.append(f"-Wl,--version-script={script}")
    subprocess.check_call(command)
    source.unlink()
    if version_script:
        script.unlink()


def build_versioned(directory, soname, versions):
    """versions: {version name: {(symbol, is_data)}}."""
    symbols = set().union(*versions.values())
    script = "\n".join(
        f"{version} {{ global: {' '.join(name + ';' for name, _ in sorted(members))} }};" for version, members in sorted(versions.items())
    )
    build(directory, soname, symbols, script)


def main():
    library, directory = sys.argv[1], pathlib.Path(sys.argv[2])
    versions, python = collections.defaultdict(set), set()
    for name, version, kind in undefined_symbols(library):
        if version:
            versions[version].add((name, kind == "OBJECT"))
        elif name.startswith(("Py", "_Py")):
            # Untyped, but data all the same: its address is taken.
            python.add((name, kind == "OBJECT" or name.startswith("_Py_None")))
    openssl = {version: names for version, names in versions.items() if version.startswith("OPENSSL")}
    curl = {version: names for version, names in versions.items() if version.startswith("CURL")}
    build_versioned(directory, "libcrypto.so.1.0.0", openssl)
    build_versioned(directory, "libssl.so.1.0.0", openssl)
    build_versioned(directory, "libcurl.so.4", curl)
    build(directory, "libpystub.so", python)


main()
