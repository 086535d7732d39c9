"""Expressions evaluated inside a node of RabbitMQ."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Mapping
from pathlib import Path

from tests.support.machine import patient
from tests.support.releases import server_command

LOOP = """
    Node = '{node}',
    Answer = fun
        ({{value, Text, _}}) when is_binary(Text) -> [<<"ok ">>, Text];
        ({{value, Term, _}}) -> io_lib:format("ok ~0tp", [Term]);
        (Failure) -> io_lib:format("failed ~0tp", [Failure])
    end,
    Loop = fun Loop() ->
        case io:get_line("") of
            Line when is_list(Line) ->
                {{ok, Tokens, _}} = erl_scan:string(Line),
                {{ok, Parsed}} = erl_parse:parse_exprs(Tokens),
                Given = [Parsed, erl_eval:new_bindings()],
                io:put_chars([Answer(rpc:call(Node, erl_eval, exprs, Given, {timeout})), $\\n]),
                Loop();
            _ -> halt()
        end
    end,
    Loop().
"""


class ErlangShell:
    """A node of Erlang that stays connected to RabbitMQ's. To start rabbitmqctl for a question takes half a second of a
    core, and the tests ask some hundreds.
    """

    TIMEOUT = 60
    """Seconds that an answer takes at most on an idle machine."""

    def __init__(self, node: str, env: Mapping[str, str], folder: Path) -> None:
        """:param env: with RabbitMQ's port mapper, and the HOME that holds its cookie."""
        host = node.partition("@")[2]
        loop = LOOP.format(node=node, timeout=int(patient(self.TIMEOUT) * 1000))
        command = [*server_command("erl"), "-noshell", "-hidden", "-sname", f"shell-{node.partition('@')[0]}@{host}"]
        command += ["-kernel", "inet_dist_use_interface", "{127,0,0,1}", "-eval", loop]
        self._lock = threading.Lock()
        with (folder / "shell.log").open("ab") as errors:
            self._process = subprocess.Popen(
                command,
                env=dict(env),
                cwd=folder,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )

    def evaluate(self, expressions: str) -> str:
        """The value of the last expression: a binary as it is, any other term as Erlang writes it.

        :raises RuntimeError: if they fail, or the node cannot be reached.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._lock:
            self._process.stdin.write(" ".join(expressions.split()) + "\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        status, _, text = answer.rstrip("\n").partition(" ")
        if status != "ok":
            raise RuntimeError(f"{expressions} failed: {text or answer or 'the shell ended'}")
        return text

    def close(self) -> None:
        """End it; it ends by itself with whoever started it, too."""
        self._process.kill()
        self._process.wait()
