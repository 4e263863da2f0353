"""Whatever happens to a shop in whatever order: it ends where one process ends."""

import pytest
from hypothesis import Phase, settings

from tests.promises.random_actions import RandomActions

pytestmark = [pytest.mark.broker, pytest.mark.slow]


class OnTriton(RandomActions):
    """Scores come from a real Triton, which hangs, dies and comes back."""

    SCORERS = ("triton", "triton-versions")


# A few shops of some actions, the first one simple; `make soak` goes on for as long as asked.
# Nothing is shrunk: each try takes half a minute.
_FEW = {"phases": [Phase.generate], "deadline": None}

TestRandomActions = RandomActions.TestCase
TestRandomActions.settings = settings(max_examples=3, stateful_step_count=10, **_FEW)

TestOnTriton = OnTriton.TestCase
TestOnTriton.settings = settings(max_examples=2, stateful_step_count=8, **_FEW)
TestOnTriton.pytestmark = [pytest.mark.triton, pytest.mark.usefixtures("tritonserver")]
