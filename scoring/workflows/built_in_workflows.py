"""The texts of workflows that come with Leadstream. None is active until somebody publishes it."""

from importlib.resources import files


def built_in_workflows() -> dict[str, str]:
    """The texts by name."""
    folder = files("scoring") / "workflows" / "built_in"
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".toml"))
    return {name.removesuffix(".toml"): (folder / name).read_text(encoding="utf-8") for name in names}
