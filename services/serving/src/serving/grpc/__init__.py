"""The Open Inference Protocol over gRPC: translated into requests of `/v2/…`, which the application answers.

Imported only where `SERVING_GRPC_PORT` is set: it needs the extra `grpc` (decision 0032).
"""
