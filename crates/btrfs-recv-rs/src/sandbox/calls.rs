//! System calls that a receive does not need, refused by seccomp.

use std::collections::BTreeMap;

use linux_raw_sys::general as number;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

/// `CLONE_FS`, the only thing that a receive unshares: its umask.
const UNSHARED: u64 = number::CLONE_FS as u64;

/// The flags of `fanotify_init` by which a receive sees who gets into a
/// subvolume: `FAN_CLOEXEC`, `FAN_NONBLOCK`, `FAN_UNLIMITED_QUEUE`,
/// `FAN_REPORT_FID`. With the last one, it opens no files of others.
const WATCHED: u64 = 0x0001 | 0x0002 | 0x0010 | 0x0200;

/// Refused whatever their arguments.
const REFUSED: &[u32] = &[
    // The network. Descriptors that are open may be sockets all the same.
    number::__NR_socket,
    number::__NR_connect,
    number::__NR_bind,
    number::__NR_listen,
    number::__NR_accept,
    number::__NR_accept4,
    // Other programs and processes.
    number::__NR_execve,
    number::__NR_execveat,
    number::__NR_ptrace,
    number::__NR_process_vm_readv,
    number::__NR_process_vm_writev,
    number::__NR_process_madvise,
    number::__NR_kcmp,
    number::__NR_pidfd_open,
    number::__NR_pidfd_getfd,
    number::__NR_pidfd_send_signal,
    // What is mounted, and namespaces.
    number::__NR_mount,
    number::__NR_umount2,
    number::__NR_fsopen,
    number::__NR_fspick,
    number::__NR_fsconfig,
    number::__NR_fsmount,
    number::__NR_move_mount,
    number::__NR_open_tree,
    number::__NR_mount_setattr,
    number::__NR_pivot_root,
    number::__NR_chroot,
    number::__NR_setns,
    // Around this filter: its worker threads are the kernel's.
    number::__NR_io_uring_setup,
    number::__NR_io_uring_enter,
    number::__NR_io_uring_register,
    // The kernel, and the administration of the system.
    number::__NR_bpf,
    number::__NR_perf_event_open,
    number::__NR_userfaultfd,
    number::__NR_init_module,
    number::__NR_finit_module,
    number::__NR_delete_module,
    number::__NR_kexec_load,
    number::__NR_kexec_file_load,
    number::__NR_reboot,
    number::__NR_swapon,
    number::__NR_swapoff,
    number::__NR_quotactl,
    number::__NR_quotactl_fd,
    number::__NR_acct,
    number::__NR_syslog,
    number::__NR_settimeofday,
    number::__NR_clock_settime,
    number::__NR_clock_adjtime,
    number::__NR_adjtimex,
    number::__NR_sethostname,
    number::__NR_setdomainname,
    number::__NR_add_key,
    number::__NR_request_key,
    number::__NR_keyctl,
    #[cfg(target_arch = "x86_64")]
    number::__NR_iopl,
    #[cfg(target_arch = "x86_64")]
    number::__NR_ioperm,
];

/// Refuses them from now on, with EPERM.
///
/// # Errors
/// The kernel has no seccomp, or the library does not know this machine; the
/// text says so.
pub(super) fn restrict() -> Result<(), String> {
    let cannot = |error: &dyn std::fmt::Display| {
        format!("--sandbox cannot be enforced: {error}; receive without it")
    };
    let program = program().map_err(|error| cannot(&error))?;
    seccompiler::apply_filter(&program).map_err(|error| cannot(&error))
}

fn program() -> Result<BpfProgram, seccompiler::BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = REFUSED
        .iter()
        .map(|&number| (number.into(), Vec::new()))
        .collect();
    let (argument, len, unequal) = (0, SeccompCmpArgLen::Qword, SeccompCmpOp::Ne);
    let more = SeccompCondition::new(argument, len, unequal, UNSHARED)?;
    let more = SeccompRule::new(vec![more])?;
    rules.insert(number::__NR_unshare.into(), vec![more]);
    let (argument, len, unequal) = (0, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne);
    let more = SeccompCondition::new(argument, len, unequal, WATCHED)?;
    let more = SeccompRule::new(vec![more])?;
    rules.insert(number::__NR_fanotify_init.into(), vec![more]);
    let refuse = SeccompAction::Errno(rustix::io::Errno::PERM.raw_os_error().unsigned_abs());
    let machine = std::env::consts::ARCH.try_into()?;
    SeccompFilter::new(rules, SeccompAction::Allow, refuse, machine)?.try_into()
}
