"""Taking a model elsewhere: ONNX, torch.export, OpenVINO and int8, each verified in its own runtime."""
