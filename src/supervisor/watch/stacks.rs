//! Where threads are in their program: taken from outside, understood afterwards.
//!
//! ```text
//!  seize, interrupt ──> it stands ──> registers, some of its stack ──> let go
//!  (each thread by itself, for well under a millisecond)     └──> unwound here (unwind) ──> names
//! ```
//!
//! Nothing runs in the process that is looked at: no signal handler, no allocator, no lock of its own. What a
//! thread does in the kernel goes on when it is let go; a wait for events may end early, as it does for
//! whoever is stopped and continued. Where a thread cannot stand still in time, since it waits for a device,
//! it is let be.
//!
//! A thread of its own takes the stacks, and ends when it has: whatever it had seized is then free again,
//! whatever became of it. Only the time that it takes is waited for, and not longer than [`PATIENCE`]. The
//! kernel tells a tracer's process of each stand as it does of a child's end; so the supervisor waits for
//! children of its main thread alone, and the first thread of a process, which is such a child, is left out.

use std::fmt::Write;
use std::io::IoSliceMut;
use std::thread;
use std::time::{Duration, Instant};

use framehop::UnwindRegsNative;
use nix::errno::Errno;
use nix::sys::ptrace;
use nix::sys::signal::Signal;
use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::unwind::Program;
use crate::supervisor::sight::Seen;
use crate::sync::{Arc, Mutex};

/// LIMIT: bytes of a stack that are taken, from its end on.
const STACK_BYTES_MAX: usize = 256 << 10;

/// LIMIT: bytes of all stacks of a process together.
const BYTES_MAX: usize = 16 << 20;

/// LIMIT: how long a thread may take to stand still.
const STANDS_WITHIN: Duration = Duration::from_millis(100);

/// LIMIT: how long all stacks of a process may take.
const PATIENCE: Duration = Duration::from_secs(1);

/// How often it is looked whether something has come about.
const LOOK_EVERY: Duration = Duration::from_micros(200);

/// LIMIT: frames that are told in one line.
const TOLD_FRAMES: usize = 8;

const PAGE_BYTES: usize = 4096;

/// Where a thread stood.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) pc: u64,
    pub(super) registers: UnwindRegsNative,
    stack_at: u64,
    stack: Vec<u8>,
}

impl Place {
    /// A word of the stack.
    pub(super) fn word(&self, address: u64) -> Option<u64> {
        let at = usize::try_from(address.checked_sub(self.stack_at)?).ok()?;
        let bytes = self.stack.get(at..at.checked_add(8)?)?;
        Some(u64::from_ne_bytes(bytes.try_into().ok()?))
    }
}

/// The stack of a thread.
#[derive(Debug, Clone)]
pub(super) struct Stack {
    pub(super) thread: String,
    /// How many steps it had taken: who has taken more is elsewhere.
    turns: u64,
    /// Its functions, the innermost first, or why they are not known.
    frames: Result<Vec<Frame>, String>,
}

/// A function that a thread is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) function: String,
    /// Where in its source; empty where that is not known.
    pub(super) at: String,
}

impl Stack {
    fn in_a_line(&self) -> String {
        match &self.frames {
            Ok(frames) => {
                let functions = frames.iter().map(|frame| &frame.function[..]);
                let told: Vec<_> = functions.take(TOLD_FRAMES).collect();
                told.join(" < ")
            }
            Err(why_not) => why_not.clone(),
        }
    }
}

/// The last stacks that were taken, for whoever is asked where a thread is.
#[derive(Debug, Clone, Default)]
pub(super) struct LastStacks(Arc<Mutex<(i32, Vec<Stack>)>>);

impl LastStacks {
    /// Takes those of a process.
    pub(super) fn set(&self, pid: i32, stacks: Vec<Stack>) {
        *self.0.lock() = (pid, stacks);
    }

    /// Where a thread of a process is, in a line, if that was taken and it has taken no step since.
    pub(super) fn line(&self, pid: i32, thread: &str, turns: u64) -> Option<String> {
        let taken = self.0.lock();
        let stacks = (taken.0 == pid).then_some(&taken.1)?;
        let is_it = |stack: &&Stack| stack.thread == thread && stack.turns == turns;
        stacks.iter().find(is_it).map(Stack::in_a_line)
    }
}

/// All stacks, for people.
pub(super) fn text(stacks: &[Stack]) -> String {
    let mut text = String::new();
    for stack in stacks {
        // A text takes whatever is written to it.
        let _ = writeln!(text, "== {}", stack.thread);
        match &stack.frames {
            Ok(frames) => {
                for (number, frame) in frames.iter().enumerate() {
                    let _ = writeln!(text, "#{number} {}", frame.function);
                    if !frame.at.is_empty() {
                        let _ = writeln!(text, "      at {}", frame.at);
                    }
                }
            }
            Err(why_not) => _ = writeln!(text, "({why_not})"),
        }
    }
    text
}

/// What is to be taken of a thread.
#[derive(Debug, Clone)]
struct Wanted {
    name: String,
    turns: u64,
    thread: i32,
}

/// Takes the stacks of all threads of a process that say who they are.
pub(super) fn take(process: i32, program: &Program, seen: &Seen) -> Vec<Stack> {
    let wanted = seen.threads.iter().map(|one| {
        let snapshot = one.black_box.snapshot();
        Wanted {
            name: one.name.clone(),
            turns: snapshot.turns,
            thread: snapshot.thread as i32,
        }
    });
    let wanted: Vec<_> = wanted.collect();
    let vdso = program.vdso();
    let asked = wanted.clone();
    let each = (BYTES_MAX / asked.len().max(1)).clamp(PAGE_BYTES, STACK_BYTES_MAX);
    let take_all = move || {
        let vdso = vdso.map(|(at, bytes)| read(process, at, bytes));
        let start = Instant::now();
        let places = asked.iter().map(|one| match start.elapsed() < PATIENCE {
            true => take_one(process, one.thread, each),
            false => Err("there was no time left for it".to_owned()),
        });
        (vdso, places.collect::<Vec<_>>())
    };
    let all_failed = |why_not: &str| {
        let failed = |one: &Wanted| one.told(Err(why_not.to_owned()));
        wanted.iter().map(failed).collect()
    };
    let taker = thread::Builder::new().name("larder-stacks".to_owned());
    let Ok(taker) = taker.spawn(take_all) else {
        return all_failed("there is no thread to take it with");
    };
    let start = Instant::now();
    while !taker.is_finished() && start.elapsed() < 2 * PATIENCE {
        thread::sleep(LOOK_EVERY);
    }
    if !taker.is_finished() {
        return all_failed("the system does not answer");
    }
    // Its panic has been said.
    let Ok((vdso, places)) = taker.join() else {
        return all_failed("it could not be taken");
    };
    let mut understood = program
        .understand(process, vdso.as_deref(), &places)
        .into_iter();
    let told = wanted.iter().zip(places.iter()).map(|(one, place)| {
        let frames = match place {
            Ok(_) => Ok(understood.next().unwrap_or_default()),
            Err(why_not) => Err(why_not.clone()),
        };
        one.told(frames)
    });
    told.collect()
}

impl Wanted {
    fn told(&self, frames: Result<Vec<Frame>, String>) -> Stack {
        Stack {
            thread: self.name.clone(),
            turns: self.turns,
            frames,
        }
    }
}

/// Has one thread stand, looks where it is, and lets it go.
fn take_one(process: i32, thread: i32, bytes_max: usize) -> Result<Place, String> {
    if thread == 0 || thread == process {
        return Err("the first thread of a process is not looked at".to_owned());
    }
    let thread = Pid::from_raw(thread);
    ptrace::seize(thread, ptrace::Options::empty())
        .map_err(|error| format!("the system refuses ptrace: {}", error.desc()))?;
    let fails = |error: Errno| format!("it cannot be looked at: {}", error.desc());
    ptrace::interrupt(thread).map_err(fails)?;
    let signal = wait_until_it_stands(thread)?;
    let place = look(process, thread, bytes_max).map_err(fails);
    ptrace::detach(thread, signal).map_err(fails)?;
    place
}

/// Waits until a thread stands; gives the signal that it was about to take, if that is why it does.
fn wait_until_it_stands(thread: Pid) -> Result<Option<Signal>, String> {
    let options = WaitPidFlag::WNOHANG | WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
    let start = Instant::now();
    while start.elapsed() < STANDS_WITHIN {
        match waitpid(thread, Some(options)) {
            Ok(WaitStatus::StillAlive) => thread::sleep(LOOK_EVERY),
            Ok(WaitStatus::PtraceEvent(..)) => return Ok(None),
            Ok(WaitStatus::Stopped(_, signal)) => return Ok(Some(signal)),
            Ok(_) => return Err("it has ended".to_owned()),
            Err(error) => return Err(format!("it cannot be waited for: {}", error.desc())),
        }
    }
    Err("it does not stand still: it waits in the kernel for what cannot be interrupted".to_owned())
}

/// Looks where a thread stands.
fn look(process: i32, thread: Pid, bytes_max: usize) -> nix::Result<Place> {
    let (pc, sp, registers) = registers(thread)?;
    Ok(Place {
        pc,
        registers,
        stack_at: sp,
        stack: read(process, sp, bytes_max),
    })
}

#[cfg(target_arch = "x86_64")]
fn registers(thread: Pid) -> nix::Result<(u64, u64, UnwindRegsNative)> {
    let all = ptrace::getregs(thread)?;
    let unwound = UnwindRegsNative::new(all.rip, all.rsp, all.rbp);
    Ok((all.rip, all.rsp, unwound))
}

#[cfg(target_arch = "aarch64")]
fn registers(thread: Pid) -> nix::Result<(u64, u64, UnwindRegsNative)> {
    let all = ptrace::getregset::<ptrace::regset::NT_PRSTATUS>(thread)?;
    let unwound = UnwindRegsNative::new(all.regs[30], all.sp, all.regs[29]);
    Ok((all.pc, all.sp, unwound))
}

/// What there is of so many bytes of a process's memory, page by page.
fn read(process: i32, from: u64, bytes: usize) -> Vec<u8> {
    let mut read = vec![0; bytes];
    let Ok(from) = usize::try_from(from) else {
        return Vec::new();
    };
    let mut pieces = Vec::new();
    let mut at = from;
    while let Some(left) = (from.saturating_add(bytes))
        .checked_sub(at)
        .filter(|left| *left > 0)
    {
        let len = (PAGE_BYTES - at % PAGE_BYTES).min(left);
        pieces.push(RemoteIoVec { base: at, len });
        at += len;
    }
    let into = &mut [IoSliceMut::new(&mut read)];
    let count = process_vm_readv(Pid::from_raw(process), into, &pieces).unwrap_or(0);
    read.truncate(count);
    read
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_thread_was_says_nothing_of_its_namesake_in_the_next_process() {
        let stacks = LastStacks::default();
        let stack = Stack {
            thread: "worker-0".to_owned(),
            turns: 7,
            frames: Err("the system refuses ptrace".to_owned()),
        };
        stacks.set(41, vec![stack]);
        assert!(stacks.line(41, "worker-0", 7).is_some());
        assert_eq!(stacks.line(41, "worker-0", 8), None);
        assert_eq!(stacks.line(42, "worker-0", 7), None);
    }
}
