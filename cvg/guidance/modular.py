"""Guidance as a block of diffusers' modular pipelines.

blocks = WanBlocks()
guidance = CompositionGuidanceBlock("my-classifier")
blocks.sub_blocks["denoise"].sub_blocks["denoise"].sub_blocks.insert("guidance", guidance, 0)
pipeline = blocks.init_pipeline("Wan-AI/Wan2.1-T2V-1.3B-Diffusers")
"""

from __future__ import annotations

import copy
import inspect
import re
import weakref
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import diffusers
import torch
from diffusers.modular_pipelines import InputParam, ModularPipelineBlocks, OutputParam
from torch import Tensor

from cvg.classifier import CompositionClassifier
from cvg.common.errors import ModelError, SettingsError, UserError
from cvg.common.sizes import Size
from cvg.composition import LabelSet, Parser, parse
from cvg.generators import Generator, wrap_pipeline
from cvg.generators.registry import ADAPTERS
from cvg.generators.unchanged import unchanged
from cvg.guidance.call_report import Report
from cvg.guidance.config import RULES, GuidanceConfig
from cvg.guidance.guided_pipeline import GuidedPipeline
from cvg.guidance.guided_steps import GuidedSteps
from cvg.guidance.rules import Rules, load_classifier

_OURS: Final = {
    "entities": "entity phrases of a prompt that cannot be read: for each relation in turn its subject and object",
    "labels": "the label of each relation by hand, alike",
    "compositions": "what each prompt asks for, in place of both",
    "guided_steps": "how many steps are guided; 0 turns guidance off. The block's own number when left out",
}
"""Inputs of a call that only guidance takes."""
_THEIRS: Final = ("prompt max_sequence_length num_inference_steps num_frames height width attention_kwargs").split()
"""Inputs of a call that the pipeline takes and guidance looks at."""


class CompositionGuidanceBlock(ModularPipelineBlocks):
    """Guides the latents of a modular pipeline's denoising loop: the first block in it.

    The loop's other blocks, its guider among them, run as ever, on the latents that this one leaves them. A call of the
    pipeline takes ``entities``, ``labels``, ``compositions`` and ``guided_steps`` besides, and what was done is in its
    output ``guidance_report`` (:class:`cvg.guidance.call_report.Report`).

    Args:
        classifier: as for :func:`cvg.guide`: folder, hub id, or shipped name; one that is loaded; or "rules".
        label_set: of the rules: a YAML file, or a shipped one; ``world`` when None. A classifier has its own.
        parser: reads the prompts.
        settings: of :class:`GuidanceConfig`.

    Raises:
        SettingsError: a setting that is unknown or out of its range, or a label set beside a classifier.
    """

    def __init__(
        self,
        classifier: str | CompositionClassifier = RULES,
        label_set: str | None = None,
        parser: Parser = parse,
        **settings: Any,
    ) -> None:
        super().__init__()
        self.classifier, self.label_set, self.settings, self.parser = classifier, label_set, settings, parser
        self._guidance = GuidanceConfig(**settings)
        if label_set is not None and classifier != RULES:
            raise SettingsError("label_set: a classifier has one of its own; leave it out, or guide with rules")
        self._loaded: CompositionClassifier | None = None
        self._held = ExitStack()
        """What the run in progress has set on the pipeline's parts."""

    def __deepcopy__(self, memo: dict[int, Any]) -> CompositionGuidanceBlock:
        """Another block that shares the classifier: pipelines are made of copies of the blocks that they are given."""
        other = copy.copy(self)
        other._held = ExitStack()
        return other

    @property
    def description(self) -> str:
        """In a sentence, as diffusers prints it."""
        return "Moves the latents before the first denoising steps so that the video shows the prompt's composition."

    @property
    def inputs(self) -> list[InputParam]:
        """What it takes of a call, and of the blocks before the loop."""
        mine = [InputParam(name, description=told) for name, told in _OURS.items()]
        return [InputParam("latents", required=True), *(InputParam(name) for name in _THEIRS), *mine]

    @property
    def intermediate_outputs(self) -> list[OutputParam]:
        """What it adds to a call's outputs."""
        return [OutputParam("guidance_report", type_hint=Report, description="what guidance did")]

    @torch.no_grad()
    def __call__(self, components: Any, block_state: Any, i: int, t: Tensor) -> tuple[Any, Any]:
        """Before denoising step ``i``: the latents that it is to start from."""
        if i == 0:
            self._held.close()  # of a run that failed, and that somebody still looks at
            block_state.guidance_report, block_state.guidance_run = Report(), None
            steps = block_state.guided_steps
            config = self._guidance if steps is None else replace(self._guidance, guided_steps=steps)
            if config.guided_steps != 0:
                run = _Run(self, components, block_state, config)
                block_state.guidance_report, block_state.guidance_run = run.guided.report, run
                weakref.finalize(block_state, self._held.close)  # no block is called after the last step
        if block_state.guidance_run is not None:
            block_state.latents = block_state.guidance_run(i, block_state.latents)
        return components, block_state

    def guiding(self, generator: Generator) -> _Lent:
        """The guided pipeline of a modular pipeline's parts."""
        model: CompositionClassifier | Rules | None = self._loaded
        if not isinstance(self.classifier, str):
            model = self.classifier
        elif model is None:
            model = self._loaded = load_classifier(self.classifier, None)
        labels = LabelSet.load(self.label_set or "world") if model is None else model.labels
        return _Lent(generator, model, labels, self._guidance, self.parser, ())

    def save_config(self, save_directory: Any, push_to_hub: bool = False, **kwargs: Any) -> None:
        """Write ``modular_config.json``, which :meth:`from_pretrained` reads. ``save_pretrained`` calls it."""
        if not isinstance(self.classifier, str):
            raise SettingsError("block: its classifier is a loaded one; give the folder or hub id that it lies in")
        told = {"classifier": self.classifier, "label_set": self.label_set, "guidance": self.settings}
        self.register_to_config(**told)
        super().save_config(save_directory, push_to_hub=push_to_hub, **kwargs)

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | Path, trust_remote_code: bool = False, **kwargs: Any
    ) -> CompositionGuidanceBlock:
        """The block that ``save_pretrained`` wrote: its settings are read, and no code beside them.

        Args:
            pretrained_model_name_or_path: folder, or Hub id.
            trust_remote_code: is not looked at: the class is this one.
            kwargs: of ``load_config``.

        Raises:
            ModelError: there is no such file, or it is not of such a block.
        """
        where = f"block {pretrained_model_name_or_path}"
        try:
            config = cls.load_config(pretrained_model_name_or_path, **kwargs)
            given = {name: config[name] for name in ("classifier", "label_set", "guidance")}
        except Exception as error:  # whatever is raised of files, the Hub, and what is no JSON
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise ModelError(
                f"{where}: cannot be read ({reason}); give what save_pretrained of the block wrote"
            ) from error
        settings, names = given["guidance"], (given["classifier"], given["label_set"] or "")
        if not isinstance(settings, dict) or not all(isinstance(name, str) for name in names):
            raise ModelError(f"{where}: not settings of guidance; save the block again")
        try:
            return cls(given["classifier"], given["label_set"], **settings)
        except (TypeError, UserError) as error:
            raise ModelError(f"{where}: {error}; save the block again") from error


class _Run:
    """One run of the loop: what a call asks for, and the steps that guide it.

    Args:
        block: whose settings count.
        components: the modular pipeline.
        state: of the loop, at its first step.
        config: how guided steps are taken.
    """

    def __init__(self, block: CompositionGuidanceBlock, components: Any, state: Any, config: GuidanceConfig) -> None:
        held, self._reading = block._held, ExitStack()
        held.callback(self._reading.close)
        self._reading.enter_context(unchanged(components))
        generator = adapted(components)
        self.guided = block.guiding(generator)
        call: dict[str, Any] = {
            name: getattr(state, name) for name in _THEIRS if getattr(state, name, None) is not None
        }
        scale = getattr(getattr(components, "guider", None), "guidance_scale", None)
        call |= {} if scale is None else {"guidance_scale": scale}
        self._reading.enter_context(generator.called_with(call))
        self.size = Size(*(call.get(name, 0) for name in ("num_frames", "height", "width")))  # of packed latents
        z, steps = generator.unpack(state.latents, self.size), int(state.num_inference_steps)
        told = [getattr(state, name) for name in _OURS if name != "guided_steps"]
        self.guiding = self.guided.begin(call, told, config, steps, z)
        if not torch.equal(self.guiding.timesteps.cpu(), state.timesteps.cpu()):
            raise SettingsError(
                f"timesteps, sigmas: other steps than the {steps} of the pipeline's scheduler cannot be guided; leave "
                "them out"
            )
        held.enter_context(generator.stepped_elsewhere(len(z)))
        self.generator, self.change = generator, generator.at_network_calls(self._guide, steps)

    def __call__(self, step: int, packed: Tensor) -> Tensor:
        """The latents to go on with, in the pipeline's layout."""
        latents = self.generator.unpack(packed, self.size)
        changed = self.change(step, latents)
        return packed if changed is latents else self.generator.pack(changed)

    def _guide(self, step: int, z: Tensor) -> Tensor:
        z = self.guiding(step, z)
        if step == max(self.guiding.guided_steps):
            self.guided.conclude(self.guiding)
            self._reading.close()
        return z


class _Lent(GuidedPipeline):
    """A guided pipeline whose parts another one calls."""

    def begin(
        self, call: dict[str, Any], told: list[Any], config: GuidanceConfig, steps: int, z: Tensor
    ) -> GuidedSteps:
        """What guides a call; arguments as of :meth:`GuidedPipeline._begun`.

        Args:
            call: the call's arguments.
            told: what it says by hand: entities, labels, compositions.
            config: how guided steps are taken.
            steps: denoising steps.
            z: first latents, (B, C, F, H', W').
        """
        read = self._reader(call, *told)
        if read is None:
            raise SettingsError("prompt: guidance reads the text; give it, or guided_steps=0")
        asked = [self._followed(each) for each in read]
        return self._begun(None, config, call, asked, steps, self._generator.encode(asked), z)

    def conclude(self, guiding: GuidedSteps) -> None:
        """After the last guided step: what it did goes into the report."""
        guiding.conclude()
        self.report.tell(guiding.probabilities, guiding.moved, self._reader.labels)


def adapted(components: Any) -> Generator:
    """The adapter of a modular pipeline's parts.

    Raises:
        ModelError: pipelines of its kind have no adapter, or a part is missing.
    """
    name = type(components).__name__
    plain = name.replace("ModularPipeline", "Pipeline")
    plain = plain if plain in ADAPTERS else re.sub(r"\d+Pipeline$", "Pipeline", plain)  # of all versions
    if plain not in ADAPTERS:
        raise ModelError(f"modular pipeline {name}: {plain} has no adapter; known: {', '.join(ADAPTERS)}")
    kind: Callable[..., Any] = getattr(diffusers, plain)
    taken = inspect.signature(kind).parameters
    parts = {part: found for part, found in components.components.items() if part in taken}
    parts |= {part: value for part, value in components.config.items() if part in taken and part not in parts}
    if missing := [part for part, told in taken.items() if told.default is told.empty and parts.get(part) is None]:
        raise ModelError(f"modular pipeline {name}: has no {' and no '.join(missing)}; load all of its components")
    return wrap_pipeline(kind(**parts), str(components._pretrained_model_name_or_path or "pipeline"))
