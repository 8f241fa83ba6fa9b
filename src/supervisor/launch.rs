//! Starting a worker process with descriptors handed to it.
//!
//! The standard library's `Command` can neither put the number of the new process into its
//! environment, which the protocol of [`handover`](super::handover) asks for, nor keep its own
//! descriptors out of the way of those that are to be numbered from 3 on. So this is fork and exec by
//! hand. All that needs memory is made before the fork; between fork and exec the new process makes
//! system calls and nothing else.

use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::ptr::null;

use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal, WaitOptions, waitpid};

/// Where the descriptors that are handed over begin.
const FIRST: RawFd = 3;

/// The exit code of a process that could not become the program.
const CANNOT_EXECUTE: i32 = 127;

/// The variable that says whom descriptors are for.
const LISTEN_PID: &[u8] = b"LISTEN_PID=";

/// LIMIT: digits of the number of a process.
const PID_DIGITS_MAX: usize = 10;

/// Variables that a new process has from its supervisor, or not at all.
const OWN_VARIABLES: [&str; 7] = [
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "LISTEN_PID",
    super::notify::SOCKET_VARIABLE,
    super::handover::HASH_SEED_VARIABLE,
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
];

/// A program, held open: so it stays the same although the file at its path is replaced.
#[derive(Debug)]
pub(super) struct Program {
    file: OwnedFd,
    path: PathBuf,
}

impl Program {
    /// Opens the program at a path.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        Ok(Self {
            file: rustix::fs::open(path, flags, Mode::empty())?,
            path: path.to_owned(),
        })
    }

    /// The program that this process runs, also where its file has been replaced since.
    pub(super) fn own() -> io::Result<Self> {
        Ok(Self {
            path: std::env::current_exe()?,
            ..Self::open(Path::new("/proc/self/exe"))?
        })
    }

    /// The same program once more.
    pub(super) fn again(&self) -> io::Result<Self> {
        Ok(Self {
            file: self.file.try_clone()?,
            path: self.path.clone(),
        })
    }

    /// Where it was opened.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// A process to be started.
#[derive(Debug)]
pub(super) struct Launch<'a> {
    pub(super) program: &'a Program,
    /// All arguments, the name of the program first.
    pub(super) arguments: &'a [OsString],
    /// Variables beside those of this process.
    pub(super) variables: &'a [(&'a str, &'a OsStr)],
    /// What is handed over, by name.
    pub(super) handed: &'a [(&'a str, BorrowedFd<'a>)],
    /// Where its standard output goes; `None`: to this process's own.
    pub(super) output: Option<BorrowedFd<'a>>,
}

/// All that the new process needs, made before it is there.
struct Prepared {
    program: OwnedFd,
    path: CString,
    arguments: Vec<CString>,
    /// All of it but the number of the process.
    environment: Vec<CString>,
    /// Above all numbers that will be taken.
    descriptors: Vec<OwnedFd>,
    output: Option<OwnedFd>,
    complaint: OwnedFd,
    parent: libc::pid_t,
}

impl Launch<'_> {
    /// Starts the process, in a process group of its own; it is killed when this thread ends.
    ///
    /// # Errors
    ///
    /// The system refuses the process, or the program.
    pub(super) fn start(&self) -> io::Result<Pid> {
        let (complaints, complaint) = pipe_with(PipeFlags::CLOEXEC)?;
        let prepared = self.prepare(&complaint)?;
        drop(complaint);
        let pointers = |texts: &[CString]| -> Vec<*const libc::c_char> {
            texts.iter().map(|text| text.as_ptr()).collect()
        };
        let mut arguments = pointers(&prepared.arguments);
        arguments.push(null());
        let mut environment = pointers(&prepared.environment);
        environment.extend([null(), null()]);
        let mut listen_pid = [0; LISTEN_PID.len() + PID_DIGITS_MAX + 1];
        // SAFETY: the new process makes system calls and nothing else, on what is prepared.
        let number = match unsafe { libc::fork() } {
            0 => {
                let listen_pid = number_of(&mut listen_pid, rustix::process::getpid());
                let at = environment.len() - 2;
                environment[at] = listen_pid.as_ptr().cast();
                // SAFETY: both lists end with a null pointer, and what they point to lives.
                unsafe { become_program(&prepared, &arguments, &environment) }
            }
            number => number,
        };
        drop(prepared);
        let started = Pid::from_raw(number.max(0)).ok_or_else(io::Error::last_os_error)?;
        let mut errno = [0; 4];
        match File::from(complaints).read_exact(&mut errno) {
            // The program runs, and so its end of the pipe is closed.
            Err(_) => Ok(started),
            Ok(()) => {
                // It has ended, and leaves nothing that would be of interest.
                let _ = waitpid(Some(started), WaitOptions::empty());
                Err(io::Error::from_raw_os_error(i32::from_ne_bytes(errno)))
            }
        }
    }

    fn prepare(&self, complaint: &OwnedFd) -> io::Result<Prepared> {
        let above = FIRST + self.handed.len() as RawFd;
        let lift = |fd: BorrowedFd<'_>| Ok::<_, io::Error>(fcntl_dupfd_cloexec(fd, above)?);
        let descriptors = self.handed.iter().map(|(_, fd)| lift(*fd));
        let arguments = self.arguments.iter();
        let arguments = arguments.map(|argument| Ok(CString::new(argument.as_bytes())?));
        Ok(Prepared {
            program: lift(self.program.file.as_fd())?,
            path: CString::new(self.program.path.as_os_str().as_bytes())?,
            arguments: arguments.collect::<io::Result<_>>()?,
            environment: self.environment()?,
            descriptors: descriptors.collect::<io::Result<_>>()?,
            output: self.output.map(lift).transpose()?,
            complaint: lift(complaint.as_fd())?,
            parent: rustix::process::getpid().as_raw_nonzero().get(),
        })
    }

    /// The variables of the new process, but the one that has its number.
    fn environment(&self) -> io::Result<Vec<CString>> {
        let names: Vec<&str> = self.handed.iter().map(|(name, _)| *name).collect();
        let (count, names) = (names.len().to_string(), names.join(":"));
        let inherited = std::env::vars_os();
        let inherited = inherited.filter(|(name, _)| !OWN_VARIABLES.iter().any(|own| name == own));
        let given = self.variables.iter().copied();
        let given = given.chain([
            ("LISTEN_FDS", count.as_ref()),
            ("LISTEN_FDNAMES", names.as_ref()),
        ]);
        let given = given.map(|(name, value)| (OsString::from(name), value.to_owned()));
        let each = inherited.chain(given).map(|(name, value)| {
            let text = [name.as_bytes(), b"=", value.as_bytes()].concat();
            Ok(CString::new(text)?)
        });
        each.collect()
    }
}

/// Has this process killed when the supervisor that has started it ends, once more: the system forgets it as it
/// executes a program whose file has capabilities. Where the supervisor has ended before, whoever writes to it next
/// finds that out.
pub(crate) fn die_with_supervisor() -> io::Result<()> {
    Ok(rustix::process::set_parent_process_death_signal(Some(
        Signal::KILL,
    ))?)
}

/// The variable that says whom descriptors are for, written without taking memory.
fn number_of(text: &mut [u8], pid: Pid) -> &[u8] {
    text[..LISTEN_PID.len()].copy_from_slice(LISTEN_PID);
    let number = pid.as_raw_nonzero().get();
    let digits = number.ilog10() as usize + 1;
    let mut left = number;
    for at in (0..digits).rev() {
        text[LISTEN_PID.len() + at] = b'0' + (left % 10) as u8;
        left /= 10;
    }
    text
}

/// Turns a process that was just forked into the program, or ends it with a complaint.
///
/// # Safety
///
/// The lists end with a null pointer, and all others point to texts. Only in a process that was just
/// forked: the descriptors from [`FIRST`] on become others.
unsafe fn become_program(
    prepared: &Prepared,
    arguments: &[*const libc::c_char],
    environment: &[*const libc::c_char],
) -> ! {
    // SAFETY: as for this function.
    let errno = unsafe { try_become_program(prepared, arguments, environment) };
    let _ = rustix::io::write(&prepared.complaint, &errno.raw_os_error().to_ne_bytes());
    // SAFETY: it ends this process, and runs nothing of it.
    unsafe { libc::_exit(CANNOT_EXECUTE) }
}

/// # Safety
///
/// As [`become_program`].
unsafe fn try_become_program(
    prepared: &Prepared,
    arguments: &[*const libc::c_char],
    environment: &[*const libc::c_char],
) -> Errno {
    let dies_with_parent = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    let apart = dies_with_parent.and_then(|()| rustix::process::setpgid(None, None));
    if let Err(errno) = apart {
        return errno;
    }
    // SAFETY: it takes nothing and gives a number.
    if unsafe { libc::getppid() } != prepared.parent {
        // It died before this one was bound to it.
        return Errno::SRCH;
    }
    let numbers = FIRST..;
    let descriptors = prepared.descriptors.iter().zip(numbers);
    let output = prepared
        .output
        .iter()
        .map(|output| (output, libc::STDOUT_FILENO));
    for (from, to) in descriptors.chain(output) {
        // SAFETY: what has the number in this process is not used any more; what is, is above.
        if unsafe { libc::dup2(from.as_raw_fd(), to) } < 0 {
            return last_errno();
        }
    }
    // SAFETY: a signal that the Rust runtime ignores would stay ignored in the program.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    let (arguments, environment) = (arguments.as_ptr(), environment.as_ptr());
    // SAFETY: as for this function.
    unsafe { libc::fexecve(prepared.program.as_raw_fd(), arguments, environment) };
    let errno = last_errno();
    if errno == Errno::NOENT {
        // A script: its interpreter opens it by a name, and this descriptor has none by then.
        // SAFETY: as for this function.
        unsafe { libc::execve(prepared.path.as_ptr(), arguments, environment) };
        return last_errno();
    }
    errno
}

fn last_errno() -> Errno {
    let error = io::Error::last_os_error();
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a program of the system to its end; gives what it wrote.
    fn run(arguments: &[&str], handed: &[(&str, BorrowedFd<'_>)]) -> (i32, String) {
        let program = Program::open(Path::new("/bin/sh")).unwrap();
        let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
        let (theirs, ours) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let launch = Launch {
            program: &program,
            arguments: &arguments,
            variables: &[("GREETING", OsStr::new("hello"))],
            handed,
            output: Some(ours.as_fd()),
        };
        let pid = launch.start().unwrap();
        drop(ours);
        let mut output = String::new();
        File::from(theirs).read_to_string(&mut output).unwrap();
        let (_, status) = waitpid(Some(pid), WaitOptions::empty()).unwrap().unwrap();
        (status.exit_status().unwrap(), output)
    }

    #[test]
    fn descriptors_come_from_three_on_with_their_names_and_the_number_of_the_process() {
        let file = |text: &[u8]| {
            let flags = rustix::fs::MemfdFlags::CLOEXEC;
            let mut file = File::from(rustix::fs::memfd_create("handed", flags).unwrap());
            std::io::Write::write_all(&mut file, text).unwrap();
            std::io::Seek::rewind(&mut file).unwrap();
            file
        };
        let (one, two) = (file(b"one"), file(b"two"));
        let script = "echo $GREETING $LISTEN_FDS $LISTEN_FDNAMES; \
                      test $LISTEN_PID = $$ && echo mine; cat <&3; cat <&4; exit 7";
        let handed = [("larder", one.as_fd()), ("memory", two.as_fd())];
        let (code, output) = run(&["sh", "-c", script], &handed);
        assert_eq!(
            (code, &output[..]),
            (7, "hello 2 larder:memory\nmine\nonetwo")
        );
    }

    #[test]
    fn what_cannot_be_executed_is_an_error_here() {
        let program = Program::open(Path::new("/dev/null")).unwrap();
        let launch = Launch {
            program: &program,
            arguments: &["null".into()],
            variables: &[],
            handed: &[],
            output: None,
        };
        let error = launch.start().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{error}");
    }
}
