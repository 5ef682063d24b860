"""The Open Inference Protocol over gRPC: translated into requests of `/v2/…`, which the application answers.

Imported only where `SERVING_GRPC_PORT` is set: it needs the extra `grpc` (decision 0032).
"""

import os

# Children of this process are other programs: none of them goes on with what gRPC has here, and its log is not ours.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
