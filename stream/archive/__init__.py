"""The archive: accepted clicks and decisions as Parquet; training reads what the worker saw.

    ROOT/clicks/day=2026-01-31/bucket=3/clicks-0-00000000000000012345.parquet
    ROOT/decisions/day=2026-01-31/bucket=3/decisions-0-00000000000000000017.parquet
    ROOT/_archive/   what the archive needs for itself: archive.json, journals, unfinished files

Rules

1.  The archive is a reader of its own: a consumer group, states and changelogs of its own. That it
    is slow, or down, changes nothing for the shop; it goes on where it was.
2.  A click is accepted if the worker's `parse` and `push` accept it, with the worker's window, in
    the order of the partition. They run here again, with the users' paths as the state. The present
    that `parse` asks for is the record's own timestamp, so that reading again gives the same rows.
3.  A decision is archived once. A worker that crashed repeats decisions under their ids; one whose
    cause is not behind that of its user's last one, on the topic of clicks, is such a repetition
    (of an older worker, which names no cause: one that is not newer by event time and event hash).
    A tombstone says that the user was erased; its own cause is what is kept then, by the mark, so
    that neither a decision from before nor a tombstone that is repeated begins anything anew.
4.  Rows are kept in memory up to a limit of bytes, and for a limited time. Then the rows of a
    partition are published, then the states go to the changelogs, then the offsets are committed.
5.  Publishing: the files are written aside, one at a time; the partition's journal is replaced, in
    one step, by one that names them and the offset up to which rows are archived; then they are
    moved in place. A crash before the journal leaves nothing but garbage, which the next reader of
    the partition removes; a crash after it leaves moves, which the next reader makes. Rows below
    the journal's offset are never written again. So no crash loses or doubles a row.
6.  A file is named after its topic, its partition and the first offset of the rows published with
    it. Its rows are in order of offset; those of one user, over all files of a topic's partition,
    are in the order in which they were pushed.
7.  The day is the UTC day of the event time. The bucket is a hash of the user id, the same for all
    days, so that the path of a user can be replayed from the files of one bucket.
8.  One group writes to one archive, with one number of buckets. A journal that does not fit the
    topic (made anew, other offsets) or that somebody else has changed stops the reader.
"""
