# Bash completion of ovs-appctl, ovs-ofctl, ovs-dpctl and ovsdb-tool: options, commands, and the arguments that a
# command's usage names; of the other programs: options and commands.
#
#   source ovs-appctl-bashcomp.bash                  completes at the prompt
#   bash ovs-appctl-bashcomp.bash debug PROGRAM...   prints what would be offered; a last word TAB is an empty one
#
# A usage such as "{[dp_name] odp_flow | bridge br_flow} [-generate|packet]" is read into nodes, each a word, a sequence,
# a choice, or something that may be left out or repeated. What may come next is found by walking over them with what is
# left to walk as a list. The first line of an answer is never parsed twice: a usage is short, and read when needed.

# What the programs say, without their complaints, and not for ever.
_ovs_ask() { OVS_CTL_TIMEOUT=${OVS_CTL_TIMEOUT:-5} "$@" 2> /dev/null; }

# --- Usages ---------------------------------------------------------------------------------------------------------

# Cuts a usage into _tokens: brackets, bars, dots and words. A bar inside of a word stays there.
_ovs_tokens() {
    local text=$1 word depth char
    _tokens=()
    while [ -n "$text" ]; do
        case $text in
            [[:space:]]*) text=${text:1} && continue ;;
            ...*) word=... ;;
            [][{}]*) word=${text:0:1} ;;
            '| '*) word='|' ;;
            *)
                # Brackets inside of a word, as in "mark=X[/M]", belong to it.
                word= depth=0
                while char=${text:${#word}:1} && [[ -n $char && $char != [[:space:]\}] ]]; do
                    case $char in '[') depth=$((depth + 1)) ;; ']') depth=$((depth - 1)) ;; esac
                    [ "$depth" -ge 0 ] || break
                    word+=$char
                done
                ;;
        esac
        _tokens+=("$word")
        text=${text#"$word"}
    done
}

# Makes a node of a kind with parts; _made is its number.
_ovs_node() {
    _made=${#_kind[@]}
    _kind+=("$1")
    _parts+=("$2")
}

# Reads tokens from _at up to a closing bracket: sequences parted by bars. _made is the node.
_ovs_sequence() {
    local choices=() parts=() token inner
    while [ "$_at" -lt ${#_tokens[@]} ]; do
        token=${_tokens[_at]}
        case $token in
            ']' | '}') break ;;
            '|')
                _ovs_node seq "${parts[*]}"
                choices+=("$_made")
                parts=()
                _at=$((_at + 1))
                continue
                ;;
            '[' | '{')
                _at=$((_at + 1))
                _ovs_sequence
                inner=$_made
                if [ "$token" = '[' ]; then _ovs_node opt "$inner"; fi
                ;;
            ...)
                # Dots after something: it may come again.
                _at=$((_at + 1))
                [ ${#parts[@]} -gt 0 ] || continue
                inner=${parts[${#parts[@]} - 1]}
                unset "parts[${#parts[@]} - 1]"
                if [ "${_kind[inner]}" = opt ]; then
                    _ovs_node rep "${_parts[inner]}"
                    _ovs_node opt "$_made"
                else
                    _ovs_node rep "$inner"
                fi
                parts+=("$_made")
                continue
                ;;
            *)
                _ovs_node word "$token"
                if [[ $token == *... ]]; then _ovs_node rep "$_made"; fi
                ;;
        esac
        parts+=("$_made")
        _at=$((_at + 1))
    done
    _ovs_node seq "${parts[*]}"
    if [ ${#choices[@]} -gt 0 ]; then
        choices+=("$_made")
        _ovs_node choice "${choices[*]}"
    fi
}

# What may come first of these nodes: _next are words, _then what follows each.
_ovs_first() {
    [ $# -gt 0 ] || return 0
    local node=$1 part words i
    shift
    case ${_kind[node]} in
        word)
            # Kept from being a pattern.
            IFS='|' read -r -a words <<< "${_parts[node]}"
            for part in "${words[@]}"; do
                for i in "${_next[@]}"; do [ "$i" = "$part" ] && continue 2; done
                _next+=("$part")
                _then+=("$*")
            done
            ;;
        seq) _ovs_first ${_parts[node]} "$@" ;;
        choice)
            read -r -a words <<< "${_parts[node]}"
            for ((i = ${#words[@]} - 1; i >= 0; i--)); do _ovs_first "${words[i]}" "$@"; done
            ;;
        opt)
            # What must come stands before what may.
            _ovs_first "$@"
            _ovs_first ${_parts[node]} "$@"
            ;;
        rep)
            _ovs_node opt "$node"
            # The thing itself was there once already if it may be left out.
            _ovs_first ${_parts[node]} "$_made" "$@"
            ;;
    esac
}

# What a word of a usage stands for: the values that are there now.
_ovs_values() {
    local bridge
    case ${1%...} in
        -*) printf '%s\n' "${1%%=*}" ;;
        bridge | switch | br) _ovs_ask ovs-vsctl list-br ;;
        port) _ovs_ask ovs-vsctl --no-headings --columns=name list Port | tr -d '"' ;;
        interface | netdev | iface)
            for bridge in $(_ovs_ask ovs-vsctl list-br); do _ovs_ask ovs-vsctl list-ifaces "$bridge"; done
            ;;
        dp | dp_name)
            if [ "$_program" = ovs-dpctl ]; then
                _ovs_ask ovs-dpctl dump-dps
            else
                _ovs_ask ovs-appctl dpctl/dump-dps | sed 's/^[^@]*@//'
            fi
            ;;
    esac
}

# Goes over the words that are there already, then leaves in _next what may follow.
_ovs_follow() {
    local usage=$1 word i chosen
    shift
    _kind=() _parts=() _at=0
    _ovs_tokens "$usage"
    _ovs_sequence
    local rest=$_made
    for word in "$@"; do
        _next=() _then=()
        _ovs_first $rest
        _ovs_choose "$word" || { _next=(); return 0; }
        rest=${_then[_chosen]}
    done
    _next=() _then=()
    _ovs_first $rest
}

# Which of _next a word is: the one that reads so, one with that value, one that may be anything, or any.
_ovs_choose() {
    local i free= known=
    for i in "${!_next[@]}"; do
        [ "${_next[i]}" = "$1" ] && { _chosen=$i; return 0; }
    done
    for i in "${!_next[@]}"; do
        case $'\n'$(_ovs_values "${_next[i]}")$'\n' in
            *$'\n'"$1"$'\n'*) _chosen=$i; return 0 ;;
            $'\n\n')
                # Names such as "true" stand for themselves only; so do options.
                case ${_next[i]} in
                    normal | true | false | up | down | on | off | text | json) ;;
                    *) free=${free:-$i} ;;
                esac
                ;;
            *) case ${_next[i]} in -*) ;; *) known=${known:-$i} ;; esac ;;
        esac
    done
    _chosen=${free:-$known}
    [ -n "$_chosen" ]
}

# --- Programs -------------------------------------------------------------------------------------------------------

_ovs_options() { _ovs_ask "$_program" --option | sed -n '/^--/s/=.*//p;/^--[^=]*$/p' | sort -u; }

# The program's commands with their usages, a line each.
_ovs_commands() {
    case $_program in
        ovs-appctl) _ovs_ask ovs-appctl ${_target:+--target "$_target"} list-commands | tail -n +2 | cut -c3- ;;
        ovs-ofctl | ovs-dpctl | ovsdb-tool) _ovs_ask "$_program" list-commands | tail -n +2 | cut -c3- ;;
        *) _ovs_ask "$_program" --help | sed -n 's/^  \(\[[^]]*\] \)*\([a-z][a-z]*-*[a-z-]*\)\( .*\)*$/\2/p' | sort -u ;;
    esac
}

# Daemons that may be meant: those that usually are, and those with a pidfile.
_ovs_targets() {
    local file
    printf '%s\n' ovs-ofctl ovs-vswitchd ovsdb-server
    for file in "${OVS_RUNDIR:-/var/run/openvswitch}"/*.pid; do
        [ -e "$file" ] && basename "$file" .pid
    done
}

# Sets _offers for the words of a command line, the last of them unfinished; _program is the first. _next are the words
# of the usage that it would be.
_ovs_complete() {
    local words=("$@") command= i args=() usage line current
    _offers=() _next=() _target=
    current=${words[${#words[@]} - 1]}
    unset "words[${#words[@]} - 1]"
    for ((i = 0; i < ${#words[@]}; i++)); do
        if [ -n "$command" ]; then
            args+=("${words[i]}")
            continue
        fi
        case ${words[i]} in
            --target | -t)
                if [ $((i + 1)) -eq ${#words[@]} ] && [ "$_program" = ovs-appctl ]; then
                    mapfile -t _offers < <(_ovs_targets | sort -u)
                    _ovs_filter "$current"
                    return
                fi
                [ "$_program" != ovs-appctl ] || _target=${words[i + 1]}
                i=$((i + 1))
                ;;
            --target=*) _target=${words[i]#*=} ;;
            -*) ;;
            *) command=${words[i]} ;;
        esac
    done
    if [ -z "$command" ]; then
        mapfile -t _offers < <(_ovs_options; _ovs_commands | cut -d ' ' -f1 | sort)
    else
        line=$(_ovs_commands | grep -E "^${command//[^A-Za-z0-9_\/-]/.}( |$)" | head -n 1)
        [ -n "$line" ] || return 0
        usage=${line#"$command"}
        _ovs_follow "$usage" "${args[@]}"
        mapfile -t _offers < <(for line in "${_next[@]}"; do _ovs_values "$line"; done | sort -u)
        _usage=$command$(printf '%s' "$usage" | sed 's/^ */ /')
    fi
    _ovs_filter "$current"
}

# Leaves of _offers what begins so.
_ovs_filter() {
    local offer left=()
    for offer in "${_offers[@]}"; do
        [[ -n $offer && $offer == "$1"* ]] && left+=("$offer")
    done
    _offers=("${left[@]}")
}

# The words before the cursor as the shell parts them by blanks: the parts of "a:b" are one.
_ovs_words() {
    local line=${COMP_LINE:0:COMP_POINT}
    read -r -a _words <<< "$line"
    [[ $line != *[[:space:]] ]] || _words+=('')
}

_ovs_command_complete() {
    local _program=${1##*/} _target _usage _made _at _chosen
    local _words=() _offers=() _next=() _then=() _tokens=() _kind=() _parts=()
    _ovs_words
    _ovs_complete "${_words[@]:1}"
    COMPREPLY=("${_offers[@]}")
}

_ovs_debug() {
    local _program=$1 word _target _usage= _made _at _chosen
    local _offers=() _next=() _then=() _tokens=() _kind=() _parts=() words=("${@:2}")
    [ "${words[${#words[@]} - 1]}" != TAB ] || words[${#words[@]} - 1]=
    _ovs_complete "${words[@]}"
    [ ${#_next[@]} -gt 0 ] || [ ${#_offers[@]} -gt 0 ] || return 0
    printf '\n'
    if [ ${#_next[@]} -gt 0 ]; then
        printf 'Command format:\n%s\n\n' "$_usage"
        for word in "${_next[@]}"; do
            printf '  available completions for keyword "%s": %s\n' "$word" "$(_ovs_values "$word" | tr '\n' ' ')"
        done
        printf '\n'
    fi
    [ ${#_offers[@]} -eq 0 ] || { printf 'Available completions:\n\n'; printf '%s\n' "${_offers[@]}"; }
}

if [ "${1:-}" = debug ]; then
    _ovs_debug "${@:2}"
else
    complete -o default -F _ovs_command_complete ovs-appctl ovs-ofctl ovs-dpctl ovsdb-tool ovsdb-client vtep-ctl \
        ovs-vswitchd ovsdb-server sflow-dump
fi
