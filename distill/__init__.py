"""Stage two: train a text-only student on its task and on the features of a cache. No teacher is called.

`__init__.pyi` lists the public names; `pipelines` and the README use no others. A name is imported when it is first
used, so importing this package is fast and does not import torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
