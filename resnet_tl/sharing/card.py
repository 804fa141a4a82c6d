"""A model card in the format of the Hugging Face hub: what a model is, how good and how sure, and what it is not for.

The card is written from a bundle, and says more where the run around it is at hand. Metadata are those of
`huggingface_hub.ModelCardData`; results have the schema of its `EvalResult`. The headings follow Mitchell et al. 2019,
Model Cards for Model Reporting, arXiv 1810.03993. Whatever comes from a file is escaped, and no path of this machine
is written.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from resnet_tl.bundle import Bundle
from resnet_tl.errors import listed
from resnet_tl.evaluation.accuracy import number_rows
from resnet_tl.evaluation.predictions import label_numbers, probabilities
from resnet_tl.evaluation.uncertainty.calibration import at_temperature
from resnet_tl.evaluation.uncertainty.judged import Judged
from resnet_tl.evaluation.words import SPLITS, counted
from resnet_tl.notebook import DAMAGED, network_name
from resnet_tl.sharing import limits, measured
from resnet_tl.sharing.info import accuracies_of, calibration_words, name_of, preprocessing_words, run_around
from resnet_tl.sharing.licences import base_models, licence_of_model, licence_sentences, origins
from resnet_tl.sharing.markdown import bullets, plain, table, without_folders
from resnet_tl.sharing.training import training_rows, verdict_of

MOST_ROWS = 40
"""Classes up to which each has a row; of more the weakest ones have one."""


@dataclass(frozen=True)
class Stated:
    """What only the maker of a model can say, and where it will lie."""

    licence: str | None = None
    data_licence: str | None = None
    repository: str = "OWNER/NAME"


class Card:
    """The card of a run, a bundle or a zip of one; `text` is the whole of it."""

    def __init__(self, path: str | Path, stated: Stated | None = None) -> None:
        self.bundle = Bundle.open(path)
        self.stated = stated or Stated()
        self.name = plain_name(name_of(Path(path)))
        self.run = run_around(Path(path), self.bundle)
        self.accuracies = accuracies_of(self.bundle)
        self.repeats = bool(self.bundle.validation.get("repeats"))

    @cached_property
    def judged(self) -> Judged | None:
        """What the bundle keeps of validation images; None where there are none."""
        return Judged(**self.bundle.load_validation()) if self.bundle.validation else None

    @cached_property
    def numbers(self) -> list[measured.Number]:
        """What those images say of the model; none where there are none."""
        if self.judged is None:
            return []
        metrics = self.bundle.metrics.get("val", {})
        return measured.numbers_of(self.judged, len(self.bundle.classes), metrics, self.bundle.temperature)

    @cached_property
    def tested(self) -> list[measured.Number]:
        """What the test images say, by the predictions that the run holds; none of a bundle alone."""
        with suppress(*DAMAGED):
            table = self.run.predictions("test") if self.run and "test" in self.accuracies else None
            if table is not None:
                shares = at_temperature(probabilities(table), self.bundle.temperature)
                judged, metrics = Judged.of(label_numbers(table), shares), self.bundle.metrics["test"]
                return measured.numbers_of(judged, len(self.bundle.classes), metrics, self.bundle.temperature)
        return []

    @property
    def text(self) -> str:
        """Front matter and page."""
        parts = [self._beginning(), self._use(), self._numbers(), self._sure(), self._classes(), self._data()]
        parts += [self._limits(), self._licences(), self._training()]
        return f"---\n{self.metadata()}\n---\n\n" + "\n\n".join(part for part in parts if part) + "\n"

    def metadata(self) -> str:
        """The front matter, YAML."""
        from huggingface_hub import EvalResult, ModelCardData

        data, results = self.bundle.data, []
        for split, named in self._results().items():
            for number in named:
                results.append(
                    EvalResult(
                        task_type="image-classification",
                        task_name="image classification",
                        dataset_type="imagefolder",
                        dataset_name=plain_name(data.get("root") or "images"),
                        dataset_split=SPLITS[split],
                        metric_type=number.hub,
                        metric_name=number.name,
                        metric_value=round(number.value, 4),
                        metric_args={"average": "macro"} if number.hub == "f1" else None,
                    )
                )
        licence = licence_of_model(self.stated.licence)
        card = ModelCardData(
            license=licence.get("license"),
            license_name=licence.get("license_name"),
            library_name="resnet-tl",
            pipeline_tag="image-classification",
            tags=["image-classification", "resnet-tl", self.network, "safetensors"],
            base_model=base_models(self.bundle.weights) or None,
            metrics=list(dict.fromkeys(result.metric_type for result in results)) or None,
            model_name=self.name if results else None,
            eval_results=results or None,
        )
        return card.to_yaml()

    def _results(self) -> dict[str, list[measured.Number]]:
        """The numbers of each split that the hub knows, of images that this very model was not trained on."""
        found = {}
        if self.numbers and not self.repeats:
            found["val"] = [number for number in self.numbers if number.hub]
        if "test" in self.accuracies:
            tested, metrics = self.accuracies["test"], self.bundle.metrics["test"]
            found["test"] = [measured.Number("accuracy", tested.share, str(tested), "accuracy")]
            if "macro_f1" in metrics:
                found["test"].append(measured.Number("macro F1", metrics["macro_f1"], "", "f1"))
        return found

    @property
    def network(self) -> str:
        """Its name; that of a user's own class without its module."""
        found = network_name(self.bundle.network)
        return plain_name(found if "name" in self.bundle.network else found.rpartition(".")[2])

    def _beginning(self) -> str:
        sources = [source for source, _ in origins(self.bundle.weights) if source not in ("none", "as given")]
        began = f", which began with the weights {plain(', '.join(sources))}" if sources else ""
        kind = f"a {plain(self.network)}{began}"
        return (
            f"# {plain(self.name)}\n\nAn image classifier: it says which of {len(self.bundle.classes):,} classes an "
            f"image is most likely of, and how likely. It is {kind}, made by "
            f"{plain(self.bundle.made_by or 'resnet-tl')}."
        )

    def _use(self) -> str:
        place = self.stated.repository.rpartition("/")[2]
        return (
            "## How to use it\n\n```sh\n"
            f"resnet-tl pull {self.stated.repository}\n"
            f"resnet-tl predict {place} photo.jpg\n"
            "```\n\nor in Python:\n\n```python\nfrom resnet_tl import Predictor\n\n"
            f'Predictor("{place}").predict("photo.jpg")\n```\n\n'
            f"The network sees {preprocessing_words(self.bundle.preprocessing)}; both ways do that"
            f"{', and calibrate the probabilities' * (self.bundle.temperature != 1)}. The folder holds no code and no "
            "pickle."
        )

    def _numbers(self) -> str:
        parts = ["## How good it is"]
        if self.judged is not None:
            whose = "not used to train the weights"
            if self.repeats:
                whose = (
                    "judged by the run that this one repeats: the same recipe without these images. This model was "
                    "trained on them too, and no image has judged it itself"
                )
            parts.append(f"On {counted(len(self.judged), 'validation image')}, {whose}:")
            rows = [[number.name, number.text] for number in self.numbers]
            parts.append(table(["", "value [95 % interval]"], rows, [1]))
        else:
            parts.append("No validation images were kept with it, so that this card has no numbers of them.")
        if "test" in self.accuracies:
            tested, metrics = self.accuracies["test"], self.bundle.metrics["test"]
            header, rows = ["", "value [95 % interval]"], [[number.name, number.text] for number in self.tested]
            if not rows:
                header, rows = number_rows({"test": metrics}, {"test": tested})
            parts.append(f"On {counted(tested.images, 'test image')}, which had no part in training or choosing:")
            parts.append(table(header, [[*map(plain, row)] for row in rows], [1]))
        return "\n\n".join(filter(None, [*parts, bullets(self._findings())]))

    def _findings(self) -> list[str]:
        """The report's verdict, or what the bundle alone says beside a number."""
        if self.run and (verdict := verdict_of(self.run)):
            return [plain(text) for text in (verdict.result, verdict.caution, *verdict.further)]
        found = [text for own in self.accuracies.values() for text in own.warnings()]
        found += [own.baseline()] if (own := self.accuracies.get("val")) else []
        if "val" in self.bundle.metrics:
            found.append(
                "Validation images may well have chosen epoch or penalty, which flatters their numbers a little."
            )
        if self.accuracies and not self.run:
            found.append("How simpler models do on the same images is not known here; a card of the whole run says it.")
        return [plain(text) for text in found]

    def _sure(self) -> str:
        if self.judged is None:
            return ""
        sentences = ["All of this is of the run that this one repeats."] if self.repeats else []
        sentences.append(f"Calibration: {plain(calibration_words(self.bundle.calibration))}.")
        sentences.append(plain(measured.sureness(self.judged)))
        sentences += limits.answering(self.judged, self.repeats)
        if self.bundle.reference:
            sentences.append(
                "It compares each image with training images on its features: `predict` says in `familiarity` how many "
                "of the validation images look as strange, and marks what looks like nothing it was trained on."
            )
        return "## How sure it is\n\n" + bullets(sentences)

    def _classes(self) -> str:
        """A row for each class, or for the weakest ones."""
        trained = self._counts("train")
        found = [] if self.judged is None else measured.per_class(self.judged, self.bundle.classes)
        judged = {one.name: one for one in found}
        names: Sequence[str] = self.bundle.classes
        said = ""
        if len(names) > MOST_ROWS:
            said = f"There are {len(names):,} classes, all named in `model.json`. "
            shown = [one.name for one in measured.weakest(found, MOST_ROWS)] or names[:MOST_ROWS]
            said += "Those judged worst:" if judged else "The first ones:"
            names = shown
        rows = []
        for name in names:
            row = [plain(name), f"{trained[name]:,}" if name in trained else ""]
            if judged:
                one = judged[name]
                row += [f"{one.images:,}", one.text, plain(one.taken_for) if one.taken_for else ""]
            rows.append(row)
        header = ["class", "training images"]
        header += ["validation images", "judged correctly [95 % interval]", "mostly taken for"] if judged else []
        parts = ["## Classes", said, table(header, rows, [1, 2, 3])]
        if self.judged is not None and (pairs := measured.confused(self.judged, self.bundle.classes)):
            parts.append(f"Mixed up most: {plain('; '.join(pairs))}.")
        return "\n\n".join(part for part in parts if part)

    def _counts(self, split: str) -> dict[str, int]:
        counts = self.bundle.data.get("counts", {})
        own = counts.get(split, {}) if isinstance(counts, dict) else {}
        return {name: number for name, number in own.items() if isinstance(number, int)}

    def _data(self) -> str:
        data, rows = self.bundle.data, []
        if not data:
            return ""
        images = [f"{sum(self._counts(split).values()):,} {SPLITS[split]}" for split in SPLITS if self._counts(split)]
        rows.append(["folder", without_folders(data.get("root", ""))])
        rows.append(["images", ", ".join(images)])
        rows.append(["layout", without_folders(data.get("layout", ""))])
        if isinstance(side := data.get("short_side_median"), int | float):
            rows.append(["short side, median", f"{side:g} pixels"])
        rows.append(["left out as unusable", f"{data['skipped']:,}" if data.get("skipped") else ""])
        rows.append(["fingerprint of the files", str(data.get("fingerprint", ""))])
        shown = [[name, plain(text)] for name, text in rows if text]
        where = "Where the images come from, and who took and labelled them, is not stated here."
        return f"## Data\n\n{table(['', ''], shown)}\n\n{where}"

    def _limits(self) -> str:
        found = limits.limits_of(self.bundle, self.judged, self._counts("train"))
        not_for = limits.not_for(self.judged, bool(self.bundle.reference))
        return (
            f"## Limits\n\n{bullets([plain(text) for text in found])}\n\n"
            f"## What it should not be used for\n\n{bullets([plain(text) for text in not_for])}"
        )

    def _licences(self) -> str:
        found = licence_sentences(self.bundle.weights, self.stated.licence, self.stated.data_licence)
        return f"## Licences\n\n{bullets(found)}"

    def _training(self) -> str:
        rows = training_rows(self.run, self.bundle)
        return "## How it was trained\n\n" + table(["", ""], [[plain(name), plain(text)] for name, text in rows])


def plain_name(text: object) -> str:
    """A text of one line for the metadata: without control characters and folders of this machine."""
    return without_folders(listed([text]))
