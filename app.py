"""Starts the app: `python app.py`. A Hugging Face Space runs this same file, without flags."""

from __future__ import annotations

import argparse
import os
import socket
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # before gradio is imported: it contacts no host

ASSETS = Path(__file__).parent / "assets"


def parser() -> argparse.ArgumentParser:
    """Every flag, its default in brackets. Gradio's own environment variables set the host and port of a Space."""
    flags = argparse.ArgumentParser(
        prog="app.py", description="Open the app: look inside a sentence-level reward model in the browser."
    )
    add = flags.add_argument
    port = os.environ.get("GRADIO_SERVER_PORT", "7860")
    add("--model", default=str(ASSETS / "demo-model"), help="folder or hub id of a sentence reward model (%(default)s)")
    add("--host", default=os.environ.get("GRADIO_SERVER_NAME", "127.0.0.1"), help="address to listen on (%(default)s)")
    add("--port", type=int, default=port, help="port to listen on (%(default)s)")
    add("--segmenter", help="rules, rules:de, sat:sat-3l@0.2, tokens, response, … (the one the model was trained with)")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:1 or mps (%(default)s)")
    add("--dtype", default="auto", help="auto, float32, bfloat16 or float16 (%(default)s)")
    add("--max-length", type=int, metavar="TOKENS", help="most tokens a sequence may take (the model's own limit)")
    add("--models", nargs="+", default=[], metavar="FOLDER", help="more models to compare, or folders of models (none)")
    add("--allow-hub", action="store_true", help="let visitors open models of the Hugging Face hub by id (off)")
    add("--mcp", action="store_true", help="serve the endpoints as MCP tools too (off)")
    return flags


def main(argv: Sequence[str] | None = None) -> None:
    """Load the model and serve until interrupted. What cannot work ends with one line and exit code 2."""
    args = parser().parse_args(argv)
    _check_port(args.host, args.port)

    if args.mcp and find_spec("mcp") is None:
        _stop("--mcp needs a package that is not installed: pip install 'gradio[mcp]'")

    from transformers.utils.logging import disable_progress_bar

    from sentrm.catalogue import Catalogue
    from sentrm.errors import SentrmError
    from sentrm.ui.app import build_app
    from sentrm.ui.inspect import read_examples
    from sentrm.ui.look import launch_options

    disable_progress_bar()
    try:
        catalogue = Catalogue(
            args.models,
            args.model,
            args.allow_hub,
            segmenter=args.segmenter,
            device=args.device,
            dtype=args.dtype,
            max_length=args.max_length,
        )
        app = build_app(catalogue, read_examples(ASSETS / "examples.jsonl"))
    except SentrmError as error:
        _stop(str(error))
    try:
        app.launch(
            server_name=args.host,
            server_port=args.port,
            prevent_thread_lock=True,
            quiet=True,
            mcp_server=args.mcp,
            **launch_options(),
        )
    except OSError as error:  # the port was taken since it was checked
        _stop(str(error))
    print(f"Serving {catalogue.names[0]} on http://{args.host}:{args.port}", flush=True)
    app.block_thread()


def _check_port(host: str, port: int) -> None:
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except (OSError, OverflowError) as error:
        _stop(f"cannot listen on {host}:{port} ({error}). Choose another with --port or --host.")


def _stop(message: str) -> NoReturn:
    print(f"app.py: {message}", file=sys.stderr)
    raise SystemExit(2)


if __name__ == "__main__":
    main()
