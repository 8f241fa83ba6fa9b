//! Processes that the system forbids a call, as it does in most containers.
#![allow(
    unreachable_pub,
    reason = "each test that uses this has it as a module of its own"
)]

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// The calls that io_uring takes: most containers forbid all of them, and whoever forbids by lists may forbid one.
pub const IO_URING_CALLS: [libc::c_long; 2] = [libc::SYS_io_uring_setup, libc::SYS_io_uring_enter];

/// Has the system refuse the process of a command, and whatever that starts, a call.
pub fn forbid(call: libc::c_long, command: &mut Command) {
    // SAFETY: it makes system calls and nothing else.
    unsafe { command.pre_exec(move || refuse(call, libc::EPERM)) };
}

/// Has the system kill the process of a command, and whatever that starts, that makes a call.
pub fn punish(call: libc::c_long, command: &mut Command) {
    // SAFETY: it makes system calls and nothing else.
    unsafe { command.pre_exec(move || filter(call, libc::SECCOMP_RET_KILL_PROCESS)) };
}

/// Has the system answer a call of this thread, and of what it starts, with an error from now on.
pub fn refuse(call: libc::c_long, error: i32) -> io::Result<()> {
    filter(call, libc::SECCOMP_RET_ERRNO | error as u32)
}

fn filter(call: libc::c_long, answer: u32) -> io::Result<()> {
    const LOAD_NUMBER: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const SKIP_IF_NOT: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const ANSWER: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    let step = |code, unequal, k| libc::sock_filter {
        code,
        jt: 0,
        jf: unequal,
        k,
    };
    let mut steps = [
        step(LOAD_NUMBER, 0, 0),
        step(SKIP_IF_NOT, 1, call as u32),
        step(ANSWER, 0, answer),
        step(ANSWER, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog {
        len: steps.len() as u16,
        filter: steps.as_mut_ptr(),
    };
    // SAFETY: it takes numbers only.
    let alone = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    // SAFETY: it reads the filter, which lasts.
    let filtered =
        unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &program) };
    match (alone, filtered) {
        (0, 0) => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
