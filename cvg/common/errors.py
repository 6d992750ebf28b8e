"""The exceptions that a user is meant to see: of one base, in the few kinds that a caller may want to tell apart."""

import math


class UserError(Exception):
    """Bad input. The message names the input, the reason and the remedy; commands print it and exit with code 2."""


class PromptError(UserError):
    """A prompt, its entities or its labels cannot be understood."""


class NothingToGuide(PromptError):
    """A prompt states nothing that the label set knows; it can still be sampled, without guidance."""


class SettingsError(UserError):
    """An option is out of its range, or does not go together with others."""


class ModelError(UserError):
    """A generator, classifier or backbone cannot be loaded, or does not fit what it is used with."""


class DifferenceError(ModelError):
    """A generator is loaded otherwise than it was in a classifier's training, where that is not to be."""


class DataError(UserError):
    """A file or folder cannot be read or written, or does not hold what it should: manifests, shards, checkpoints."""


class EndedEarly(UserError):
    """Another process, without which this one cannot go on, ended."""


def require(least: int, **options: int | None) -> None:
    """Check that options are no smaller than they can be.

    Args:
        least: what each of them must be at least.
        options: values by name; one that is None was left out.

    Raises:
        SettingsError: naming the first that is smaller.
    """
    for name, value in options.items():
        if value is not None and value < least:
            raise SettingsError(f"{name} {value}: give at least {least}")


def check_guidance_scale(scale: float | None) -> None:
    """Raise SettingsError for a scale of classifier-free guidance that is no number of at least 0; None is left out."""
    if scale is not None and not (math.isfinite(scale) and scale >= 0):
        raise SettingsError(f"guidance_scale {scale}: give a number of at least 0")
