"""A stand-in for the providers' APIs on this machine, for tests without keys, network or cost.

>>> import llmlab as lab
>>> from llmlab.testing import ProviderServer
>>> with ProviderServer(answer="Paris") as server:
...     model = lab.model("compatible/any", base_url=server.openai_url)
...     model.generate("What is the capital of France?").text
'Paris'
"""

from llmlab.testing.answers import Answer
from llmlab.testing.faults import Fault
from llmlab.testing.server import ProviderServer, Received

__all__ = ["Answer", "Fault", "ProviderServer", "Received"]
