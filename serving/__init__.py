"""Models behind one `Predictor` protocol: embedded in the process, or a fake that answers by rule.

The only package that imports onnxruntime. It knows paths as arrays and nothing of Kafka.
"""
