"""Build a diffusers component from the plain dictionary that diffusers itself writes as `config.json`."""

import difflib
import inspect
from collections.abc import Mapping
from typing import Any

from monai.networks import nets
from torch import nn

CLASS_KEY = "_class_name"
MONAI_NETWORKS = {name: c for name, c in vars(nets).items() if isinstance(c, type) and issubclass(c, nn.Module)}
"""Name → class, of all of MONAI's networks."""
FROM_DATA = ("in_channels", "out_channels")


class ConfigError(ValueError):
    """A component's configuration is wrong: names the key, what was found and what was expected."""


def build_component(key: str, config: Mapping[str, Any], classes: Mapping[str, type], **fixed: Any) -> Any:
    """Instantiate the class that `config["_class_name"]` names.

    diffusers ignores keys it does not know; here they are refused, because a misspelt width is a lost week.

    Args:
        key: name of the config section, for messages.
        config: `_class_name` and keyword arguments.
        classes: name → class that may be named.
        fixed: arguments that follow from the data and must not be in the config.

    Raises:
        ConfigError: unknown class, unknown or fixed key, or arguments that the class refuses.
    """
    name = str(config.get(CLASS_KEY))
    if name not in classes:
        raise ConfigError(f"{key}.{CLASS_KEY} is {name}; expected one of {sorted(classes)}")
    arguments = {k: v for k, v in config.items() if not k.startswith("_")}
    known = set(inspect.signature(classes[name]).parameters)
    faults = []
    for argument in arguments:
        if argument in fixed:
            faults.append(f"{key}.{argument} follows from the data ({fixed[argument]}); remove it")
        elif argument not in known:
            near = difflib.get_close_matches(argument, known, 1)
            hint = f"; did you mean {near[0]}?" if near else f"; {name} knows {sorted(known)}"
            faults.append(f"{key}.{argument} is not an argument of {name}{hint}")
    if faults:
        raise ConfigError("\n".join(faults))
    try:
        return classes[name](**arguments, **fixed)
    except (TypeError, ValueError, AssertionError) as error:
        raise ConfigError(f"{key}: {name} refuses its arguments: {error}") from error


def plain_config(component: Any) -> dict[str, Any]:
    """All settings of a component that was built, as `build_component` takes them: defaults too, lists for tuples.

    in_channels and out_channels, which follow from the data, are left out.
    """
    known = inspect.signature(type(component)).parameters
    found = {key: value for key, value in component.config.items() if key in known}
    plain = {key: list(value) if isinstance(value, tuple) else value for key, value in found.items()}
    return {CLASS_KEY: type(component).__name__, **{k: v for k, v in plain.items() if k not in FROM_DATA}}
