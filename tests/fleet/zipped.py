"""Keeps what Python compiles out of zip archives, on a host where it is `sitecustomize`.

Ansible carries each of its modules to the host with fifty others, as sources in an archive, and Python keeps nothing of
an archive: a third of the quarter of a second of a core that each task takes was spent on compiling the same again.
"""

import _imp
import marshal
import os
import zipimport

FOLDER = "/var/cache/zipped"
_compile = zipimport._compile_source  # type: ignore[attr-defined]


def _compiled(path: str, source: bytes) -> object:
    file = f"{FOLDER}/{_imp.source_hash(0, source).hex()}"
    try:
        with open(file, "rb") as known:  # noqa: PTH123 - no other module is loaded: each Python begins with this one
            return marshal.loads(known.read())
    except OSError:
        code = _compile(path, source)
    if os.geteuid() == 0:  # nobody else may say what root runs
        os.makedirs(FOLDER, exist_ok=True)  # noqa: PTH103
        with open(f"{file}.{os.getpid()}", "wb") as new:  # noqa: PTH123
            new.write(marshal.dumps(code))
        os.replace(new.name, file)  # noqa: PTH105
    return code


zipimport._compile_source = _compiled  # type: ignore[attr-defined]
