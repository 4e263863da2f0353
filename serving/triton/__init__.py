"""Models that a Triton Inference Server runs, over gRPC. The only package with tritonclient."""
