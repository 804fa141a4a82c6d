"""What can be asked of a classifier whose network is built later, for the classes of the images."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch.nn import Parameter

from resnet_tl.errors import UserError
from resnet_tl.training.building import BuiltNetwork
from resnet_tl.training.options import ClassifierOptions


class BuiltLater(ClassifierOptions):
    """Its weights are asked for in vain until there are some: none would be a wrong answer without a word."""

    built: BuiltNetwork | None = None

    def check_built(self) -> None:
        """Raises UserError while there is no network."""
        if self.built is None:
            raise UserError(
                "The model has no network yet, which is built for the classes of the images when a fit begins: fit or "
                "load it first, or name the network and the classes, "
                'ImageClassifier(network="resnet18", classes=[...]).'
            )

    def named_parameters(self, *args: Any, **kwargs: Any) -> Iterator[tuple[str, Parameter]]:
        """As of any module; so are `parameters`, `freeze` and all that goes through it."""
        self.check_built()
        return super().named_parameters(*args, **kwargs)

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """As of any module."""
        self.check_built()
        return super().state_dict(*args, **kwargs)

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """As of any module."""
        self.check_built()
        return super().load_state_dict(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        """What torch does not find; of the network, which is asked for by its name, it would not say why."""
        if name == "network" and "_modules" in self.__dict__:
            self.check_built()
        return super().__getattr__(name)

    def extra_repr(self) -> str:
        """What `print(model)` shows beside the network."""
        mode = f"mode={', '.join(str(phase) for phase in self.schedule.phases)}"
        return mode if self.built else f"network={self.hparams['network']}, {mode}; built when a fit begins"
