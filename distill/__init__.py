"""Stage two: train a text-only student on its task and on a cache's features. No teacher is called.

The public names stand in `__init__.pyi`, one import each; `pipelines` and the README use no others. A name is imported
when it is first used, so that importing this package costs nothing and loads no torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
