"""The shop of a state machine: opened, done to, and judged at the end.

`DONE` counts what was done; the actions of a shop that fails are printed.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Coroutine, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, Final, TypeVar

from hypothesis import strategies as st
from hypothesis.errors import HypothesisException
from hypothesis.stateful import RuleBasedStateMachine, initialize

from clickpath import simulation
from clickpath.encoding import Encoder
from clickpath.errors import FatalError
from clickpath.logs import RawLine
from serving.card import read_card
from serving.embedded import EmbeddedPredictor, shipped_model
from serving.predictor import Predictor
from stream.models.record import ACTIVE_KEY, Standing, standing_from_json
from stream.process import WorkerProcess
from tests.promises.installation import Installation, Kind, Scorer
from tests.promises.judgement import Allowed, judge
from tests.promises.shop import lines_of
from tests.promises.versions import models, run_command

T = TypeVar("T")

USERS: Final = 40

#: What `clickpath models` may answer to somebody who does not look first.
_REFUSALS: Final = ("is being tried", "is the champion already", "nothing to go back to")

#: What was done since the program began, over all machines; `soak` prints it.
DONE: Counter[str] = Counter()


class Stage(RuleBasedStateMachine):
    """A machine without rules.

    Attributes:
        BROKER, MODE: What shops run on, and how they deliver.
        SCORERS, STORES: What they may be made of.
        LOGS: Where the workers' log of a shop that fails is kept; None for nowhere.
    """

    BROKER: ClassVar[str] = "embedded"
    MODE: ClassVar[str] = "at-least-once"
    SCORERS: ClassVar[Sequence[Scorer]] = ("one", "versions", "hurried")
    STORES: ClassVar[Sequence[str]] = ("memory",)
    LOGS: ClassVar[Path | None] = None

    def __init__(self) -> None:
        super().__init__()
        self._runner = asyncio.Runner()
        self._folder = tempfile.TemporaryDirectory()
        self._lines: list[RawLine] = []
        #: Place among the lines of what was sent before the newest erasure: no copies of that, for
        #: it would make a decision of its own under the same id.
        self._copied_from = 0
        self._restarted_at = 0
        self._promoted = False
        self._sending: asyncio.Task[None] | None = None
        self._shop: Installation | None = None
        self._begun_s = time.monotonic()
        self._actions: list[str] = []

    @initialize(seed=st.integers(0, 1 << 16), data=st.data())
    def open(self, seed: int, data: st.DataObject) -> None:
        kind = Kind(
            broker=self.BROKER,
            mode=self.MODE,
            scorer=data.draw(st.sampled_from(self.SCORERS), "scorer"),
            store=data.draw(st.sampled_from(self.STORES), "store"),
            named=self.BROKER == "apache-kafka" and data.draw(st.booleans(), "named"),
            standby=data.draw(st.booleans(), "standby"),
        )
        self._did("shops", f"{kind}, seed {seed}")
        DONE[f"shops_{kind.scorer}"] += 1
        DONE["shops_with_standby"] += kind.standby
        self._at = self._shop = Installation(kind, Path(self._folder.name))
        self._run(self._at.open())
        self._clicks = lines_of(simulation.simulate(60_000, USERS, seed=seed))
        self._next = iter(self._clicks)
        self._send(list(islice(self._next, 500)))
        self._run(self._ready(self._run(self._at.join())))

    # The end

    def teardown(self) -> None:
        """Brings everything back, lets it finish, and compares."""
        try:
            if self._shop is not None and sys.exception() is None:
                self._compare()
        finally:
            error = sys.exception()
            # With some of its own hypothesis ends what it does not want to draw any further.
            if isinstance(error, Exception) and not isinstance(error, HypothesisException):
                self._tell()
            if self._sending is not None:
                self._sending.cancel()
            if self._shop is not None:
                self._run(self._shop.close())
            self._runner.close()
            self._folder.cleanup()

    def _compare(self) -> None:
        at, shop = self._at, self._at.shop
        if at.triton is not None and not at.triton_answers:
            self._run(at.return_triton())
        while at.paused:
            at.wake()
        self._revive()
        if not at.workers:
            self._run(self._ready(self._run(at.join())))
        last = self._one_model() if at.versions else None
        place = len(self._lines)
        self._send(list(islice(self._next, 200)))
        shop.produced = max(shop.produced, self._run(shop.lying()))
        self._run(self._handled())
        for worker in [*at.workers]:
            self._run(at.leave(worker))
        allowed = Allowed(
            models=self._run(self._models_seen()),
            failing=at.failing,
            repeats=not at.transactional,
            last=None if last is None else (place, last),
        )
        seen = self._run(judge(shop, self._lines, allowed))
        self._did("compared", dict(seen))
        DONE.update(seen)

    async def _handled(self) -> None:
        """Waits for it; one that was fenced while it slept may find that out only now."""
        while True:
            [*_, worker] = self._at.workers.values()
            try:
                return await self._at.shop.handled(worker, timeout_s=300)
            except AssertionError:
                ended = await self._at.revive()
                if not ended:
                    raise
                self._did("ended_by_itself", ended, ended)

    def _one_model(self) -> str:
        """Ends a rollout, and waits until all workers know; the model that decides from now on."""
        self._models("rollback")
        champion = self._run(models(self._at.shop, "status")).get("champion")
        digest = str(champion or read_card(shipped_model()).digest)
        self._run(self._until_decides(digest))
        return digest

    async def _until_decides(self, digest: str) -> None:
        async with asyncio.timeout(240):
            for worker in self._at.workers.values():
                while worker.exit_code is None:
                    samples = await worker.samples()
                    shares = [label for name, label in samples if name == "model_share"]
                    if shares == [digest]:
                        break
                    await asyncio.sleep(0.2)

    async def _models_seen(self) -> dict[str, Predictor]:
        """The models that may have decided, by the topic of models."""
        shop, encoder = self._at.shop, Encoder(self._at.shop.settings.window)
        predictors: list[Predictor] = [EmbeddedPredictor(shipped_model(), encoder)]
        if self._at.versions:
            standings: list[Standing] = [
                standing_from_json(record.value)
                for record in await shop.on(shop.settings.models_topic)
                if record.key == ACTIVE_KEY and record.value is not None
            ]
            names = {each.champion for each in standings}
            names |= {each.candidate for each in standings if each.candidate and each.share_pct}
            directory = self._at.site.directory_of
            predictors += [EmbeddedPredictor(directory(name), encoder) for name in sorted(names)]
        return {each.digest: each for each in predictors}

    # What the rules are made of

    def _revive(self) -> int:
        ended = self._run(self._at.revive())
        if ended:
            self._did("ended_by_itself", ended, ended)
        return ended

    async def _ready(self, worker: WorkerProcess) -> None:
        try:
            await worker.wait_ready(240)
        except FatalError:
            assert worker.exit_code is not None, worker.log_tail(40)
            assert self._at.excused, worker.log_tail(40)

    def _models(self, *arguments: str) -> None:
        code, said = self._run(run_command(self._at.shop, "models", *arguments))
        assert code == 0 or any(refusal in said for refusal in _REFUSALS), said
        DONE["refused_by_models"] += code != 0

    async def _begin_to_send(self, lines: list[RawLine], events_per_s: float) -> None:
        """Sends on while other things happen; a producer waits for brokers once it knows one."""
        begun = asyncio.Event()

        def told() -> Iterator[RawLine]:
            begun.set()
            yield from lines

        self._sending = asyncio.create_task(self._at.shop.produce(told(), events_per_s))
        waiting = asyncio.create_task(begun.wait())
        await asyncio.wait([self._sending, waiting], return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()

    async def _sent(self) -> None:
        """Waits until everything is sent of which that was said."""
        sending, self._sending = self._sending, None
        if sending is not None:
            await sending

    def _send(self, lines: list[RawLine]) -> None:
        self._run(self._sent())
        self._run(self._at.shop.produce(lines))
        self._lines += lines

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(coroutine)

    def _did(self, what: str, how: object = "", count: int = 1) -> None:
        DONE[what] += count
        self._actions.append(f"{time.monotonic() - self._begun_s:7.1f} s  {what} {how}".rstrip())

    def _tell(self) -> None:
        print("\na shop failed, to which was done:", *self._actions, sep="\n", file=sys.stderr)
        if self._shop is not None and self.LOGS is not None and self._shop.log.exists():
            self.LOGS.mkdir(parents=True, exist_ok=True)
            kept = self.LOGS / f"worker-{time.time_ns()}.log"
            shutil.copy(self._shop.log, kept)
            print(f"what its workers said: {kept}", file=sys.stderr, flush=True)
