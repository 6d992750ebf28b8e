"""What a prompt asks for: label sets, entities and relations, and how they are read from text."""

from cvg.composition.composition import Composition, Entity, Relation, build, compose, template_of
from cvg.composition.labels import Label, LabelSet
from cvg.composition.parser import Parser, parse
from cvg.composition.relations import RelationBatch
from cvg.composition.rewording import contradict, restated

__all__ = [
    "Composition",
    "Entity",
    "Label",
    "LabelSet",
    "Parser",
    "Relation",
    "RelationBatch",
    "build",
    "compose",
    "contradict",
    "parse",
    "restated",
    "template_of",
]
