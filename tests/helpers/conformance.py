"""What every generator family must satisfy, on a tiny random model of its true classes.

A family's test file builds that model and inherits these tests:

    class TestWan(Conformance):
        size = Size(5, 32, 32)

        def build(self) -> WanPipeline: ...
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cvg.common.errors import UserError
from cvg.common.sizes import Size
from cvg.composition import parse
from cvg.diffusion.trajectory import invert, replay
from cvg.generators import Conditioning, Generator, load_generator, wrap_pipeline
from cvg.generators.conditioning import States
from cvg.guidance.config import GuidanceConfig
from cvg.guidance.sampler import GuidedSampler
from cvg.media.pixels import to_video
from tests.helpers.labels import LABELS
from tests.helpers.offloaded import offload_components_checked, offload_layers_checked
from tests.helpers.tiny import tiny_classifier

PROMPTS = ["a red circle to the left of a blue square", "a green triangle moving up"]
COMPOSITIONS = [parse(prompt, LABELS) for prompt in PROMPTS]


def whole_pass(
    generator: Generator, latents: Tensor, timestep: Tensor, conditioning: Conditioning, layers: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Entity maps, and the network's prediction, of a forward pass that is read and runs to its end."""
    with generator.at_timestep(timestep):
        reading = generator.grounding(replace(generator.sites(latents, conditioning, layers), exit_before=None))
        with reading.recording():
            prediction = generator.predict(latents, timestep, conditioning.states)
        return generator.maps_on_grid(reading, layers, generator.token_grid(latents)), prediction


class Conformance:
    """Inherit, state ``size`` and ``build``."""

    size: Size
    """Of the videos to sample."""
    steps = 6
    """Denoising steps that tests of the sampling loop take."""
    layers: tuple[int, ...] = (0, 1)
    """Layers to tap: the first blocks, at least one block follows them."""
    guidance_scale: float | None = None
    """Where the default would switch something off that is to be tested."""
    rtol = 2e-3
    """Of finite differences; maps come in float32, and some networks compute parts in float32 themselves."""

    pixel_atol = 1e-4
    """Of decoded videos in [0, 1]; some pipelines round theirs to eight bits on the way."""

    def build(self) -> Any:
        """A tiny random pipeline of the family, the same at each call, with a real tokenizer class."""
        raise NotImplementedError

    def double(self) -> Any:
        """The pipeline in float64, as far as its networks can compute in it."""
        return self.build().to(torch.float64)

    @pytest.fixture(scope="class")
    @classmethod
    def generator(cls) -> Generator:
        return wrap_pipeline(cls().build(), "tiny")

    @pytest.fixture
    def latents(self, generator: Generator) -> Tensor:
        return generator.initial_latents([torch.Generator().manual_seed(i) for i in range(2)], self.size)

    def timestep(self, generator: Generator) -> Tensor:
        return generator.schedule(self.steps, self.size).timesteps[1]

    def test_sizes_that_its_videos_cannot_have_are_refused(self, generator: Generator, latents: Tensor) -> None:
        generator.check_size(self.size)
        generator.check_size(generator.pixel_size(generator.token_grid(latents)))
        frames, height, width = self.size
        for wrong in ((frames, height + 1, width), (frames, height, width - 1), (frames, 1, width)):
            with pytest.raises(UserError, match=r"size \[.*videos of tiny have .* (rows|columns), not"):
                generator.check_size(Size(*wrong))
        if generator.compression[0] > 2:
            with pytest.raises(UserError, match="frames"):
                generator.check_size(Size(frames + 2, height, width))

    # The tap.

    def calls(
        self,
        generator: Generator,
        latents: Tensor,
        states: States,
        layers: Sequence[int],
        monkeypatch: pytest.MonkeyPatch,
    ) -> dict[int, list[tuple[Tensor, Tensor, Tensor | None, float | None]]]:
        """Query, key, mask and scale of every attention call of some layers."""
        calls: dict[int, list[tuple[Tensor, Tensor, Tensor | None, float | None]]] = {layer: [] for layer in layers}
        inside: list[int] = []
        fused = F.scaled_dot_product_attention

        def spy(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, **rest: Any) -> Tensor:
            if inside:
                calls[inside[-1]].append((query, key, attn_mask, rest.get("scale")))
            return fused(query, key, value, attn_mask=attn_mask, **rest)

        with monkeypatch.context() as patch, torch.no_grad():
            patch.setattr(F, "scaled_dot_product_attention", spy)
            handles = []
            for layer in layers:

                def enter(*_: Any, layer: int = layer) -> None:
                    inside.append(layer)

                def leave(*_: Any) -> None:
                    inside.pop()

                module = generator.attention(layer)
                handles += [module.register_forward_pre_hook(enter), module.register_forward_hook(leave)]
            generator.predict(latents, self.timestep(generator), states)
            for handle in handles:
                handle.remove()
        return calls

    def test_maps_equal_an_explicit_softmax(
        self, generator: Generator, latents: Tensor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Against softmax(q k^T) written out, from every attention call that the tapped modules make."""
        conditioning = generator.encode(COMPOSITIONS)
        calls = self.calls(generator, latents, conditioning.states, self.layers, monkeypatch)
        with torch.no_grad():
            maps = generator.entity_maps(latents, self.timestep(generator), conditioning, self.layers)
        frames, height, width = generator.token_grid(latents)
        assert maps.shape == (2, len(self.layers), generator.num_heads, 2, frames, height, width)
        assert maps.min() >= 0 and 0 < maps[0, :, :, 0].max() <= 1
        tokens = frames * height * width
        for index, layer in enumerate(self.layers):
            rows = []
            for query, key, mask, scale in calls[layer]:
                logits = query.double() @ key.double().transpose(-1, -2) * (scale or query.shape[-1] ** -0.5)
                if mask is not None:
                    logits = logits.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else logits + mask
                rows.append(logits.softmax(-1))
            for sample, composition in enumerate(COMPOSITIONS):
                columns = generator.entity_columns(composition)
                for entity in range(len(composition.entities)):
                    keys = columns[:, entity].nonzero().flatten()
                    wanted = self.explicit(rows, sample, keys, len(columns), tokens, generator)
                    torch.testing.assert_close(
                        maps[sample, index, :, entity].flatten(1).double(), wanted, atol=2e-6, rtol=1e-4
                    )
        assert maps[1, :, :, 1].abs().max() == 0  # a prompt with one entity: the second column is empty

    def test_chosen_heads_are_those_of_all(self, generator: Generator, latents: Tensor) -> None:
        conditioning, timestep = generator.encode(COMPOSITIONS), self.timestep(generator)
        chosen = [generator.num_heads - 1]
        z = latents.clone().requires_grad_(True)
        for maps_of in (torch.no_grad(), torch.enable_grad()):  # read at once, and after the forward pass
            with maps_of:
                every = generator.entity_maps(z, timestep, conditioning, self.layers)
                some = generator.entity_maps(z, timestep, conditioning, self.layers, chosen)
            torch.testing.assert_close(some, every[:, :, chosen], atol=1e-6, rtol=1e-5)

    def explicit(
        self, rows: list[Tensor], sample: int, keys: Tensor, length: int, tokens: int, generator: Generator
    ) -> Tensor:
        """Probability (A, N) that video tokens give to text keys, from the attention matrices of a layer's calls.

        Args:
            rows: (B, A, queries, keys) of each call: one for the batch, or one per sample.
            sample: which sample.
            keys: text keys.
            length: text keys in all.
            tokens: video tokens.
            generator: the family.
        """
        matrix = rows[0][sample] if len(rows) == 1 else rows[sample][0]
        if generator.text_position == "first":
            return matrix[:, length:, keys].sum(-1)
        if generator.text_position == "last":
            return matrix[:, :tokens, tokens + keys].sum(-1)
        return matrix[..., keys].sum(-1)

    def test_the_text_lies_where_the_family_says(
        self, generator: Generator, latents: Tensor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """In the first layer the keys that other latents leave as they are are the prompt's, all others the video's."""
        states = generator.encode_prompts(PROMPTS)
        one, other = (self.calls(generator, z, states, [0], monkeypatch)[0] for z in (latents, latents + 1))
        frames, height, width = generator.token_grid(latents)
        for (_, key, *_), (_, changed, *_) in zip(one, other, strict=True):
            video = (key != changed).any(-1).any(1)
            wanted = torch.zeros_like(video)
            if generator.text_position == "first":
                wanted[:, -frames * height * width :] = True
            elif generator.text_position == "last":
                wanted[:, : frames * height * width] = True
            assert torch.equal(video, wanted)

    def test_output_is_bit_identical_with_capture_on(self, generator: Generator, latents: Tensor) -> None:
        conditioning, timestep = generator.encode(COMPOSITIONS), self.timestep(generator)
        with torch.no_grad():
            plain = generator.predict(latents, timestep, conditioning.states)
            _, captured = whole_pass(generator, latents, timestep, conditioning, self.layers)
        assert torch.equal(plain, captured)
        assert plain.shape == latents.shape

    def test_early_exit_changes_nothing_and_stops(self, generator: Generator, latents: Tensor) -> None:
        conditioning, timestep = generator.encode(COMPOSITIONS), self.timestep(generator)
        calls: list[int] = []
        handle = generator.blocks[-1].register_forward_hook(lambda *_: calls.append(1))
        z = latents.clone().requires_grad_(True)
        early = generator.entity_maps(z, timestep, conditioning, self.layers[:1])
        assert not calls
        full, _ = whole_pass(generator, z, timestep, conditioning, self.layers[:1])
        handle.remove()
        assert calls and torch.equal(early, full)
        weights = torch.randn_like(early)
        gradients = [torch.autograd.grad((maps * weights).sum(), z)[0] for maps in (early, full)]
        assert gradients[0].abs().max() > 0
        torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-9)

    def test_gradient_agrees_with_finite_differences_checkpointed_or_not(self) -> None:
        generator = wrap_pipeline(self.double(), "tiny")
        conditioning = generator.encode(COMPOSITIONS[:1])
        z = generator.initial_latents([torch.Generator().manual_seed(0)], self.size).double()
        timestep = self.timestep(generator)
        shape = (1, len(self.layers), generator.num_heads, 2, *generator.token_grid(z))
        weights = torch.randn(shape, generator=torch.Generator().manual_seed(1))
        heads = list(reversed(range(generator.num_heads)))  # chosen one by one: that must not disturb checkpoints

        def value(latents: Tensor) -> Tensor:
            maps = generator.entity_maps(latents, timestep, conditioning, self.layers, heads)
            return (maps.double() * weights).sum()

        gradients = []
        for checkpointing in (False, True):
            generator.checkpointing = checkpointing
            leaf = z.clone().requires_grad_(True)
            gradients.append(torch.autograd.grad(value(leaf), leaf)[0])
        torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-8)
        direction = gradients[0] / gradients[0].norm()
        step = 1e-2
        with torch.no_grad():
            numeric = (value(z + step * direction) - value(z - step * direction)) / (2 * step)
        torch.testing.assert_close((gradients[0] * direction).sum(), numeric.double(), rtol=self.rtol, atol=1e-7)

    def test_batch_equals_one_by_one(self, generator: Generator, latents: Tensor) -> None:
        timestep = self.timestep(generator)
        with torch.no_grad():
            together = generator.entity_maps(latents, timestep, generator.encode(COMPOSITIONS), self.layers)
            for i, composition in enumerate(COMPOSITIONS):
                one = generator.encode([composition])
                alone = generator.entity_maps(latents[i : i + 1], timestep, one, self.layers)
                torch.testing.assert_close(together[i, :, :, : alone.shape[3]], alone[0], atol=1e-6, rtol=1e-4)

    # Memory.

    @pytest.mark.parametrize("how", [pytest.param("components", marks=pytest.mark.slow), "layers"])
    def test_offloading_changes_nothing(self, latents: Tensor, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """Text, maps, their gradient, prediction and VAE are those of a generator whose weights stay, bit for bit."""
        generator = wrap_pipeline(self.build(), "tiny")
        generator.checkpointing = how == "layers"
        results = []
        for offloaded in (False, True):
            if offloaded and how == "layers":
                offload_layers_checked(generator, monkeypatch)
            elif offloaded:
                offload_components_checked(generator)
                assert generator.device == torch.device("cpu:0")
            video = generator.decode_latents(latents)
            clean, conditioning = generator.encode_video(video), generator.encode(COMPOSITIONS)
            z, timestep = latents.clone().requires_grad_(True), self.timestep(generator)
            maps = generator.entity_maps(z, timestep, conditioning, self.layers)
            (gradient,) = torch.autograd.grad(maps.square().sum(), z)
            with torch.no_grad():
                prediction = generator.predict(latents, timestep, conditioning.states)
            results.append((video, clean, *conditioning.states.values(), maps, gradient, prediction))
        for plain, offloaded in zip(*results, strict=True):
            assert torch.equal(plain, offloaded)

    # The prompt.

    def test_entity_columns_hit_the_phrase_and_only_it(self, generator: Generator) -> None:
        """Through the states themselves: another colour of the first entity changes its own keys at first."""
        columns = generator.entity_columns(COMPOSITIONS[0])
        assert columns.shape == generator.encode(COMPOSITIONS[:1]).columns_BTE.shape[1:]
        first, second = (columns[:, entity].nonzero().flatten().tolist() for entity in (0, 1))
        assert first == list(range(first[0], first[-1] + 1)) and second == list(range(second[0], second[-1] + 1))
        assert first[-1] < second[0]
        words = self.words(generator)
        for keys, phrase in ((first, "red circle"), (second, "blue square")):
            assert "".join(words[key] for key in keys) == phrase.replace(" ", "")

    def words(self, generator: Generator) -> list[str]:
        """The text of each text key for the first prompt, without spaces or marks of the tokenizer."""
        tokenizer = generator.pipeline.tokenizer
        ids = tokenizer(PROMPTS[0]).input_ids
        return [tokenizer.decode([i]).replace(" ", "") for i in ids]

    def test_an_entity_beyond_the_text_length_is_an_error(self, generator: Generator) -> None:
        prompt = "a red circle moving left " + "very " * 600 + "above a blue square"
        with pytest.raises(UserError, match="blue square.*tokens"):
            generator.entity_columns(parse(prompt, LABELS, label=["above"]))

    def test_a_saved_copy_is_the_same_generator(self, generator: Generator, tmp_path: Path) -> None:
        generator.pipeline.save_pretrained(tmp_path)
        assert load_generator(str(tmp_path)).identity()["fingerprint"] == generator.identity()["fingerprint"]

    # Schedule, video and noise.

    def test_replay_of_an_inversion_returns_the_latents(self, generator: Generator, latents: Tensor) -> None:
        schedule, conditioning = generator.schedule(self.steps, self.size), generator.encode(COMPOSITIONS)

        def predict(z: Tensor, i: int) -> Tensor:
            return generator.predict(z, schedule.timesteps[i], conditioning.states).float()

        clean = 0.5 * latents.float() / latents.float().std()
        errors = []
        for iterations in (0, 4):
            noise = invert(clean, schedule, predict, iterations)
            replayed, _ = replay(noise, schedule, predict)
            errors.append(float((replayed - clean).square().mean().sqrt()))
        assert errors[1] < 0.02, errors
        assert errors[1] <= errors[0]

    def test_noise_levels_fall_from_one_to_none(self, generator: Generator) -> None:
        schedule = generator.schedule(self.steps, self.size)
        assert len(schedule.timesteps) == self.steps and len(schedule.alphas) == len(schedule.sigmas) == self.steps + 1
        levels = schedule.levels
        # Some schedulers' few steps begin below the top, whatever many steps do.
        assert (levels.diff() < 0).all() and levels[0] > 0.8 and 0 <= levels[-1] < 0.1

    def test_sizes_agree(self, generator: Generator, latents: Tensor) -> None:
        assert generator.pixel_size(generator.token_grid(latents)) == self.size
        video = to_video(torch.randint(0, 255, (1, *self.size, 3), dtype=torch.uint8).numpy())
        encoded = generator.encode_video(video)
        assert encoded.shape[1:] == latents.shape[1:]
        assert generator.decode_latents(encoded).shape == video.shape

    # The pipeline.

    def plain(self, generator: Generator, output: str) -> Any:
        """The pipeline's own call, as its users write it."""
        scale = {} if self.guidance_scale is None else {"guidance_scale": self.guidance_scale}
        return generator.pipeline(
            **generator.prompt_options(PROMPTS),
            generator=[torch.Generator().manual_seed(i) for i in range(2)],
            num_inference_steps=self.steps,
            output_type=output,
            return_dict=False,
            **generator.options(self.size),
            **scale,
        )[0]

    def test_sampling_is_the_pipelines_own(self, generator: Generator, latents: Tensor) -> None:
        final = generator.sample(PROMPTS, latents, self.steps, self.guidance_scale, self.size, lambda step, z: z)
        assert torch.equal(generator.unpack(self.plain(generator, "latent"), self.size), final)

    def test_decoding_is_the_pipelines_own(self, generator: Generator, latents: Tensor) -> None:
        final = generator.sample(PROMPTS, latents, self.steps, self.guidance_scale, self.size)
        shown = torch.as_tensor(self.plain(generator, "pt")).transpose(1, 2)
        ours = (generator.decode_latents(final) + 1) / 2
        torch.testing.assert_close(ours, shown.float().cpu(), atol=self.pixel_atol, rtol=1e-4)

    def test_an_edit_survives_the_scheduler(self, generator: Generator, latents: Tensor) -> None:
        """Two steps later at least a third of it is there: multistep schedulers would take it back."""

        def seen(size: float) -> Tensor:
            after: dict[int, Tensor] = {}

            def edit(step: int, z: Tensor) -> Tensor:
                after[step] = z.float()
                if step != 3:
                    return z
                generator.forget_history()
                return z + size

            generator.sample(PROMPTS, latents, self.steps, self.guidance_scale, self.size, edit)
            return after[4]

        kept = float((seen(0.5) - seen(0.0)).mean())
        assert 0.15 < kept < 1.0

    def test_guidance_moves_the_video_and_none_leaves_it(self, generator: Generator, latents: Tensor) -> None:
        """Through the family's real pipeline: a zero step is the plain call bit for bit, a real one is not."""
        levels = [float(level) for level in generator.schedule(self.steps, self.size).levels[[1, 2]]]
        grid = list(generator.token_grid(latents))
        volume = [min(side, 4) for side in grid]
        grids = {"grid": grid, "token_grid": grid, "volume_grid": volume}
        classifier = tiny_classifier(generator, layers=list(self.layers), sigmas=levels, **grids)
        videos = {}
        for step_size in (0.0, 0.2):
            config = GuidanceConfig(step_size=step_size, threshold=None, smoothing=1)
            run = GuidedSampler(generator, classifier, config)
            videos[step_size] = run(
                PROMPTS, [0, 1], COMPOSITIONS, steps=self.steps, guidance_scale=self.guidance_scale
            ).video_BCFHW
        final = generator.unpack(self.plain(generator, "latent"), self.size)
        assert torch.equal(videos[0.0], generator.decode_latents(final).cpu())
        assert not torch.allclose(videos[0.2], videos[0.0], atol=1e-3)
        assert torch.isfinite(videos[0.2]).all()


class FirstOrder(Conformance):
    """Families whose pipeline takes the schedule's own steps, with no memory of earlier ones."""

    def test_the_pipeline_without_guidance_is_our_replay(self, generator: Generator, latents: Tensor) -> None:
        """Prediction, timesteps and levels together."""
        schedule, states = generator.schedule(self.steps, self.size), generator.encode_prompts(PROMPTS)
        ours, _ = replay(latents, schedule, lambda z, i: generator.predict(z, schedule.timesteps[i], states))
        theirs = generator.sample(PROMPTS, latents, self.steps, 1.0, self.size)
        assert torch.equal(schedule.timesteps, generator.pipeline.scheduler.timesteps)
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
