"""Whatever happens to a shop in whatever order: it ends where one process ends."""

import pytest
from hypothesis import Phase, settings

from tests.promises.random_actions import RandomActions

pytestmark = [pytest.mark.broker, pytest.mark.slow]

TestRandomActions = RandomActions.TestCase
# Three shops of a dozen actions, the first one simple; `make soak` goes on for as long as asked.
# Nothing is shrunk: each try takes half a minute.
TestRandomActions.settings = settings(
    max_examples=3, stateful_step_count=12, phases=[Phase.generate], deadline=None
)
