"""The sources of networks: PyTorch modules and ONNX files, each translated into the float ir."""
