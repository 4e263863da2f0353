"""The trainer: simulated or recorded clicks, replayed as the worker sees them, become a model.

The only package that imports torch and transformers. The worker never imports it.
"""
