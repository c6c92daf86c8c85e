# fish completion for btrfs-recv-rs
# Made by `btrfs-recv-rs --generate=fish`.

complete -c btrfs-recv-rs -s f -r -F -d 'read the stream from FILE instead of standard input'
complete -c btrfs-recv-rs -s e -d 'stop at the end command of the first stream, and leave what follows it unread'
complete -c btrfs-recv-rs -s C -l chroot -d 'take nothing from outside PATH: parents and clone sources too have to lie in it'
complete -c btrfs-recv-rs -s E -l max-errors -x -d 'give up after N failed commands (default 1), 0: never; a subvolume in which one failed is never completed'
complete -c btrfs-recv-rs -s m -x -a '(__fish_complete_directories)' -d 'the mount point that PATH lies in'
complete -c btrfs-recv-rs -l force-decompress -d 'decompress data here instead of passing it to the filesystem compressed'
complete -c btrfs-recv-rs -l test-encoded -d 'decompress data to test it before it is passed on; a filesystem stores compressed data without a look'
complete -c btrfs-recv-rs -l name -x -d 'call the subvolume NAME, whatever the stream calls it'
complete -c btrfs-recv-rs -l on-error -x -a 'keep delete' -d 'keep (default) or delete a subvolume that could not be completed'
complete -c btrfs-recv-rs -l exclude-xattr -x -d 'leave out extended attributes whose name matches, such as security.selinux or system.posix_acl_*; may be repeated'
complete -c btrfs-recv-rs -l no-fileattr -d 'leave out inode flags (chattr)'
complete -c btrfs-recv-rs -l allow-unknown -d 'skip commands and attributes that are unknown, such as those of a vendor'
complete -c btrfs-recv-rs -l parent -x -a '(__fish_complete_directories)' -d 'take PATH for the parent of the first incremental stream; you vouch that it is'
complete -c btrfs-recv-rs -l clone-source -x -a '(__fish_complete_directories)' -d 'clone from PATH what names its UUID, or UUID; you vouch for it; may be repeated'
complete -c btrfs-recv-rs -l dump -d 'print the commands of the stream, receive nothing'
complete -c btrfs-recv-rs -l extract -d 'receive into DIR, a plain directory on any filesystem; needs no root'
complete -c btrfs-recv-rs -l extract-report -r -F -d 'list what an extraction does not keep in FILE, as JSON lines'
complete -c btrfs-recv-rs -l generate -x -a 'man bash zsh fish' -d 'print the manual page, or completions for a shell: man, bash, zsh, fish'
complete -c btrfs-recv-rs -l help -d 'print this help'
complete -c btrfs-recv-rs -l version -d 'print the version'
complete -c btrfs-recv-rs -s q -l quiet -d 'print errors and warnings only'
complete -c btrfs-recv-rs -s v -l verbose -d 'print more; may be repeated'

complete -c btrfs-receive -w btrfs-recv-rs
