"""An agent's name is given and not derived, so that renaming a function changes nothing."""

import pytest

from stream.batch.app import batch_app
from stream.connection import Connection


def test_the_agent_of_a_batch_topic_is_one_and_has_a_name() -> None:
    app = batch_app("names", connection=Connection("127.0.0.1:1"))
    clicks = app.topic("clicks", batch=True)
    with pytest.raises(ValueError, match="name"):
        app.agent(clicks)
    with pytest.raises(ValueError, match="concurrency of 1"):
        app.agent(clicks, name="clicks", concurrency=2)
    with pytest.raises(ValueError, match="exists already"):
        app.topic("clicks", batch=True)
