# Bash completion of ovs-vsctl: options, commands, and their arguments as the database has them.
#
#   source ovs-vsctl-bashcomp.bash                 completes at the prompt
#   bash ovs-vsctl-bashcomp.bash test "set Bri"    prints what would be offered, a line each; status 1 if nothing can be
#
# "ovs-vsctl --commands" tells each command's options and arguments: "!TABLE" must be there, "?KEY" may, "*RECORD" may
# several times, "+COLUMN" must at least once. A function _ovs_vsctl_of_KIND prints the values of a kind.

_ovs_vsctl() { ovs-vsctl --timeout=5 ${_db:+--db="$_db"} "$@" 2> /dev/null; }
_ovs_client() { ovsdb-client --timeout=5 --no-headings "$1" ${_db:+"$_db"} Open_vSwitch "${@:2}" 2> /dev/null; }

# --- Values ---------------------------------------------------------------------------------------------------------

_ovs_vsctl_names() { _ovs_vsctl --no-headings --columns="$1" list "$2" | tr -d '"'; }

_ovs_vsctl_of_table() { _ovs_client list-tables; }

_ovs_vsctl_of_record() {
    local names
    names=$(_ovs_vsctl_names _uuid,name "$_table") && [ -n "$names" ] || names=$(_ovs_vsctl_names _uuid "$_table")
    printf '%s\n' $names
    case $_table in Port | Interface) printf '%s\n' "${_new_ports[@]}" "${_new_bridges[@]}" ;; Bridge) printf '%s\n' "${_new_bridges[@]}" ;; esac
}

_ovs_vsctl_of_bridge() { _ovs_vsctl list-br; printf '%s\n' "${_new_bridges[@]}"; }

_ovs_vsctl_of_port() {
    if [ -n "$_bridge" ]; then _ovs_vsctl list-ports "$_bridge"; else _ovs_vsctl_names name Port; fi
    printf '%s\n' "${_new_ports[@]}"
}

_ovs_vsctl_of_iface() {
    local bridge
    for bridge in ${_bridge:-$(_ovs_vsctl list-br)}; do _ovs_vsctl list-ifaces "$bridge"; done
    printf '%s\n' "${_new_ports[@]}"
}

_ovs_vsctl_of_column() { _ovs_client list-columns "$_table" | cut -d ' ' -f1 | tr -d :; }

# Columns, with a colon after maps.
_ovs_vsctl_of_settable() { _ovs_client list-columns "$_table" | awk '/key.*value/ { print $1 ":"; next } { print $1 }'; }

_ovs_vsctl_keys() { _ovs_vsctl --no-headings --columns="$1" list "$_table" "$_record" | tr -d '{"}' | tr -s ', ' '\n' | cut -d= -f1 | sed '/^$/d'; }

_ovs_vsctl_files() { compgen -f -- "$1"; }

# Prints what a kind of argument may be when it begins with $2; sets nothing. Status 1: it must be typed.
_ovs_vsctl_offers() {
    local word=$2 method
    case $1 in
        TABLE) _ovs_vsctl_of_table ;;
        RECORD) _ovs_vsctl_of_record ;;
        BRIDGE | PARENT) _ovs_vsctl_of_bridge ;;
        PORT | BOND) _ovs_vsctl_of_port ;;
        IFACE) _ovs_vsctl_of_iface ;;
        'PORT|IFACE') _ovs_vsctl_of_port; [ -z "$_bridge" ] || _ovs_vsctl_of_iface ;;
        MODE) printf '%s\n' standalone secure ;;
        COLUMN) _ovs_vsctl_of_column ;;
        # A key may be a new one.
        KEY) _ovs_vsctl_keys "${_column:-external_ids}" | grep -e "^$word" || printf '%s\n' "$word" ;;
        'KEY=VALUE' | '?KEY=VALUE' | 'KEY|VALUE|KEY=VALUE')
            # After the sign, the shell has only the value to complete.
            case $word in *=*) printf '%s\n' "${word#*=}" && return ;; esac
            _ovs_vsctl_keys "$_column" | sed 's/$/=/' | grep -e "^$word" || printf '%s\n' "$word"
            ;;
        'COLUMN?:KEY=VALUE' | 'COLUMN?:KEY')
            case $word in
                *:*=*) word=${word#*:} && printf '%s\n' "${word%%=*}" ;;
                *=*) ;;
                *:*) _ovs_vsctl_keys "${word%%:*}" ;;
                *) _ovs_vsctl_of_settable ;;
            esac
            ;;
        TARGET)
            case $word in
                unix:* | punix:*) _ovs_vsctl_files "${word#*:}" ;;
                *:*) printf '%s\n' pssl: ptcp: punix: ssl: tcp: unix: | grep -vx "${word%%:*}:" ;;
                *) printf '%s\n' pssl: ptcp: punix: ssl: tcp: unix: ;;
            esac
            ;;
        PRIVATE-KEY | CERTIFICATE | CA-CERT) _ovs_vsctl_files "$word" ;;
        VALUE | ARG) printf '%s\n' "$word" ;;
    esac
}

# The part of the word that offers of this kind begin with.
_ovs_vsctl_prefix() {
    case $1 in
        'COLUMN?:KEY=VALUE' | 'COLUMN?:KEY')
            case $2 in *:*=*) ;; *:*) printf '%s' "${2#*:}" ;; *) printf '%s' "$2" ;; esac
            ;;
        TARGET)
            case $2 in *:*) ;; *) printf '%s' "$2" ;; esac
            ;;
        *'KEY=VALUE') printf '%s' "${2#*=}" ;;
        *) printf '%s' "$2" ;;
    esac
}

# --- Command lines --------------------------------------------------------------------------------------------------

_ovs_vsctl_global() { _ovs_vsctl --options | sed -n '/^--/s/=.*/=/;/^--/p'; }

# Options and commands, or with "$1" only those of the commands that take all of these options.
_ovs_vsctl_commands() {
    local line option
    while IFS= read -r line; do
        for option in $1; do
            [[ $line == *"[$option"* ]] || continue 2
        done
        line=$(cut -d, -f1-2 <<< "$line" | tr -d ',[]')
        for option in $line; do
            case " $1 " in *" ${option%=} "*) ;; *) printf '%s\n' "$option" ;; esac
        done
    done < <(_ovs_vsctl --commands)
}

# Takes note of an argument of a kind, for those that come after it. Status 1: nothing can come after it.
_ovs_vsctl_note() {
    case $1 in
        TABLE)
            _table=$2
            _ovs_vsctl_of_table | grep -qx -e "$2"
            ;;
        RECORD) _record=$2 ;;
        BRIDGE) _bridge=$2 _table=Bridge _record=$2 ;;
        COLUMN) _column=$2 ;;
        NEW-PORT | BOND) _table=Port _record=$2 ;;
    esac
}

# Makes the line readable again above what is asked for.
_ovs_vsctl_message() {
    _message=$(printf -- '--- BEGIN MESSAGE\n%s\n> %s--- END MESSAGE' "$1" "$_line")
}

# Completes the last of the arguments of a command, by its specification.
_ovs_vsctl_arguments() {
    local specs words=("${@:2}") i=0 spec mark kind word optional=
    read -r -a specs <<< "$1"
    local last=$((${#words[@]} - 1)) used=
    for ((i = 0; i < ${#words[@]}; i++)); do
        word=${words[i]}
        spec=${specs[0]:-}
        [ -n "$spec" ] || break
        mark=${spec:0:1} kind=${spec:1}
        # An argument that may be left out is, if the next one must be there and nothing else would be left for it.
        if [ "$mark" = '?' ] && [ ${#specs[@]} -gt 1 ] && [ "${specs[1]:0:1}" = '!' ] && [ "$i" -eq "$last" ] && [ -z "$word" ]; then
            mapfile -t -O ${#_offers[@]} _offers < <(_ovs_vsctl_offers "$kind" "$word")
        fi
        [ "$i" -lt "$last" ] || break
        if ! _ovs_vsctl_note "$kind" "$word"; then
            _ovs_vsctl_message "Cannot complete '$word' at index $((_index + i + 2)):"
            return 1
        fi
        case $mark in
            '!' | '?') specs=("${specs[@]:1}") ;;
            '+') [ -n "$used" ] || { specs[0]="*$kind" used=yes; } ;;
        esac
    done
    word=${words[last]}
    [ ${#specs[@]} -gt 0 ] || { _offers=(--); return 0; }
    _ovs_vsctl_last "$word" "${specs[@]}"
}

# Completes a last word by what the specification has left.
_ovs_vsctl_last() {
    local word=$1 spec mark kind
    shift
    mark=${1:0:1} kind=${1:1}
    case $kind in
        NEW-BRIDGE | NEW-PORT)
            [ "$kind" != NEW-BRIDGE ] || _ovs_vsctl_message "Enter a new bridge:"
            [ "$kind" != NEW-PORT ] || _ovs_vsctl_message "Enter a new port:"
            return 0
            ;;
        'COLUMN?:KEY=VALUE' | 'COLUMN?:KEY' | *'KEY=VALUE' | TARGET) _space= ;;
    esac
    mapfile -t -O ${#_offers[@]} _offers < <(_ovs_vsctl_offers "$kind" "$word")
    _prefix=$(_ovs_vsctl_prefix "$kind" "$word")
    if [ "$mark" = '?' ] && [[ ${2:-} == '!'* ]]; then
        mapfile -t -O ${#_offers[@]} _offers < <(_ovs_vsctl_offers "${2:1}" "$word")
    fi
    # The command may end here, unless what may follow belongs to this.
    for spec in "$@"; do
        case $spec in '!'* | '+'* | ?NEW-*) return 0 ;; esac
    done
    _end=yes
}

# Sets _offers, _prefix (what they must begin with) and _space for the words of a line without the program's name. Status 1:
# nothing can be offered; _message may say why.
_ovs_vsctl_complete() {
    local words=("$@") i word command= options= line global=yes args=() current
    current=${words[${#words[@]} - 1]}
    _offers=() _new_ports=() _new_bridges=() _table= _record= _bridge= _column= _space=yes _end= _message= _index=0
    _prefix=$current
    for ((i = 0; i < ${#words[@]} - 1; i++)); do
        word=${words[i]}
        if [ -n "$command" ]; then
            [ "$word" != -- ] || { _ovs_vsctl_keep "$command" "${args[@]}"; command= options= args=() global= && continue; }
            args+=("$word")
            continue
        fi
        case $word in
            --) global= ;;
            --db=*) _db=${word#*=} ;;
            -*)
                if [ "$global" ] && ! _ovs_vsctl_commands '' | grep -qx -e "${word%%=*}=\?"; then continue; fi
                options+=" ${word%%=*}"
                ;;
            *) command=$word _index=$((i + 1)) ;;
        esac
    done
    if [ -z "$command" ]; then
        case $current in --db=*) _db=${current#*=} && _prefix= ;; esac
        if [ -n "$options" ]; then
            mapfile -t _offers < <(_ovs_vsctl_commands "$options")
        else
            _space=
            mapfile -t _offers < <(_ovs_vsctl_commands ''; [ -z "$global" ] || _ovs_vsctl_global)
        fi
        [ ${#_offers[@]} -gt 0 ] && _ovs_vsctl list-br > /dev/null
        return
    fi
    line=$(_ovs_vsctl --commands | cut -d, -f2,3 | grep -e "^$(sed 's/[^A-Za-z0-9-]/./g' <<< "$command"),")
    [ -n "$line" ] || return 0
    _ovs_vsctl_arguments "${line#*,}" "${args[@]}" "$current"
}

# Keeps what a finished command makes, for the next ones.
_ovs_vsctl_keep() {
    local specs
    read -r -a specs <<< "$(_ovs_vsctl --commands | cut -d, -f2,3 | sed -n "s/^$1,//p")"
    shift
    while [ $# -gt 0 ] && [ ${#specs[@]} -gt 0 ]; do
        case ${specs[0]:1} in
            NEW-BRIDGE) _new_bridges+=("$1") ;;
            NEW-PORT | BOND) _new_ports+=("$1") ;;
        esac
        specs=("${specs[@]:1}")
        shift
    done
    _table= _record= _bridge= _column=
}

# Prints what is offered, sorted, as the shell would insert it.
_ovs_vsctl_print() {
    local offer
    for offer in "${_offers[@]}"; do
        [[ -n $offer && $offer == "$_prefix"* ]] && printf '%s%s\n' "$offer" "${_space:+ }"
    done | sort -u
    [ -z "$_end" ] || printf -- '--%s\n' "${_space:+ }"
}

_ovs_vsctl_at_prompt() {
    local _db= _line=${COMP_LINE:0:COMP_POINT} _offers _new_ports _new_bridges _table _record _bridge _column _space _end
    local _message _index _prefix _words offer
    read -r -a _words <<< "$_line"
    [[ $_line != *[[:space:]] ]] || _words+=('')
    COMPREPLY=()
    _ovs_vsctl_complete "${_words[@]:1}" || { [ -z "$_message" ] || printf '\n%s' "$_message"; return 0; }
    mapfile -t COMPREPLY < <(_ovs_vsctl_print | sed '/^$/d')
    # The end of the command is offered where nothing is typed yet.
    [ -z "${_words[${#_words[@]} - 1]}" ] || [ "$_end" != yes ] || unset "COMPREPLY[${#COMPREPLY[@]} - 1]"
    [ -z "$_space" ] || compopt +o nospace
    for offer in "${!COMPREPLY[@]}"; do COMPREPLY[offer]=${COMPREPLY[offer]% }; done
}

_ovs_vsctl_test() {
    local _db= _line="ovs-vsctl $1" _offers _new_ports _new_bridges _table _record _bridge _column _space _end _message
    local _index _prefix _words offers
    read -r -a _words <<< "$_line"
    [[ $_line != *[[:space:]] ]] || _words+=('')
    if ! _ovs_vsctl_complete "${_words[@]:1}"; then
        printf '%s' "$_message"
        return 1
    fi
    printf '%s' "$_message"
    mapfile -t offers < <(_ovs_vsctl_print | sort -u)
    printf '%s\n' "${offers[@]}"
}

if [ "${1:-}" = test ]; then
    _ovs_vsctl_test "$2"
else
    complete -o nospace -F _ovs_vsctl_at_prompt ovs-vsctl
fi
