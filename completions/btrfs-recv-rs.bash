# bash completion for btrfs-recv-rs                        -*- shell-script -*-
# Made from the table of options; see CONTRIBUTING.md.

_btrfs_recv_rs_reply() {
    mapfile -t COMPREPLY < <(compgen "$@" -- "$cur")
}

_btrfs_recv_rs() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}
    # bash takes the sign in --name=value for a word of its own.
    if [[ $cur == "=" ]]; then
        cur=
    elif [[ $prev == "=" ]] && ((COMP_CWORD > 1)); then
        prev=${COMP_WORDS[COMP_CWORD - 2]}
    fi
    case $prev in
        -f)
            _btrfs_recv_rs_reply -f
            return
            ;;
        --tee)
            _btrfs_recv_rs_reply -f
            return
            ;;
        -E | --max-errors)
            :
            return
            ;;
        --chain)
            _btrfs_recv_rs_reply -f
            return
            ;;
        -m)
            _btrfs_recv_rs_reply -d
            return
            ;;
        --digest)
            _btrfs_recv_rs_reply -f
            return
            ;;
        --name)
            :
            return
            ;;
        --on-error)
            _btrfs_recv_rs_reply -W 'keep delete'
            return
            ;;
        --exclude-xattr)
            :
            return
            ;;
        --zeros)
            _btrfs_recv_rs_reply -W 'keep holes'
            return
            ;;
        --accept)
            _btrfs_recv_rs_reply -f
            return
            ;;
        --parent)
            _btrfs_recv_rs_reply -d
            return
            ;;
        --clone-source)
            _btrfs_recv_rs_reply -d
            return
            ;;
        --writable)
            :
            return
            ;;
        --replace)
            :
            return
            ;;
        --keep-old)
            :
            return
            ;;
        --checkpoint-every)
            :
            return
            ;;
        --state-dir)
            _btrfs_recv_rs_reply -d
            return
            ;;
        --extract-report)
            _btrfs_recv_rs_reply -f
            return
            ;;
        --only)
            :
            return
            ;;
        --subvolume)
            :
            return
            ;;
        --size)
            :
            return
            ;;
        --buffer)
            :
            return
            ;;
    esac
    if [[ $cur == -* ]]; then
        compopt +o filenames
        _btrfs_recv_rs_reply -W '-f --decompress --tee -e -C --chroot -E --max-errors --chain -m --force-decompress --test-encoded --digest --sandbox --name --on-error --exclude-xattr --no-fileattr --allow-unknown --zeros --accept --parent --clone-source --writable --replace --keep-old --delete-old --atomic --resumable --checkpoint-every --state-dir --status --abandon --dump --extract --extract-report --only --subvolume --dry-run --serve -h --help -V --version --progress --size --buffer --json -q --quiet -v --verbose'
    else
        _btrfs_recv_rs_reply -f
    fi
}

complete -o filenames -F _btrfs_recv_rs btrfs-recv-rs btrfs-receive
