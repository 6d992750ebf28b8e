"""A generator: what follows, for all families, from what each states of its pipeline."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from cvg.common.errors import PromptError, SettingsError
from cvg.common.fingerprint import fingerprints
from cvg.common.sizes import Grid, Size
from cvg.composition import Composition
from cvg.generators.calls import Called
from cvg.generators.conditioning import Conditioning, States
from cvg.generators.histories import Histories, State, histories_of
from cvg.generators.obstacles import as_the_model, check_readable
from cvg.generators.provenance import circumstances, folders_of
from cvg.generators.recompute import eager, is_compiled
from cvg.generators.steps import Edit, changed_start, seeded_steps
from cvg.grounding.base import Grounding, Sites
from cvg.grounding.cross_attention import CrossAttention

_OF_LOADING = ("_", "quantization_config")
"""How entries of a network's configuration begin that tell of its loading, not of the model."""


class Generator(Called):
    """A frozen text-to-video pipeline of diffusers, unmodified, with what it attends to within reach.

    A family's adapter is a subclass, which overrides what :class:`~cvg.generators.family.Family` has; what stands here
    is the same for all.
    """

    checkpointing: bool = False
    """Whether gradients recompute blocks in the backward pass instead of keeping their activations."""
    call: Mapping[str, Any] = MappingProxyType({})
    """Further arguments of the pipeline's call, see :func:`cvg.generators.call_options.checked_call`."""
    grounding: type[Grounding] = CrossAttention
    """What :meth:`entity_maps` reads off a forward pass; set another one on a generator to record and guide by that."""
    _histories: Histories
    """Of the batch that is sampled."""

    def encode(self, compositions: Sequence[Composition], given: States | None = None) -> Conditioning:
        """Text states and entity columns of prompts, for passes that are read, inverted or replayed.

        Args:
            compositions: one per prompt.
            given: the prompts' states, ready made (:meth:`given_states`); the text encoders' when None.

        Raises:
            PromptError: an entity is not among the text keys.
            ModelError: the network is set so that such passes tell of other latents, or of nothing.
        """
        check_readable(self)
        self.compiled = any(is_compiled(network) for network in self.networks)
        columns = [self.entity_columns(composition) for composition in compositions]
        width = max(column.shape[-1] for column in columns)
        padded_BTE = torch.stack([nn.functional.pad(column, (0, width - column.shape[-1])) for column in columns])
        if given is not None:
            padded_BTE = _as_many_keys(padded_BTE, given["encoder_hidden_states"].shape[-2])
            return Conditioning(given, padded_BTE.to(self.device))
        with torch.no_grad():
            states = self.encode_prompts([composition.prompt for composition in compositions])
        return Conditioning(states, padded_BTE.to(self.device))

    def sample(
        self,
        prompts: Sequence[str],
        latents: Tensor | None,
        steps: int,
        guidance_scale: float | None,
        size: Size,
        edit: Edit | None = None,
        generators: Sequence[torch.Generator] | None = None,
    ) -> Tensor:
        """Call the pipeline itself on given initial latents and return the final ones.

        Args:
            prompts: one per video.
            latents: initial noise (B, C, F, H', W'), see ``initial_latents``; None where the pipeline is to draw it.
            steps: denoising steps.
            guidance_scale: of classifier-free guidance; the pipeline's default when None.
            size: of the videos.
            edit: see :data:`Edit`.
            generators: those that drew the latents, or are to, for schedulers that go on to draw noise at every step.

        Raises:
            ModelError: the scheduler draws noise from others.
        """
        edited: AbstractContextManager[dict[str, Any]] = nullcontext({})
        if edit is not None:
            edited = self.edited(edit, steps)
        drawn = {} if generators is None else {"generator": list(generators)}
        start = {} if latents is None else {"latents": self.pack(latents)}
        seeded = nullcontext() if generators is None else seeded_steps(self.pipeline.scheduler, generators)
        with self.guided_by(guidance_scale) as guided, edited as changed, seeded:
            final = self.pipeline(
                **self.prompt_options(prompts),
                **start,
                num_inference_steps=steps,
                output_type="latent",
                return_dict=False,
                **self.call,
                **self.options(size),
                **guided,
                **drawn,
                **changed,
            )[0]
        return self.rescaled_result(self.unpack(final, size))

    @contextmanager
    def edited(self, edit: Edit, steps: int) -> Iterator[dict[str, Any]]:
        """Within it a call of the pipeline, whatever else its arguments, has its latents edited before every step.

        Args:
            edit: see :data:`cvg.generators.steps.Edit`.
            steps: denoising steps of the call.

        Yields:
            keyword arguments that the call needs: a step callback, where the pipeline has one.
        """
        at_call, size = self.at_network_calls(edit, steps), Size(0, 0, 0)

        def change(call: int, packed: Tensor) -> Tensor:
            if call and call == len(self.pipeline.scheduler.timesteps):
                return packed  # the last ones: no step follows
            latents = self.unpack(packed, size)
            edited = at_call(call, latents)
            return packed if edited is latents else self.pack(edited)

        def start(packed: Tensor, asked: Size, more: tuple[Any, ...]) -> Tensor:
            nonlocal size
            size, self.prepared = asked, more
            self._histories.begin(len(self.unpack(packed, size)))
            return change(0, packed)

        histories = histories_of(self.pipeline.scheduler)
        between, start_with = self.changed_between_steps(change), changed_start(self.pipeline, start)
        with histories as self._histories, between as changed, start_with:
            yield changed

    @contextmanager
    def stepped_elsewhere(self, samples: int) -> Iterator[None]:
        """Within it a loop that is not the pipeline's steps with its scheduler, and edits of latents are known to that.

        Args:
            samples: how many videos.
        """
        with histories_of(self.pipeline.scheduler) as self._histories:
            self._histories.begin(samples)
            yield

    def forget_history(self, samples: Sequence[int] | None = None) -> None:
        """Make the next step of some samples depend on nothing before it, as their latents were edited.

        The scheduler's later steps of the others are those that they would have been, bit for bit.

        Args:
            samples: their indices in the batch that is sampled; all when None.
        """
        mine = range(self._histories.count) if samples is None else samples
        self._histories.forget(mine, self.clear_history)

    def history(self) -> State:
        """What the scheduler knows of the samples of the batch that is sampled."""
        return self._histories.state()

    def adopt_history(self, states: Mapping[int, State]) -> None:
        """Let some samples go on with what was known of those in their places in other runs, at the same step.

        Args:
            states: of those runs, as :meth:`history` gave them, by sample.
        """
        self._histories.adopt(states)

    def entity_maps(
        self,
        latents: Tensor,
        timestep: Tensor,
        conditioning: Conditioning,
        layers: Sequence[int],
        heads: Sequence[int] | None = None,
    ) -> Tensor:
        """How much each video token has to do with each entity, at one step, by one forward pass that ends early.

        With cross-attention as :attr:`grounding` it is the probability A[t,l,h,k] of the paper. Gradients reach
        ``latents`` if it requires them.

        Args:
            latents: (B, C, F, H', W').
            timestep: scalar or (B,).
            conditioning: prompts of the batch.
            layers: tapped layers, ascending.
            heads: tapped heads, all when None; fewer cost as much less.

        Returns:
            maps_BLAEFHW in float32.
        """
        recomputing = self.recomputing if self.checkpointing and torch.is_grad_enabled() else nullcontext
        with self.at_timestep(timestep), as_the_model(self.network):
            reading = self.grounding(self.sites(latents, conditioning, layers, heads))
            with reading.recording(), recomputing(), eager(self.compiled):
                self.predict(latents, timestep, conditioning.states)
            return self.maps_on_grid(reading, layers, self.token_grid(latents))

    def sites(
        self, latents: Tensor, conditioning: Conditioning, layers: Sequence[int], heads: Sequence[int] | None = None
    ) -> Sites:
        """Where a forward pass is to be read; arguments as for :meth:`entity_maps`."""
        frames, rows, columns = self.token_grid(latents)
        tokens, length = frames * rows * columns, conditioning.columns_BTE.shape[1]
        text_keys, video_queries = {
            "alone": (slice(None), slice(None)),
            "first": (slice(0, length), slice(length, None)),
            "last": (slice(tokens, None), slice(0, tokens)),
        }[self.text_position]
        blocks, after = self.blocks, layers[-1] + 1
        return Sites(
            blocks={layer: blocks[layer] for layer in layers},
            attention={layer: self.attention(layer) for layer in layers},
            columns_BTE=conditioning.columns_BTE,
            text_keys=text_keys,
            video_queries=video_queries,
            heads=None if heads is None else {layer: self.heads_in_module(layer, heads) for layer in layers},
            exit_before=blocks[after] if after < len(blocks) else None,
            calls_before=self.calls_before_text,
        )

    def maps_on_grid(self, reading: Grounding, layers: Sequence[int], grid: Grid) -> Tensor:
        """What was read during a forward pass, as maps_BLAEFHW on the token grid in float32."""
        return torch.stack([self.to_token_grid(reading.maps(layer).float(), layer, grid) for layer in layers], dim=1)

    def check_layers(self, layers: Sequence[int]) -> None:
        """Raise SettingsError unless ``layers`` are distinct, ascending and exist."""
        known = range(len(self.blocks))
        if not layers or list(layers) != sorted(set(layers)) or any(layer not in known for layer in layers):
            raise SettingsError(
                f"layers {list(layers)}: expected ascending numbers from 0 to {len(self.blocks) - 1}, "
                f"the blocks of {self.name}"
            )

    def check_size(self, size: Size) -> None:
        """Raise SettingsError unless the family's videos can have a size: its tokens fill it, and no pixel is left."""
        (temporal, spatial), patch = self.compression, self.patch
        latents = Grid((size[0] - 1) // temporal + 1, size[1] // spatial, size[2] // spatial)
        below = [max(side // p, 1) for side, p in zip(latents, patch, strict=True)]
        taken = zip(self.pixel_size(below), self.pixel_size([side + 1 for side in below]), strict=True)
        wrong = [
            f"{' or '.join(map(str, two))} {name}, not {asked}"
            for name, asked, two in zip(("frames", "rows", "columns"), size, taken, strict=True)
            if asked not in two
        ]
        if wrong:
            raise SettingsError(f"size {list(size)}: videos of {self.name} have {'; '.join(wrong)}")

    def identity(self) -> dict[str, str]:
        """Name, pipeline class, fingerprints of the weights, and what they are computed with.

        By it two runs know whether they used the same generator (:func:`cvg.common.fingerprint.same_generator`) in the
        same way (:func:`cvg.common.fingerprint.differences`): see :func:`cvg.generators.provenance.circumstances`.
        """
        # Private entries tell of the folder it was loaded from and of the library's version.
        parts = [
            (network, {key: value for key, value in network.config.items() if not key.startswith(_OF_LOADING)})
            for network in self.networks
        ]
        parts[0][1].update(self.map_settings)
        prints = fingerprints(parts, folders_of(self.pipeline, self.networks))
        return {"name": self.name, "class": type(self.pipeline).__name__, **prints, **circumstances(self)}


def _as_many_keys(columns_BTE: Tensor, keys: int) -> Tensor:
    """Entity columns for so many text keys. Raises PromptError where an entity lies beyond them."""
    if columns_BTE[:, keys:].any():
        raise PromptError(f"prompt embeddings of {keys} tokens: an entity lies beyond them; embed more of the prompt")
    return nn.functional.pad(columns_BTE[:, :keys], (0, 0, 0, max(0, keys - columns_BTE.shape[1])))
