"""MLPerf Inference: image classification measured by LoadGen, logged and laid out as a submission is.

``nybble mlperf run`` is :func:`nybble.mlperf.run.run`. LoadGen runs in a process of its own (``worker``), which is
handed photos as a mapped file (``store``) and answers with addresses (``sut``). Reading and checking logs
(``result``, ``accuracy``, ``check``) needs no LoadGen.
"""

from nybble.mlperf.errors import MlperfError

__all__ = ["MlperfError"]
