"""The whole app: one page a route, and the endpoints for programs."""

from __future__ import annotations

from collections.abc import Sequence

import gradio as gr

from ..catalogue import Catalogue
from ..inspection import Inspector
from .api import add_endpoints
from .best_of_n import best_of_n_page
from .compare import compare_page
from .dataset import dataset_page
from .inspect import Example, inspect_page
from .review import review_page
from .workbench import Workbench


def build_app(
    catalogue: Catalogue | None, examples: Sequence[Example] = (), workbench: Workbench | None = None
) -> gr.Blocks:
    """The pages and endpoints of the first model of the catalogue, and the pages of what the workbench holds.

    Opens the model; computes nothing. Without a catalogue the Dataset page is the first one, and no model is needed.

    Raises:
        ModelLoadError: if it cannot be opened.
    """
    inspector = Inspector(catalogue.open(catalogue.names[0])) if catalogue else None
    bench = workbench or Workbench()
    main = "Inspect" if inspector else "Dataset"
    with gr.Blocks(title="sentrm", analytics_enabled=False) as app:
        if inspector:
            add_endpoints(inspector)
        public = set(app.fns)
        gr.Navbar(main_page_name=main)
        if inspector:
            inspect_page(app, inspector, examples, bench)
        else:
            dataset_page(app, bench)
    if catalogue and inspector:
        with app.route("Best of N", "/best-of-n"):
            gr.Navbar(main_page_name=main)
            best_of_n_page(app, inspector, examples)
        with app.route("Compare", "/compare"):
            gr.Navbar(main_page_name=main)
            compare_page(app, catalogue, inspector, examples)
        with app.route("Dataset", "/dataset"):
            gr.Navbar(main_page_name=main)
            dataset_page(app, bench, inspector.scorer)
    if bench.reviews:
        with app.route("Review", "/review"):
            gr.Navbar(main_page_name=main)
            review_page(app, bench, inspect=inspector is not None)
    for number, event in app.fns.items():
        if number not in public:  # a page's own, of no use to a program
            event.api_visibility = "private"
    return app
