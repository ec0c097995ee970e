"""Formulas as MathML, by docutils' own converter: no script, no network, no LaTeX."""

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml


def _formula(self, node: nodes.Element) -> None:
    text = node.astext()
    if isinstance(node, nodes.math_block):
        self.body.append(f'<div class="formula">{tex2mathml(text, as_block=True)}</div>')
    else:
        self.body.append(tex2mathml(text))
    raise nodes.SkipNode


def setup(app) -> dict:
    app.add_html_math_renderer("mathml", (_formula, None), (_formula, None))
    return {"version": "1", "parallel_read_safe": True}
