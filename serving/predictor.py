"""What every predictor is: encoded paths in, scores out, before a deadline."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Protocol

from clickpath.scores import Scores


class Predictor(Protocol):
    """Scores paths in batches.

    The scores of a path do not depend on its neighbours in the batch: not on how many there are,
    nor on their lengths.
    """

    @property
    def digest(self) -> str:
        """16 hexadecimal digits that stand for the model, for every decision's record."""
        ...

    @property
    def encoder_fingerprint(self) -> str:
        """Fingerprint of the encoder whose paths it understands."""
        ...

    async def predict(
        self,
        paths: Sequence[array[int]],
        deadline_s: float,
        *,
        keys: Sequence[bytes] | None = None,
    ) -> Sequence[Scores]:
        """Scores paths; one result each, in the order of the paths.

        Args:
            paths: Encoded paths, each of shape (FEATURES, steps), feature-major; any number.
            deadline_s: Seconds from now after which nobody waits any more.
            keys: Whose paths they are, user ids in UTF-8; for predictors that keep something of
                a user, or that choose a model by user.

        Raises:
            PredictorTimeout: No answer before the deadline. The late one is thrown away.
            PredictorUnavailable: The model cannot be asked, or failed.
        """
        ...

    async def close(self) -> None:
        """Frees threads and connections; further calls raise `PredictorUnavailable`."""
        ...
