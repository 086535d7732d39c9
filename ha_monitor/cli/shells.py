"""Generates the scripts with which shells complete the command line, from the program's commands."""

from __future__ import annotations

from collections.abc import Sequence

from ha_monitor.cli.commands import DYNAMIC, Command, Option
from ha_monitor.events.catalogue import State
from ha_monitor.query.fields import FIELDS, Kind

STATES = " ".join([*State, "open"])
FLAGS = " ".join(name for name, field in FIELDS.items() if field.kind is Kind.FLAG)

_BASH = """\
# bash completion for ha-monitor(8), written by `ha-monitor completion bash`

_ha_monitor_offer() {{
    # $1: what is typed so far, $2: what stands before it, $3…: the values
    local typed=$1 before=$2 value
    shift 2
    for value in "$@"; do
        [[ $value == "$typed"* ]] && COMPREPLY+=("$before$value")
    done
}}

_ha_monitor_known() {{
    # values of the field $1 that the store names at once
    local value known=()
    while IFS= read -r value; do
        known+=("$(printf %q "$value")")
    done < <(ha-monitor completion --values "$1" 2>/dev/null)
    _ha_monitor_offer "$2" "$3" "${{known[@]}}"
}}

_ha_monitor_filter() {{
    local word=$1 field value before
    if [[ $word != *=* ]]; then
        compopt -o nospace 2>/dev/null
        _ha_monitor_offer "$word" "" {fields}
        return
    fi
    field=${{word%%=*}} value=${{word#*=}}
    field=${{field%!}}
    before=${{value%"${{value##*,}}"}}
    [[ $COMP_WORDBREAKS == *=* ]] || before=${{word%%=*}}=$before
    value=${{value##*,}}
    case $field in
        state) _ha_monitor_offer "$value" "$before" {states} ;;
        {flags}) _ha_monitor_offer "$value" "$before" yes no ;;
        {dynamic}) _ha_monitor_known "$field" "$value" "$before" ;;
    esac
}}

_ha_monitor() {{
    local line=${{COMP_LINE:0:COMP_POINT}} previous=$3 command="" argument word takes
    word=${{line##*[[:space:]]}}
    local -A options=(
{options}
    )
    local -A values=(
{values}
    )
    COMPREPLY=()

    for argument in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
        if [[ -n $argument && -n ${{options[$argument]-}} ]]; then
            command=$argument
            break
        fi
    done
    if [[ -z $command ]]; then
        _ha_monitor_offer "$word" "" {commands} {own}
        return
    fi
    if [[ $word == --*=* ]]; then
        previous=${{word%%=*}} word=${{word#*=}}
    fi
    takes=${{values[$command $previous]-}}
    if [[ -z $takes ]]; then
        takes=${{values[$command]-}}
        if [[ $word == -* || -z $takes ]]; then
            _ha_monitor_offer "$word" "" ${{options[$command]}}
            return
        fi
    fi
    case $takes in
        @file)
            compopt -o filenames 2>/dev/null
            mapfile -t COMPREPLY < <(compgen -f -- "$word")
            ;;
        @folder)
            compopt -o filenames 2>/dev/null
            mapfile -t COMPREPLY < <(compgen -d -- "$word")
            ;;
        @filter) _ha_monitor_filter "$word" ;;
        "@values "*) _ha_monitor_known "${{takes#@values }}" "$word" "" ;;
        @) ;;
        *) _ha_monitor_offer "$word" "" $takes ;;
    esac
}}

complete -F _ha_monitor ha-monitor
"""

_ZSH = """\
#compdef ha-monitor
# zsh completion for ha-monitor(8), written by `ha-monitor completion zsh`

_ha_monitor_known() {{
    local -a known
    known=(${{(f)"$(ha-monitor completion --values $1 2>/dev/null)"}})
    compadd -- $known
}}

_ha_monitor_filter() {{
    if compset -P '*='; then
        local field=${{IPREFIX%%=}}
        field=${{field%%!}}
        compset -P '*,'
        case $field in
            state) compadd -- {states} ;;
            {flags}) compadd -- yes no ;;
            {dynamic}) _ha_monitor_known $field ;;
        esac
    else
        compadd -S '' -- {fields}
    fi
}}

_ha_monitor() {{
    local curcontext=$curcontext state line
    typeset -A opt_args
    _arguments -C {own} '1:command:->command' '*::argument:->argument'
    case $state in
        command)
            local -a commands
            commands=(
{commands}
            )
            _describe command commands
            ;;
        argument)
            case $words[1] in
{arguments}
            esac
            ;;
    esac
}}

_ha_monitor "$@"
"""

_FISH = """\
# fish completion for ha-monitor(8), written by `ha-monitor completion fish`

function __ha_monitor_filter
    set -l word (commandline -ct)
    if not string match -q '*=*' -- $word
        printf '%s\\n' {fields}
        return
    end
    set -l parts (string split -m 1 = -- $word)
    set -l before $parts[1]=(string replace -r '[^,]*$' '' -- $parts[2])
    switch (string trim -r -c ! -- $parts[1])
        case state
            printf "$before%s\\n" {states}
        case {flags}
            printf "$before%s\\n" yes no
        case {dynamic}
            set -l field (string trim -r -c ! -- $parts[1])
            ha-monitor completion --values $field 2>/dev/null | string replace -r '^' -- $before
    end
end

complete -c ha-monitor -f
{rows}
"""


def script(shell: str, commands: Sequence[Command]) -> str:
    """The script for bash, zsh or fish."""
    return {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell](commands)


def _bash(commands: Sequence[Command]) -> str:
    own, *named = commands
    options = [f'        [{one.name}]="{" ".join(_long(one.options))}"' for one in named]
    values: list[str] = []
    for one in named:
        takes = {one.name: one.operands}
        takes |= {f"{one.name} {flag}": option.takes for option in one.options for flag in option.flags if option.takes}
        values += [f'        ["{what}"]="{words}"' for what, words in takes.items() if words]
    return _BASH.format(
        options="\n".join(options),
        values="\n".join(values),
        commands=" ".join(one.name for one in named),
        own=" ".join(_long(own.options)),
        fields=" ".join(f"{name}=" for name in FIELDS),
        states=STATES,
        flags="|".join(FLAGS.split()).replace("|", " | "),
        dynamic=" | ".join(DYNAMIC),
    )


def _long(options: Sequence[Option]) -> list[str]:
    return [option.flags[-1] for option in options]


def _zsh(commands: Sequence[Command]) -> str:
    own, *named = commands
    arguments = []
    for one in named:
        specs = [_zsh_option(option) for option in one.options]
        if one.operands:
            specs.append(_quoted(f"*:argument:{_zsh_action(one.operands)}"))
        arguments.append(f"                {one.name}) _arguments {' '.join(specs)} ;;")
    return _ZSH.format(
        own=" ".join(_zsh_option(option) for option in own.options),
        commands="\n".join(f"                {_quoted(f'{one.name}:{one.help}')}" for one in named),
        arguments="\n".join(arguments),
        fields=" ".join(f"{name}=" for name in FIELDS),
        states=STATES,
        flags="|".join(FLAGS.split()),
        dynamic="|".join(DYNAMIC),
    )


def _zsh_option(option: Option) -> str:
    said = option.help.replace("[", "(").replace("]", ")").replace(":", "\\:")
    takes = "" if option.takes is None else f":value:{_zsh_action(option.takes)}"
    return " ".join(_quoted(f"{flag}[{said}]{takes}") for flag in option.flags)


def _zsh_action(takes: str) -> str:
    if takes.startswith("@values "):
        # The leading blank is needed: otherwise _arguments puts options for compadd before the field.
        return f" _ha_monitor_known {takes.removeprefix('@values ')}"
    actions = {"@file": "_files", "@folder": "_files -/", "@filter": "_ha_monitor_filter", "@": ""}
    return actions.get(takes, f"({takes})")


def _fish(commands: Sequence[Command]) -> str:
    own, *named = commands
    rows = [_fish_option("__fish_use_subcommand", option) for option in own.options]
    for one in named:
        rows.append(f"complete -c ha-monitor -n __fish_use_subcommand -a {one.name} -d {_quoted(one.help)}")
        seen = _quoted(f"__fish_seen_subcommand_from {one.name}")
        if action := _fish_action(one.operands):
            rows.append(f"complete -c ha-monitor -n {seen} {action}")
        rows += [_fish_option(seen, option) for option in one.options]
    return _FISH.format(
        rows="\n".join(rows),
        fields=" ".join(f"{name}=" for name in FIELDS),
        states=STATES,
        flags=FLAGS,
        dynamic=" ".join(DYNAMIC),
    )


def _fish_option(condition: str, option: Option) -> str:
    flags = " ".join(f"-l {flag[2:]}" if flag.startswith("--") else f"-s {flag[1:]}" for flag in option.flags)
    takes = "" if option.takes is None else f" {_fish_action(option.takes) or '-x'}"
    return f"complete -c ha-monitor -n {condition} {flags}{takes} -d {_quoted(option.help)}"


def _fish_action(takes: str) -> str:
    if takes.startswith("@values "):
        return f"-x -a '(ha-monitor completion --values {takes.removeprefix('@values ')} 2>/dev/null)'"
    actions = {
        "": "",
        "@": "",
        "@file": "-r -F",
        "@folder": "-x -a '(__fish_complete_directories)'",
        "@filter": "-x -a '(__ha_monitor_filter)'",
    }
    return actions.get(takes, f"-x -a {_quoted(takes)}")


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
