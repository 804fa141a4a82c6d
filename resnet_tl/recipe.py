"""Finding, listing, checking and saving recipes."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resnet_tl.errors import UserError, listed, nearest

GROUPS = ("data", "model", "trainer")  # sections that hold settings of their own
SECTIONS = (*GROUPS, "optimizer", "lr_scheduler", "seed")
MAX_VALUES = 100_000


@dataclass(frozen=True)
class Recipe:
    """A shipped recipe: its name without `.yaml`, its file, and the first line of its header."""

    name: str
    path: Path
    summary: str

    @property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")


def recipes_folder() -> Path:
    """The shipped recipes: inside the installed package, or at the top of a checkout."""
    package = Path(__file__).resolve().parent
    installed = package / "recipes"
    return installed if installed.is_dir() else package.parent / "recipes"


def list_recipes() -> list[Recipe]:
    """Every shipped recipe, sorted by name."""
    return [_read(path) for path in sorted(recipes_folder().rglob("*.yaml"))]


def find_recipe(name: str) -> Path:
    """The file of a recipe given by path or by the name of a shipped one; UserError when there is none."""
    path = Path(name)
    if path.is_file():
        return path
    recipes = list_recipes()
    wanted = name.removesuffix(".yaml").removesuffix(".yml")
    for recipe in recipes:
        if recipe.name == wanted:
            return recipe.path
    names = [recipe.name for recipe in recipes]
    raise UserError(f"There is no recipe '{name}': neither a file nor one of {listed(names)}.{nearest(wanted, names)}")


def load_recipe(path: Path) -> dict[str, Any]:
    """The settings of a recipe file; UserError when it is not YAML or has an unknown section."""
    import yaml

    try:
        text = path.read_text(encoding="utf-8")
        settings = yaml.safe_load(text)
    except UnicodeDecodeError:
        raise UserError(f"{path} is not a YAML file: it is not text.") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from None
    except Exception as error:  # YAML's own, and what its readers of numbers and dates meet: 2026-99-99, !!bool x
        where = getattr(error, "problem_mark", None)
        line = f" (line {where.line + 1})" if where else ""
        problem = getattr(error, "problem", None) or str(error).partition("\n")[0]
        raise UserError(f"{path} is not a YAML file{line}: {problem}.") from None
    if not isinstance(settings, dict):
        raise UserError(f"{path} is not a recipe; it must have sections such as {', '.join(GROUPS)}.")
    for section in settings:
        if section not in SECTIONS:
            raise UserError(
                f"{path}: '{section}' is not a section of a recipe; they are {', '.join(SECTIONS)}."
                f"{nearest(section, SECTIONS)}"
            )
        if section in GROUPS and not isinstance(settings[section], dict):
            raise UserError(f"{path}: {section} is '{settings[section]}'; it must hold settings, one on each line.")
    _check_size(settings, path)
    _refuse_twice(path, yaml.compose(text, Loader=yaml.SafeLoader))
    return settings


def _check_size(settings: dict[str, Any], path: Path) -> None:
    """Refuses what never ends: an alias within what it stands for, or aliases of aliases (the "billion laughs")."""
    waiting, count = [settings], 0
    while waiting:
        value = waiting.pop()
        inner = (
            [*value.keys(), *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else []
        )
        waiting += inner
        count += len(inner)
        if count > MAX_VALUES:
            raise UserError(f"{path} unfolds to more than {MAX_VALUES:,} values; it must be a plain list of settings.")


def _refuse_twice(path: Path, node: Any) -> None:
    """Of two values for one key YAML takes the last without a word."""
    seen = set()
    for key, value in node.value if node.id == "mapping" else []:
        if str(key.value) in seen:
            raise UserError(f"{path} names {key.value} twice (line {key.start_mark.line + 1}); leave one of them out.")
        seen.add(str(key.value))
        _refuse_twice(path, value)


def resolved_text(settings: dict[str, Any], resolved: dict[str, tuple[Any, str]], header: str) -> str:
    """A recipe that reruns to the same result: every setting, and what `auto` became and why, as in `resolved`."""
    import yaml

    settings = deepcopy(settings)
    for key, (value, _) in resolved.items():
        *path, last = key.split(".")
        section = settings
        for part in path:
            section = section[part]
        section[last] = value
    lines = [f"# {line}" for line in header.splitlines()]
    for key, (value, why) in sorted(resolved.items()):
        lines.append(f"# {key} was left to the program, which chose {'null' if value is None else value}: {why}.")
    body = yaml.safe_dump(settings, sort_keys=False, allow_unicode=True, width=120)
    return "\n".join(lines) + "\n" + body


def _read(path: Path) -> Recipe:
    with path.open(encoding="utf-8") as file:
        summary = file.readline().lstrip("# ").strip()
    return Recipe(path.stem, path, summary)
