"""The flags of `python app.py` that say who is let in, and to what."""

from __future__ import annotations

import shlex

import pytest

import app as command

REFUSED = {
    ("--host", "0.0.0.0"): "Name who may come in with --auth USER:PASSWORD or --auth-file FILE, or let everybody in",
    ("--host", "10.1.2.3"): "--host 10.1.2.3 lets others reach this app",
    ("--auth", "ada:x", "--no-auth"): "got --no-auth beside a login",
    ("--auth", "ada"): "--auth is no login; expected USER:PASSWORD",
    ("--auth", ":secret"): "--auth is no login; expected USER:PASSWORD",
    ("--auth", "ada:x", "--auth", "ada:y"): "gives ada a second password",
    ("--auth-file", "/nowhere"): "--auth-file /nowhere cannot be read",
    ("--auth", "ada:x", "--leads", "bo"): "--leads bo is no login; expected one of ada.",
    ("--leads", "bo"): "--leads bo is no login; expected one of --auth.",
    ("--max-upload", "much"): "got 'much'; expected a size such as 200mb",
    ("--max-upload", "0"): "expected a size such as 200mb",
    ("--no-model", "--models", "x"): "got --no-model beside --models",
    ("--mcp", "--auth", "ada:x"): "got --mcp beside a login",
    ("--audits", "/nowhere", "--port", "0"): "--audits /nowhere is no folder",
    ("--data", "/nowhere.json", "--port", "0"): "--data /nowhere.json does not exist",
    ("--reviews", "/nowhere/log", "--port", "0"): "cannot use /nowhere/log",
}


@pytest.mark.parametrize("by_variable", [False, True])
@pytest.mark.parametrize("flags", REFUSED)
def test_what_cannot_be_served_ends_in_one_line(flags, by_variable, capsys, monkeypatch):
    monkeypatch.delenv("SPACE_ID", raising=False)
    monkeypatch.setenv("SENTRM_FLAGS", shlex.join(flags) if by_variable else "")
    with pytest.raises(SystemExit, match="2"):
        command.main([] if by_variable else flags)
    said = capsys.readouterr().err
    assert REFUSED[flags] in said
    assert "secret" not in said


def test_the_command_line_is_read_after_the_variable(capsys, monkeypatch):
    monkeypatch.setenv("SENTRM_FLAGS", "--no-model --audits /nowhere '/no where' --port 0")
    for flags, said in {(): "--audits /nowhere is", ("--audits", "/else"): "--audits /else is"}.items():
        with pytest.raises(SystemExit, match="2"):
            command.main(flags)
        assert said in capsys.readouterr().err
    monkeypatch.setenv("SENTRM_FLAGS", "--auth 'ada:secret")
    with pytest.raises(SystemExit, match="2"):
        command.main([])
    said = capsys.readouterr().err
    assert "SENTRM_FLAGS cannot be read: No closing quotation. Expected flags" in said
    assert "secret" not in said


def test_logins_are_read_from_a_file(tmp_path):
    file = tmp_path / "logins"
    file.write_text("ada:secret\n\n bo :pass:word\n")
    assert command._read_logins(["cy:x"], file) == [("cy", "x"), ("ada", "secret"), ("bo", "pass:word")]
