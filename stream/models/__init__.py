"""Which model decides: versions are tried beside the champion, step by step, and put back.

`record` says what stands on the models topic and how one record follows from another, `evidence`
what is known of a candidate and when that is too bad; `trial` gathers it, both models on a sample
of live decisions and what came next; `topic` follows the topic; `rollout` is a worker's part in it
all: load, switch, measure, go on, roll back.
"""
