"""Starts the app: `python app.py`. A Hugging Face Space runs this same file, with the flags of SENTRM_FLAGS."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import socket
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # before gradio is imported: it contacts no host

ASSETS = Path(__file__).parent / "assets"
LOCAL = ("127.0.0.1", "localhost", "::1")
VARIABLE = "SENTRM_FLAGS"
UNITS = {"": 1, "kb": 2**10, "mb": 2**20, "gb": 2**30}


def parser() -> argparse.ArgumentParser:
    """Every flag, its default in brackets. Gradio's own environment variables set the host and port of a Space."""
    flags = argparse.ArgumentParser(
        prog="app.py",
        description="Open the app: look inside a sentence-level reward model in the browser.",
        epilog=f"The environment variable {VARIABLE} holds flags too, quoted as in a shell and read before these. A "
        f"Hugging Face Space has no other place for them: {VARIABLE}='--no-model --audits audits/mine'.",
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
    add("--no-model", action="store_true", help="show audits and take reviews only, without loading a model (off)")
    add("--allow-hub", action="store_true", help="let visitors open models and data of the Hugging Face hub (off)")
    add("--mcp", action="store_true", help="serve the endpoints as MCP tools too (off)")
    data = flags.add_argument_group("preference data")
    add = data.add_argument
    add("--audits", nargs="+", type=Path, default=[], metavar="DIR", help="audit folders, or folders of them (none)")
    add("--data", nargs="+", type=Path, default=[], metavar="PATH", help="files, or folders, visitors may score (none)")
    add("--output", type=Path, metavar="DIR", help="where audits made on the page go (a temporary folder)")
    add("--reviews", type=Path, metavar="FILE", help="the review log, made if it is not there (no Review page)")
    add("--annotators", nargs="+", default=[], metavar="NAME", help="names to choose from without a login (any)")
    add("--max-upload", type=_size, default="200mb", metavar="SIZE", help="most a visitor may upload (%(default)s)")
    entry = flags.add_argument_group("who is let in", "Another --host than localhost needs one of these.")
    add = entry.add_argument
    add("--auth", action="append", default=[], metavar="USER:PASSWORD", help="a login; may be given several times")
    add("--auth-file", type=Path, metavar="FILE", help="logins, one USER:PASSWORD a line, unseen by other users here")
    add("--leads", nargs="+", default=[], metavar="USER", help="who of them see and save everybody's votes (the first)")
    add("--no-auth", action="store_true", help="let everybody in who can reach the host (off)")
    return flags


def main(argv: Sequence[str] | None = None) -> None:
    """Load the model and serve until interrupted. What cannot work ends with one line and exit code 2."""
    try:
        standing = shlex.split(os.environ.get(VARIABLE, ""))
    except ValueError as error:
        _stop(f"{VARIABLE} cannot be read: {error}. Expected flags of --help, quoted as in a shell.")
    args = parser().parse_args([*standing, *(sys.argv[1:] if argv is None else argv)])
    logins = _read_logins(args.auth, args.auth_file)
    space = bool(os.environ.get("SPACE_ID"))
    if logins and args.no_auth:
        _stop("got --no-auth beside a login. Give one of them.")
    if args.host not in LOCAL and not (logins or args.no_auth or space):
        _stop(
            f"--host {args.host} lets others reach this app. Name who may come in with --auth USER:PASSWORD or "
            "--auth-file FILE, or let everybody in with --no-auth."
        )
    names = [name for name, _ in logins]
    if strangers := [name for name in args.leads if name not in names]:
        _stop(f"--leads {strangers[0]} is no login; expected one of {', '.join(names) or '--auth'}.")
    if args.no_model and (args.models or args.mcp):
        _stop("got --no-model beside --models or --mcp, which need one. Leave one of them out.")
    if args.mcp and logins:
        _stop("got --mcp beside a login, which MCP clients cannot give. Leave one of them out.")
    if args.mcp and find_spec("mcp") is None:
        _stop("--mcp needs a package that is not installed: pip install 'gradio[mcp]'")
    _check_port(args.host, args.port)

    from transformers.utils.logging import disable_progress_bar

    from sentrm.catalogue import Catalogue
    from sentrm.errors import SentrmError
    from sentrm.ui.app import build_app
    from sentrm.ui.inspect import read_examples
    from sentrm.ui.serve import SPACE_FRAME, Door, mounted, run
    from sentrm.ui.workbench import Workbench

    disable_progress_bar()
    try:
        workbench = Workbench(
            audits=tuple(args.audits),
            data=tuple(args.data),
            output=args.output,
            reviews=args.reviews,
            annotators=tuple(args.annotators),
            allow_hub=args.allow_hub,
            login_to_review=space,
            leads=tuple(args.leads or names[:1]),
            max_upload=args.max_upload,
        )
        if args.reviews:
            workbench.log()  # what is wrong with it is said before anybody votes
        catalogue = None
        if not args.no_model:
            catalogue = Catalogue(
                args.models,
                args.model,
                args.allow_hub,
                segmenter=args.segmenter,
                device=args.device,
                dtype=args.dtype,
                max_length=args.max_length,
            )
        app = build_app(catalogue, read_examples(ASSETS / "examples.jsonl"), workbench)
    except SentrmError as error:
        _stop(str(error))
    door = Door(
        args.max_upload,
        local=args.host in LOCAL and not (logins or args.no_auth or space),
        framed_by=SPACE_FRAME if space else "",
    )
    served = catalogue.names[0] if catalogue else "audits"
    try:
        run(
            mounted(app, door, auth=logins, mcp_server=args.mcp),
            args.host,
            args.port,
            f"Serving {served} on http://{args.host}:{args.port}",
        )
    except OSError as error:  # the port was taken since it was checked
        _stop(str(error))


def _read_logins(given: Sequence[str], file: Path | None) -> list[tuple[str, str]]:
    """Names and passwords of the flags and the file; a name may stand there once."""
    places = [("--auth", one) for one in given]
    if file:
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            _stop(f"--auth-file {file} cannot be read: {error}")
        places += [(f"line {i} of {file}", line) for i, line in enumerate(lines, start=1) if line.strip()]
        if not places:
            _stop(f"--auth-file {file} holds no login; expected USER:PASSWORD, one a line.")
    logins: dict[str, str] = {}
    for place, text in places:
        name, _, password = text.partition(":")
        if not name.strip() or not password:
            _stop(f"{place} is no login; expected USER:PASSWORD.")  # and what it is stays untold
        if name.strip() in logins:
            _stop(f"{place} gives {name.strip()} a second password. Give one.")
        logins[name.strip()] = password
    return list(logins.items())


def _size(text: str) -> int:
    found = re.fullmatch(r"(\d+) ?([kmg]b|)", text.strip().lower())
    if not found or not int(found[1]):
        raise argparse.ArgumentTypeError(f"got {text!r}; expected a size such as 200mb or 1gb.")
    return int(found[1]) * UNITS[found[2]]


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
