"""Names of files that a document or a listing gives, checked before they become paths. Loads no JAX.

Links are followed in what the user names: data on another disk, a hub's cache. They are refused in directories that
we make and write ourselves, where nobody else should have put one.
"""

from pathlib import Path

from clinicalbert_jax.errors import UserError


def is_safe(name: object) -> bool:
    """Whether `name` is a relative path that stays below the directory that it is relative to."""
    return (
        isinstance(name, str)
        and name.isprintable()
        and "\\" not in name
        and not {"", ".", ".."} & set(name.split("/"))  # the first part of an absolute path is empty
    )


def check(name: object, source: object) -> str:
    """Return `name`, which `source` gave (a document or a listing); raises `UserError`, without quoting it."""
    if not is_safe(name):
        raise UserError(
            f"{source}: expected names of files in its own directory, found one that is absolute or has '..', '.', a "
            "backslash, a control character or an empty part: do not use what it describes"
        )
    return str(name)


def without_links(directory: Path, name: str) -> Path:
    """`directory / name` in a directory of our own. Raises `UserError` where a link stands on the way below it."""
    path = directory / name
    for part in (path, *path.parents):
        if part == directory:
            break
        if part.is_symlink():
            raise UserError(f"{part} is a link, which this program did not make: remove it")
    return path
