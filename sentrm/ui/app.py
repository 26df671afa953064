"""The whole app: one page a route, and the endpoints for programs."""

from __future__ import annotations

from collections.abc import Sequence

import gradio as gr

from ..catalogue import Catalogue
from ..inspection import Inspector
from .api import add_endpoints
from .best_of_n import best_of_n_page
from .compare import compare_page
from .inspect import Example, inspect_page


def build_app(catalogue: Catalogue, examples: Sequence[Example] = ()) -> gr.Blocks:
    """The pages and endpoints of the first model of the catalogue. Opens it; computes nothing.

    Raises:
        ModelLoadError: if it cannot be opened.
    """
    inspector = Inspector(catalogue.open(catalogue.names[0]))
    with gr.Blocks(title="sentrm", analytics_enabled=False) as app:
        add_endpoints(inspector)
        public = set(app.fns)
        gr.Navbar(main_page_name="Inspect")
        inspect_page(inspector, examples)
    with app.route("Best of N", "/best-of-n"):
        gr.Navbar(main_page_name="Inspect")
        best_of_n_page(inspector, examples)
    with app.route("Compare", "/compare"):
        gr.Navbar(main_page_name="Inspect")
        compare_page(catalogue, inspector, examples)
    for number, event in app.fns.items():
        if number not in public:  # a page's own, of no use to a program
            event.api_visibility = "private"
    return app
