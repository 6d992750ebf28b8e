"""The rules by which tracks show a label: geometry by name, each with a margin, a dead zone and "cannot tell".

A rule's score is signed and in margins: from 1 on its label holds, from -1 down it is clearly not so, between lies the
dead zone; NaN where the tracks cannot tell. Of a group's labels the one whose rule holds is what a video shows. Motion
is that of the entities: the camera's is taken off. Places are those within the frame.
"""

from cvg.judging.rules.actions import ACTIONS
from cvg.judging.rules.interactions import INTERACTIONS
from cvg.judging.rules.looks import COLOURS, LOOKS
from cvg.judging.rules.motions import MOTIONS
from cvg.judging.rules.paths import PATHS
from cvg.judging.rules.places import PLACES
from cvg.judging.rules.view import Rule, View

RULES: dict[str, Rule] = {**MOTIONS, **PATHS, **PLACES, **ACTIONS, **INTERACTIONS, **LOOKS}
"""Every rule by its name."""

__all__ = ["COLOURS", "RULES", "Rule", "View"]
