"""Labels for tests of whatever is not about an embedded world: wordings alone, as files of before hold them."""

from pathlib import Path

import yaml

from cvg.composition import LabelSet

LABELS = LabelSet.stored(
    {
        "motion": {
            "entities": 1,
            "labels": {
                "left": ["moving left", "moving to the left", "drifting left", "sliding to the left"],
                "right": ["moving right", "moving to the right", "drifting right", "sliding to the right"],
                "up": ["moving up", "moving upwards", "drifting up", "sliding upwards"],
                "down": ["moving down", "moving downwards", "drifting down", "sliding downwards"],
            },
        },
        "spatial": {
            "entities": 2,
            "labels": {
                "left of": ["to the left of", "left of", "on the left side of"],
                "right of": ["to the right of", "right of", "on the right side of"],
                "above": ["above", "over", "higher than"],
                "below": ["below", "under", "lower than"],
            },
        },
        "relative_motion": {
            "entities": 2,
            "labels": {
                "towards": ["moving towards", "approaching", "coming closer to"],
                "away from": ["moving away from", "leaving", "retreating from"],
            },
        },
    }
)


def written(folder: Path) -> str:
    """The same as a file, for commands."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "labels.yaml"
    path.write_text(yaml.safe_dump(LABELS.to_dict(), sort_keys=False))
    return str(path)
