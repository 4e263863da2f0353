"""Who gets which partition where partitions have standbys.

Faust's own assignor, with standbys to place, fills some workers up and leaves others without a
partition, and gives a dead worker's partitions to whoever has room, standby or not. Here:

1. A partition stays where it is, as long as nobody has more than one partition more than another.
2. A partition whose worker is gone goes to one of its standbys if there is one, even if that one
   has more than its share then; the next change of the group evens it out.
3. Standbys are workers that have had the partition before, where there are such, and the standbys
   of one worker's partitions are spread over the others: when it dies, its work is, too.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from math import ceil
from typing import Any

from faust.assignor.client_assignment import ClientAssignment, CopartitionedAssignment
from faust.assignor.cluster_assignment import ClusterAssignment
from faust.assignor.partition_assignor import PartitionAssignor

logger = logging.getLogger(__name__)


class StandbyAssignor(PartitionAssignor):
    """Faust's assignor with another way to place partitions; one member runs it for all."""

    _short_of: int | None = None

    def _perform_assignment(self, cluster: Any, member_metadata: Mapping[str, Any]) -> Any:
        clients = {each: self._get_client_metadata(meta) for each, meta in member_metadata.items()}
        topics_of = {each: list(meta.subscription) for each, meta in member_metadata.items()}
        self._tell(len(clients))
        self._update_member_urls(clients)
        before = ClusterAssignment()
        for member, client in clients.items():
            before.add_client(member, topics_of[member], client)
        shares = {each: ClientAssignment(actives={}, standbys={}) for each in clients}
        group_of: dict[str, int] = {}
        groups = self._get_copartitioned_groups(before.topics(), cluster, topics_of)
        for number, (partitions, together) in enumerate(sorted(groups.items())):
            for topics in together:
                group_of.update(dict.fromkeys(topics, number))
                had = before.copartitioned_assignments(topics)
                for member, share in place(had, partitions, self.replicas).items():
                    shares[member].add_copartitioned_assignment(share)
        return self._protocol_assignments(
            shares,
            self._get_changelog_distribution(shares),
            self._get_external_topic_distribution(shares),
            group_of,
        )

    def _tell(self, workers: int) -> None:
        """Says it once for each number of workers that are too few."""
        short_of = workers if workers <= self.replicas else None
        if short_of is not None and short_of != self._short_of:
            logger.warning(
                "too few workers for the standby replicas: %d wanted for each partition, "
                "%d possible with %d in the group",
                *(self.replicas, workers - 1, workers),
            )
        self._short_of = short_of


def place(
    had: Mapping[str, CopartitionedAssignment], partitions: int, replicas: int
) -> dict[str, CopartitionedAssignment]:
    """Shares the partitions of co-partitioned topics out.

    Args:
        had: What each member had before.
        partitions: The number of partitions.
        replicas: Standbys for each partition; there are fewer when there are too few members.

    Returns:
        What each member is to have.
    """
    owner = _owners(had, partitions)
    standbys = _standbys(had, owner, min(replicas, len(had) - 1))
    return {
        member: CopartitionedAssignment(
            actives={each for each, who in owner.items() if who == member},
            standbys={each for each, who in standbys.items() if member in who},
            topics=set(had[member].topics),
        )
        for member in had
    }


def _owners(had: Mapping[str, CopartitionedAssignment], partitions: int) -> dict[int, str]:
    share, larger = divmod(partitions, len(had))
    standing_by = {
        number: sorted(each for each in had if number in had[each].standbys)
        for number in range(partitions)
    }
    owner: dict[int, str] = {}
    for member in sorted(had, key=lambda each: (-len(had[each].actives), each)):
        claimed = [each for each in had[member].actives if each < partitions and each not in owner]
        # What nobody else knows stays first.
        claimed.sort(key=lambda number: (len(standing_by[number]), number))
        room = share + (larger > 0)
        larger -= len(claimed) >= room > share
        owner.update(dict.fromkeys(claimed[:room], member))
    load = Counter(owner.values())
    kept = set().union(*(each.actives for each in had.values()))
    free = [number for number in range(partitions) if number not in owner]
    # Those first whose worker is gone.
    for number in sorted(free, key=lambda number: (number in kept, number)):
        waiting = standing_by[number]
        who = waiting if waiting and number not in kept else had
        owner[number] = min(who, key=lambda each: (load[each], each not in waiting, each))
        load[owner[number]] += 1
    return owner


def _standbys(
    had: Mapping[str, CopartitionedAssignment], owner: Mapping[int, str], replicas: int
) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {number: [] for number in owner}
    if not replicas:
        return found
    actives, load = Counter(owner.values()), Counter[str]()
    for_owner = Counter[tuple[str, str]]()
    most = ceil(len(owner) * replicas / len(had))

    def add(number: int, member: str) -> None:
        found[number].append(member)
        load[member] += 1
        for_owner[owner[number], member] += 1

    for number in sorted(owner):
        most_of_owner = ceil(actives[owner[number]] * replicas / (len(had) - 1))
        knowing = sorted(each for each in had if number in had[each].actives)
        knowing += sorted(each for each in had if number in had[each].standbys)
        for member in dict.fromkeys(knowing):
            if (
                member != owner[number]
                and len(found[number]) < replicas
                and load[member] < most
                and for_owner[owner[number], member] < most_of_owner
            ):
                add(number, member)
    for number in sorted(owner):
        while len(found[number]) < replicas:
            others = set(had) - {owner[number], *found[number]}
            add(
                number,
                min(
                    others,
                    key=lambda member: (
                        for_owner[owner[number], member],
                        load[member],
                        actives[member],
                        member,
                    ),
                ),
            )
    return found
