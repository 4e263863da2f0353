"""An engine on Faust that moves records in chunks and keeps state in a compacted changelog.

The rules it keeps:

1. A chunk is acknowledged when its agent asks for the next one, never earlier. An agent that
   raises stops the worker; the chunk stays unacknowledged and comes again after the restart.
2. State changes and offsets are taken for a commit in one step without an await, and only of
   acknowledged chunks. The changelog is acknowledged by the broker before the offsets are
   committed, so what restarts from a committed offset finds at least the state of that offset.
3. State may be newer than the committed offset (a crash between the two): records are then seen
   again. Values that hold the last applied offset make the repetition harmless; nothing here
   hides it.
4. A partition is read only after its state was restored, from the position that the group
   committed. State kept in memory over a rebalance is used again only if the group's position
   is still the one that the state belongs to.
5. When partitions are taken away, the chunk in hand is finished and committed first. What an
   agent writes for a partition that is gone is refused.
6. Nothing is queued between the broker client and the agent: the agent pulls, so that a slow
   agent slows the fetches and no buffer has to be cleared when the assignment changes.
7. Before each write to a changelog the broker is asked whether this worker is still a member of
   its group, so that a worker that slept does not overwrite what the new owner wrote.
8. Agents, group membership, assignment, timers and lifecycle are Faust's; other topics of the
   same application keep Faust's record-at-a-time way.
"""
