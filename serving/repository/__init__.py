"""Models as Triton reads them: a repository of versions, and the configuration beside them.

    DIR/
      clickpath/                 one model, by its name
        config.pbtxt             for all its versions; `serving.repository.config`
        1/                       a version, complete from the moment it is there
          model.onnx             the graph
          model.py               with the Python backend: the graph in onnxruntime, on the CPU
          heads.onnx             the graph with all heads, where the model has one
          step-0.onnx, ...       the graphs for one step, where the model has them
          card.json              what the model is
          calibration.json       what its logits were corrected by, where they were
          manifest.json          sha256 of each file; manifest.sig signs it where there is a key

A version's directory is a model directory like any other: `CLICKPATH_MODEL` may name it.
"""
