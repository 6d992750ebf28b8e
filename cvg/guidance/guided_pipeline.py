"""A diffusers pipeline that is called as ever, and guided.

guided = cvg.guide(pipeline, "shapes-classifier")
video = guided(prompt="a red circle to the left of a blue square", num_frames=13, height=64, width=64).frames
print(guided.report)
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from cvg.classifier import CompositionClassifier
from cvg.common.errors import SettingsError
from cvg.common.sizes import Size
from cvg.composition import Composition, LabelSet, Parser, parse
from cvg.generators import Conditioning, Generator, wrap_pipeline
from cvg.generators.steps import after_callback
from cvg.generators.unchanged import unchanged
from cvg.guidance.asked import ByHand, Reader
from cvg.guidance.call_report import Report
from cvg.guidance.cautions import cautions
from cvg.guidance.config import GuidanceConfig
from cvg.guidance.guided_steps import GuidedSteps
from cvg.guidance.rules import Rules, load_classifier
from cvg.guidance.sampler import GuidedSampler
from cvg.guidance.stated import stated_part, unstated
from cvg.guidance.terms.base import Term

SETTINGS = tuple(setting.name for setting in fields(GuidanceConfig))


class GuidedPipeline:
    """A pipeline of diffusers, guided; made by :func:`guide`.

    It is called with the pipeline's own arguments and returns the pipeline's own output. All other attributes are the
    pipeline's, to be read and to be set; the pipeline itself is left as it was after every call.

    Attributes:
        pipeline: the pipeline.
        report: what guidance did in the last call.
    """

    pipeline: Any
    report: Report

    def __init__(
        self,
        generator: Generator,
        classifier: CompositionClassifier | Rules | None,
        labels: LabelSet,
        config: GuidanceConfig,
        parser: Parser,
        terms: Sequence[Term],
    ) -> None:
        own = {"pipeline": generator.pipeline, "report": Report(), "_generator": generator, "_classifier": classifier}
        vars(self).update(own | {"_reader": Reader(generator, labels, parser), "_config": config, "_terms": terms})

    def __getattr__(self, name: str) -> Any:
        if "pipeline" not in vars(self):  # as while it is copied
            raise AttributeError(name)
        return getattr(self.pipeline, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in vars(self):
            vars(self)[name] = value
        else:
            setattr(self.pipeline, name, value)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *dir(self.pipeline)})

    def to(self, *args: Any, **options: Any) -> GuidedPipeline:
        """The pipeline's own; it returns this."""
        self.pipeline.to(*args, **options)
        return self

    def __call__(
        self,
        *args: Any,
        entities: ByHand = None,
        labels: str | ByHand = None,
        compositions: Sequence[Composition] | None = None,
        **options: Any,
    ) -> Any:
        """Call the pipeline, guided.

        Args:
            args: the pipeline's own arguments.
            entities: the entity phrases of a prompt that cannot be read: for each relation in turn its subject and
                object. For several prompts a list for each, or None for those that are to be read.
            labels: the label of each relation by hand, alike.
            compositions: what each prompt asks for, in place of both; needed with prompt embeddings, of which they
                tell the text: ``[cvg.parse(text, classifier.labels)]``.
            options: the pipeline's own arguments by name; and settings of :class:`GuidanceConfig`, for this call
                alone. ``guided_steps=0`` turns guidance off: the plain call, of any prompt.

        Returns:
            what the pipeline returns; ``report`` tells what guidance did.

        Raises:
            UserError: a prompt that cannot be read, settings that do not fit, or numbers that are not finite. Whatever
                the pipeline itself refuses, it refuses with its own errors.
        """
        self.report = Report()
        signature = inspect.signature(self.pipeline.__call__)
        mine = {name: options.pop(name) for name in SETTINGS if name in options and name not in signature.parameters}
        config = replace(self._config, **mine)
        given: dict[str, Any] | None = None
        with suppress(TypeError):  # the pipeline's own to raise
            bound = signature.bind(*args, **options)
            given = dict(zip(signature.parameters, args, strict=False)) | options
            bound.apply_defaults()
        if given is None or config.guided_steps == 0:
            return self.pipeline(*args, **options)
        with unchanged(self.pipeline), self._generator.called_with(bound.arguments):
            asked = self._reader(bound.arguments, entities, labels, compositions)
            if asked is None:
                return self.pipeline(*args, **options)
            return self._guided(given, bound.arguments, [self._followed(each) for each in asked], config)

    def _followed(self, composition: Composition) -> Composition:
        """What of a composition can be guided: all of it by a classifier, by rules what they state."""
        self.report.warnings += [f"left out: {reason}" for reason in composition.left_out]
        if isinstance(self._classifier, CompositionClassifier):
            return composition
        part, unknown = stated_part(composition, self._reader.labels)
        if part is None:
            raise unstated(self._reader.labels, unknown[0])
        self.report.warnings += [f"left out: {label!r}: no rule on attention maps states it" for label in unknown]
        return part

    def _guided(
        self, given: Mapping[str, Any], call: Mapping[str, Any], asked: list[Composition], config: GuidanceConfig
    ) -> Any:
        """The pipeline's call, guided.

        Args:
            given: its arguments, as they were given.
            call: the same with what was left out.
            asked: what each prompt asks for.
            config: how guided steps are taken.
        """
        generator = self._generator
        stated = next(iter(generator.own_steps.values()), None)
        steps = call["num_inference_steps"] if stated is None else len(stated)
        size = generator.size_asked(call)
        sampler = None
        if self._classifier is not None or size is not None:
            sampler = self._sampler(config, size)
            if size is not None and stated is None:
                sampler.guided_steps(steps, size, sampler.levels(asked))
        conditioning = generator.encode(asked, generator.given_states(call))
        begun: list[GuidedSteps] = []

        def before_step(step: int, z: Tensor) -> Tensor:
            if not begun:
                begun.append(self._begun(sampler, config, call, asked, steps, conditioning, z))
            [guiding] = begun
            z = guiding(step, z)
            if step == max(guiding.guided_steps):
                guiding.conclude()  # now, while an offloaded network is still there
            return z

        with generator.edited(before_step, steps) as changed:
            made = self.pipeline(**{**given, **_joined(call, changed)})
        if begun:
            self.report.tell(begun[0].probabilities, begun[0].moved, self._reader.labels)
        return made

    def _sampler(self, config: GuidanceConfig, size: Size | None) -> GuidedSampler:
        """What guides with these settings; rules, where they are to be made, for videos of a size."""
        classifier = self._classifier
        if classifier is None:
            assert size is not None
            classifier = Rules.of(self._generator, self._reader.labels, size)
        return GuidedSampler(self._generator, classifier, config, self._reader.parser, self._terms)

    def _begun(
        self,
        sampler: GuidedSampler | None,
        config: GuidanceConfig,
        call: Mapping[str, Any],
        asked: list[Composition],
        steps: int,
        conditioning: Conditioning,
        z: Tensor,
    ) -> GuidedSteps:
        """What guides the videos of a call, now that its first latents are there; what is doubtful is told."""
        generator = self._generator
        size = generator.pixel_size(generator.token_grid(z))
        sampler = sampler or self._sampler(config, size)
        report = self.report
        rows = [prompt for prompt in range(len(asked)) for _ in range(len(z) // len(asked))]  # videos of each prompt
        videos, conditioning = [asked[row] for row in rows], conditioning.rows(rows)
        report.compositions = videos
        scale = call.get("guidance_scale")
        report.warnings += cautions(sampler, videos, bool(sampler.config.rules), steps, size, scale)
        report.warnings += [
            f"{name} {call[name]}: what guides reads the network with {value}, as generators are recorded; give that"
            for name, value in generator.read_otherwise(call).items()
        ]
        return sampler.guiding(videos, steps, size, conditioning)


def guide(
    pipeline: Any,
    classifier: str | Path | CompositionClassifier | Rules,
    *,
    label_set: str | LabelSet | None = None,
    parser: Parser = parse,
    terms: Sequence[Term] = (),
    **settings: Any,
) -> GuidedPipeline:
    """A diffusers pipeline that is called as ever, and guided.

    Args:
        pipeline: of a supported family, loaded as usual; or its adapter.
        classifier: exported classifier folder, hub id, or shipped name; one that is loaded; or "rules", which need no
            training and guide any generator.
        label_set: of the rules: a YAML file, or a shipped one; ``world`` when None. A classifier has its own.
        parser: reads the prompts.
        terms: further terms of the loss that guided steps follow.
        settings: of :class:`GuidanceConfig`; calls can state others.

    Raises:
        ModelError: the pipeline's class has no adapter, or the classifier was trained on another generator.
        SettingsError: a setting that is unknown or out of its range, or a label set beside a classifier.
    """
    config = GuidanceConfig(**settings)
    model = load_classifier(str(classifier), None) if isinstance(classifier, str | Path) else classifier
    if model is None:
        labels = label_set if isinstance(label_set, LabelSet) else LabelSet.load(label_set or "world")
    elif label_set is not None:
        raise SettingsError("label_set: a classifier has one of its own; leave it out, or guide with rules")
    else:
        labels = model.labels
    with unchanged(pipeline.pipeline if isinstance(pipeline, Generator) else pipeline):
        generator = pipeline if isinstance(pipeline, Generator) else wrap_pipeline(pipeline)
        if model is not None:
            GuidedSampler(generator, model, config)  # refuses another generator's
    return GuidedPipeline(generator, model, labels, config, parser, terms)


def _joined(call: Mapping[str, Any], changed: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that edits between steps need, with which the user's own step callback is called as ever."""
    if "callback_on_step_end" not in changed:
        return dict(changed)
    callback: Callable[..., Any] | None = call["callback_on_step_end"]
    inputs: Sequence[str] = getattr(callback, "tensor_inputs", call["callback_on_step_end_tensor_inputs"])
    both = after_callback(callback, inputs, changed["callback_on_step_end"])
    return {"callback_on_step_end": both, "callback_on_step_end_tensor_inputs": [*dict.fromkeys([*inputs, "latents"])]}
