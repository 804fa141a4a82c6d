"""Under which licences a model stands: of the weights it began with, of its images, and of itself."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from resnet_tl.sharing.markdown import plain, without_folders

# The identifiers of the Hugging Face hub, https://huggingface.co/docs/hub/repositories-licenses (November 2026).
KNOWN = frozenset(
    """apache-2.0 mit openrail bigscience-openrail-m creativeml-openrail-m bigscience-bloom-rail-1.0
    bigcode-openrail-m afl-3.0 artistic-2.0 bsl-1.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear c-uda cc cc0-1.0
    cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0
    cc-by-nd-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cdla-sharing-1.0
    cdla-permissive-1.0 cdla-permissive-2.0 wtfpl ecl-2.0 epl-1.0 etalab-2.0 eupl-1.1 agpl-3.0 gfdl gpl gpl-2.0 gpl-3.0
    lgpl lgpl-2.1 lgpl-3.0 isc lppl-1.3c ms-pl mpl-2.0 odc-by odbl openrail++ osl-3.0 postgresql ofl-1.1 ncsa unlicense
    zlib pddl lgpl-lr unknown other""".split()  # noqa: SIM905
)
NO_COMMERCE = re.compile(r"\b(nc|non-?commercial)\b", re.IGNORECASE)
_ON_HUB = re.compile(r"(?:hf-hub:)?([A-Za-z0-9][\w.-]*/[\w.-]+)(?:@.*)?")


def origins(weights: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Source and licence of the weights that a network began with, of several networks side by side each one's."""
    each = [part for part in weights.get("each") or [] if isinstance(part, Mapping)] or [weights]
    found = [(without_folders(part.get("source") or "none"), str(part.get("licence") or "")) for part in each]
    return list(dict.fromkeys(found))


def base_models(weights: Mapping[str, Any]) -> list[str]:
    """The models on the hub that a network began with; none where they are not known to be there."""
    sources = [source for source, _ in origins(weights) if source.startswith(("timm/", "hf-hub:"))]
    return [match[1] for source in sources if (match := _ON_HUB.fullmatch(source))]


def licence_of_model(given: str | None) -> dict[str, str]:
    """`license` of the card's metadata: what its maker has stated, and nothing else.

    One that the hub has no identifier of is `other`, and then has a `license_name`.
    """
    if not given:
        return {}
    if given.lower() in KNOWN:
        return {"license": given.lower()}
    return {"license": "other", "license_name": re.sub(r"[^a-z0-9.]+", "-", given.lower()).strip("-") or "own"}


def licence_sentences(weights: Mapping[str, Any], given: str | None, of_data: str | None) -> list[str]:
    """What is known of each licence, and plainly what is not."""
    own = f"This model: {plain(given)}." if given else "This model: its maker has not stated a licence of its own."
    found = [own, *map(_of_weights, origins(weights))]
    data = (
        plain(of_data) if of_data else "not stated. Ask before you rely on being allowed to use what was made of them"
    )
    return [*found, f"The images that it was trained on: {data}."]


def _of_weights(origin: tuple[str, str]) -> str:
    source, licence = origin
    if source == "none":
        return "The weights that it began with: random ones, which have no licence."
    if source == "as given":
        return "The weights that it began with: random ones, or its maker's own."
    name = f"The weights that it began with, {plain(source)}:"
    if licence.lower() in ("", "unknown"):
        return f"{name} their licence is not known."
    if NO_COMMERCE.search(licence):
        return (
            f"{name} {plain(licence)}, which forbids commercial use. This model is made from them: take it to be bound "
            "by that as well."
        )
    return f"{name} {plain(licence)}."
