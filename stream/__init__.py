"""The worker: reads clicks from Kafka, keeps each user's state, sends decisions.

`stream.batch` is the engine under it, `stream.broker` an in-memory broker for tests and demos.
"""
