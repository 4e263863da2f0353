"""Next item from a log of sessions that holds nothing but item ids: a public benchmark's setting.

A session kNN, a small Transformer with co-visit tables inside, and the protocol that compares them.
"""
