"""The generators and classifiers that the application offers, loaded with their first use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from threading import RLock

from cvg.classifier import CompositionClassifier
from cvg.common.errors import SettingsError
from cvg.common.sizes import Size
from cvg.composition import LabelSet
from cvg.generators import Generator, Loading, load_generator
from cvg.generators.loading import check_image
from cvg.guidance import rules
from cvg.guidance.config import RULES, GuidanceConfig
from cvg.guidance.sampler import GuidedSampler

CLASSIFIER = "classifier"
"""Beside ``rules``, what can guide."""


@dataclass
class Models:
    """What can be chosen in the page, by name; nothing else can be loaded from it.

    Attributes:
        names: classifiers, each of which brings its generator; ``rules`` for rules alone on ``generator``.
        labels: label set of rules.
        generator: in place of the classifiers' own; what rules alone guide.
        size: of the videos of rules alone; a classifier has its own.
        loading: where and how generators are computed.
        guiding: how guided steps are taken.
        lock: held while a model is loaded or computes. Attention is captured within the generator itself, so that one
            call at a time can run.
    """

    names: Sequence[str]
    labels: LabelSet
    generator: str | None = None
    size: Size | None = None
    loading: Loading = Loading()  # noqa: RUF009  (frozen)
    guiding: GuidanceConfig = GuidanceConfig()  # noqa: RUF009  (frozen)
    lock: RLock = field(default_factory=RLock)
    _classifiers: dict[str, CompositionClassifier] = field(default_factory=dict)
    _generators: dict[str, Generator] = field(default_factory=dict)
    _samplers: dict[tuple[str, str], GuidedSampler] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.names:
            raise SettingsError("classifier []: there is nothing to choose from; give at least one")
        if RULES in self.names:
            rules.require_named(generator=self.generator, size=self.size)

    def ways(self, name: str) -> list[str]:
        """What can guide with a choice: its classifier and rules, or rules alone."""
        self._check(name)
        return [RULES] if name == RULES else [CLASSIFIER, RULES]

    def label_set(self, name: str, way: str) -> LabelSet:
        """The labels that can be asked for."""
        self._check(name, way)
        return self.labels if way == RULES else self.classifier(name).labels

    def classifier(self, name: str) -> CompositionClassifier:
        """The classifier of a choice that has one."""
        if name not in self._classifiers:  # with the lock alone, prompts would not be read while a video is made
            with self.lock:
                if name not in self._classifiers:
                    self._classifiers[name] = CompositionClassifier.from_pretrained(name)
        return self._classifiers[name]

    def sampler(self, name: str, way: str) -> GuidedSampler:
        """The generator of a choice, and what guides it.

        Raises:
            UserError: a name or a way that is not offered, or a model that cannot be loaded.
        """
        self._check(name, way)
        with self.lock:
            if (name, way) not in self._samplers:
                self._samplers[name, way] = self._made(name, way)
            return self._samplers[name, way]

    def _made(self, name: str, way: str) -> GuidedSampler:
        if way == CLASSIFIER:
            trained = self.classifier(name)
            generator = self._loaded(self.generator or trained.config.generator["name"])
            return GuidedSampler(generator, trained, self.guiding)
        if name == RULES:
            assert self.generator is not None and self.size is not None
            generator, size = self._loaded(self.generator), self.size
        else:
            beside = self.sampler(name, CLASSIFIER)
            generator, size = beside.generator, beside.size
        reader = rules.Rules.of(generator, self.labels, size, self.guiding.layers, self.guiding.heads)
        return GuidedSampler(generator, reader, self.guiding)

    def _loaded(self, name: str) -> Generator:
        if name not in self._generators:
            check_image(name, given=False)
            self._generators[name] = load_generator(name, self.loading)
        return self._generators[name]

    def _check(self, name: str, way: str | None = None) -> None:
        """Refuse what is not offered: a request may name anything."""
        if name not in self.names:
            raise SettingsError(f"model {name!r}: not offered here; choose one of {', '.join(self.names)}")
        if way is not None and way not in self.ways(name):
            raise SettingsError(
                f"guided by {way!r}: not offered with {name}; choose one of {', '.join(self.ways(name))}"
            )
