"""With what a generator's weights are computed: adapters, quantisation, precision, scheduler; and where they lie."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import try_to_load_from_cache
from huggingface_hub.errors import HFValidationError

from cvg.common.fingerprint import differences, sixteen
from cvg.common.quantised import kind_of
from cvg.generators.flow import is_flow, shift_of_flow, stated_steps


def circumstances(generator: Any) -> dict[str, str]:
    """What maps and videos depend on beside the weights, for a generator's identity.

    Returns:
        ``dtype`` and ``scheduler``; ``lora``, the digest and the strength of each active LoRA, and ``quantisation``,
        the kinds of quantised weights, where there are any.
    """
    found = {
        "dtype": str(generator.dtype).removeprefix("torch."),
        "scheduler": _scheduler(generator.pipeline.scheduler),
    }
    loras = adapters(generator.networks)
    kinds = {kind for network in generator.networks for weight in network.parameters() if (kind := kind_of(weight))}
    found |= {"lora": "; ".join(loras)} if loras else {}
    return found | ({"quantisation": ", ".join(sorted(kinds))} if kinds else {})


def told_differences(ours: Mapping[str, str], theirs: Mapping[str, str] | None) -> str | None:
    """What to say of a generator that computes otherwise than in a classifier's training; None where it does not.

    Args:
        ours: the identity of the generator as it is now.
        theirs: that of the classifier's; None for rules, which were not trained.
    """
    found = [] if theirs is None else differences(ours, theirs)
    if not found:
        return None
    return (
        f"the classifier was trained on this generator, but not as it is loaded now: {'; '.join(found)}; its verdicts "
        "may be less right (docs/changed_weights.md has what such differences cost)"
    )


def _scheduler(scheduler: Any) -> str:
    if stated := stated_steps(scheduler):
        return f"Euler at timesteps {', '.join(f'{each:.6g}' for each in stated)}"
    shift = shift_of_flow(scheduler) if is_flow(scheduler) else None
    return type(scheduler).__name__ + ("" if shift is None else f" with shift {shift:g}")


def adapters(networks: Sequence[Any]) -> list[str]:
    """The active adapters of networks, each as sixteen hexadecimal digits of its weights, and its strength.

    Adapters that are off, or have no strength, are none; those that are merged into the weights are.
    """
    digests: dict[str, Any] = defaultdict(hashlib.sha256)
    strengths: dict[str, set[float]] = defaultdict(set)
    for number, network in enumerate(networks):
        for path, layer in network.named_modules():
            if not (hasattr(layer, "base_layer") and hasattr(layer, "active_adapters")):
                continue
            active = [] if layer.disable_adapters else list(layer.active_adapters)
            for adapter in dict.fromkeys([*getattr(layer, "merged_adapters", []), *active]):
                scaling = float(layer.scaling.get(adapter, 0.0))
                if not scaling:
                    continue
                usual = _usual_scaling(layer, adapter)
                strengths[adapter].add(round(scaling / usual, 4))
                digests[adapter].update(f"{number} {path.replace('_orig_mod.', '')} {usual}".encode())
                for name, weight in sorted(layer.named_parameters()):
                    if not name.startswith("base_layer") and f".{adapter}" in f".{name}":
                        kept = sixteen(weight).bfloat16().float().numpy().tobytes()
                        digests[adapter].update(name.partition(".")[0].encode() + kept)
    return sorted(
        f"{digest.hexdigest()[:16]} at {' and '.join(f'{each:g}' for each in sorted(strengths[adapter]))}"
        for adapter, digest in digests.items()
    )


def _usual_scaling(layer: Any, adapter: str) -> float:
    """The scaling of an adapter of strength 1: alpha / rank in most."""
    alpha, rank = (getattr(layer, name, {}).get(adapter) for name in ("lora_alpha", "r"))
    if not alpha or not rank:
        return 1.0
    return float(alpha / rank**0.5 if getattr(layer, "use_rslora", {}).get(adapter) else alpha / rank)


def folders_of(pipeline: Any, networks: Sequence[Any]) -> list[Path | None]:
    """The folders of this machine that networks were loaded from, as far as the pipeline tells."""
    names = {id(part): name for name, part in pipeline.components.items()}
    source = str(pipeline.config.get("_name_or_path") or "")
    return [_folder(source, names.get(id(network), "")) if source else None for network in networks]


def _folder(source: str, name: str) -> Path | None:
    if Path(source).is_dir():
        return Path(source) / name
    try:
        settings = try_to_load_from_cache(source, f"{name}/config.json")
    except HFValidationError:
        return None
    return Path(settings).parent if isinstance(settings, str) else None
