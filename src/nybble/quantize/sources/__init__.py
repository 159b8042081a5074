"""What a network is read from: PyTorch modules and ONNX files, each translated into the float ir."""
