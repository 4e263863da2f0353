"""`clickpath worker`: reads clicks, decides, sends interventions, until it is told to stop."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from clickpath.encoding import Encoder
from stream.commands.arguments import add_brokers, parser, settings_of, wall_clock_ms
from stream.idle_settings import idle_settings
from stream.log_lines import set_up_logging
from stream.wiring import make_tracer

logger = logging.getLogger(__name__)


def worker(argv: Sequence[str]) -> int:
    """Runs the command."""
    arguments = parser("worker", "Read clicks, keep paths, decide, send interventions.")
    add_brokers(arguments)
    arguments.add_argument("--policy", metavar="FILE", help="default: the shipped policy")
    arguments.add_argument("--model", metavar="DIR", help="a model, `shipped` (default) or `none`")
    arguments.add_argument("--web-port", type=int, metavar="PORT", help="of the health pages")
    options = arguments.parse_args(argv)
    settings = settings_of(
        bootstrap_servers=options.bootstrap_servers,
        policy=options.policy,
        model=options.model,
        web_port=options.web_port,
    )
    set_up_logging(settings)
    for sentence in idle_settings(settings):
        logger.warning("%s", sentence)
    from stream.app import create_app
    from stream.models.wiring import predictor_of_worker
    from stream.running import run_worker

    # Checked before anything is connected: a model that does not fit is one sentence, not a crash.
    predictor = predictor_of_worker(settings, Encoder(settings.window))
    worker = create_app(settings, predictor, wall_clock_ms, make_tracer(settings))
    return run_worker(worker, predictor)
