"""Sphinx settings of the documentation. `./launch/docs.sh` builds it."""

import os
import re
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "_ext"), str(HERE.parent)]

# Of the notebooks: small_model.py, this checkout, the environment's commands, and no network.
_paths = [HERE / "tutorials", HERE.parent, *filter(None, [os.environ.get("PYTHONPATH")])]
os.environ["PYTHONPATH"] = os.pathsep.join(map(str, _paths))
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# They compile much and compute little, see tests/conftest.py.
os.environ.setdefault(
    "XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
)

project = "gemb"
author = "the gemb authors"
copyright = "the gemb authors, Apache-2.0"
_init = (HERE.parent / "gemb" / "__init__.py").read_text(encoding="utf-8")
release = version = re.search(r'__version__ = "([^"]+)"', _init)[1]

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "mathml",
    "fill",
    "docstrings",
]
exclude_patterns = ["_build", "_ext"]
nitpicky = True
# Docstrings name types of JAX and numpy, and private modules.
nitpick_ignore_regex = [("py:.*", r".*")]

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
# Without execution a notebook does not know its language; one `query` is a field of two classes.
suppress_warnings = ["config.cache", "myst-nb.lexer", "ref.python"]

# Notebooks run again only when their text changes.
nb_execution_mode = "cache"
nb_execution_timeout = 600
nb_execution_raise_on_error = True
nb_execution_in_temp = True
nb_output_stderr = "remove"  # progress bars
nb_merge_streams = True

autodoc_typehints = "none"
autodoc_member_order = "bysource"
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
napoleon_attr_annotations = False

html_math_renderer = "mathml"
html_theme = "furo"
html_title = "gemb"
html_static_path = ["_static"]
html_css_files = ["gemb.css"]
html_copy_source = False
html_show_sourcelink = False
