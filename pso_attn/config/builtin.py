"""Where the spaces that come with the package lie: in the checkout, or inside the wheel."""

from pathlib import Path

from pso_attn.errors import ConfigurationError, nearest

_PACKAGE = Path(__file__).resolve().parent.parent


def builtin_spaces() -> dict[str, Path]:
    """Return the built-in spaces by name.

    A wheel carries them as `pso_attn/search_spaces`; a checkout has them beside the package.
    """
    inside, beside = _PACKAGE / "search_spaces", _PACKAGE.parent / "search_spaces"
    folder = inside if inside.is_dir() else beside
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def find_space(space: str) -> Path:
    """Return the file of a built-in name or of a path.

    Raises ConfigurationError when there is no such file. Anything with a folder or the suffix
    `.toml` is a path; any other word is a built-in name.
    """
    if not space:
        raise ConfigurationError("SPACE is empty; give a space file or a name")
    try:
        path = Path(space).expanduser()
        is_folder, is_file = path.is_dir(), path.is_file()
    except (OSError, RuntimeError) as error:  # too long, not to be looked into, or ~ of nobody
        raise ConfigurationError(f"{space} cannot be looked at: {error}") from error
    if path.suffix == ".toml" or len(path.parts) != 1 or path.is_absolute():
        if is_folder:
            raise ConfigurationError(f"{space} is a folder; give a space file (*.toml)")
        if not is_file:
            raise ConfigurationError(f"{space} does not exist; give a space file or a name")
        return path
    builtin = builtin_spaces()
    if space not in builtin:
        from pso_attn.tasks import TASKS  # loads torch, which a right name does without

        if space in TASKS:
            raise ConfigurationError(
                f'"{space}" is a task, and there is no built-in space of that name; give a space '
                f'file that says task = "{space}"'
            )
        raise ConfigurationError(f'"{space}" is not a built-in space{nearest(space, builtin)}')
    return builtin[space]
