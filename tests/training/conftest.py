"""Settings for the tests of the trainer."""

import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Threads that wait for a busy core would cost more than they bring."""
    torch.set_num_threads(1)
