//! The `larder` program on a terminal of its own: what a person would see, and what a person types.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test uses its own part of this"
)]

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

/// A command on a terminal. It is killed with the test.
pub struct Terminal {
    screen: File,
    child: Child,
    /// What was shown and not asked for yet.
    shown: String,
}

impl Terminal {
    /// Starts a command with a terminal as its input and output.
    pub fn start(mut command: Command) -> Self {
        command.env_remove("NO_COLOR");
        Self::start_as_it_is(command)
    }

    /// Starts a command for somebody who wants no colours.
    pub fn without_colours(mut command: Command) -> Self {
        command.env("NO_COLOR", "1");
        Self::start_as_it_is(command)
    }

    fn start_as_it_is(mut command: Command) -> Self {
        let screen = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&screen).unwrap();
        unlockpt(&screen).unwrap();
        let name = ptsname(&screen, Vec::new()).unwrap();
        let open = || -> OwnedFd {
            rustix::fs::open(&*name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap()
        };
        command
            .env("TERM", "xterm")
            .env_remove("CLICOLOR")
            .stdin(open())
            .stdout(open())
            .stderr(open());
        let become_its_owner = || {
            rustix::process::setsid()?;
            rustix::process::ioctl_tiocsctty(std::io::stdin())?;
            Ok(())
        };
        // SAFETY: both are system calls that may be made between fork and exec.
        unsafe { command.pre_exec(become_its_owner) };
        let child = command.spawn().unwrap();
        drop(command);
        let (screen, shown) = (File::from(screen), String::new());
        Self {
            screen,
            child,
            shown,
        }
    }

    /// Types something.
    pub fn type_in(&mut self, text: &str) {
        self.type_bytes(text.as_bytes());
    }

    /// Types something that may be no text.
    pub fn type_bytes(&mut self, bytes: &[u8]) {
        self.screen.write_all(bytes).unwrap();
    }

    /// Waits until a text is shown, and returns what was shown up to its end.
    pub fn wait_for(&mut self, text: &str) -> String {
        loop {
            if let Some(at) = self.shown.find(text) {
                let rest = self.shown.split_off(at + text.len());
                return std::mem::replace(&mut self.shown, rest);
            }
            assert!(self.read(), "{text:?} does not come: {:?}", self.shown);
        }
    }

    /// Waits for the end, and returns the exit code and what was shown.
    pub fn end(mut self) -> (Option<i32>, String) {
        while self.read() {}
        let code = self.child.wait().unwrap().code();
        (code, std::mem::take(&mut self.shown))
    }

    /// Reads more of what is shown; false at the end, when nobody has the terminal open any more.
    fn read(&mut self) -> bool {
        let mut chunk = [0; 4096];
        match self.screen.read(&mut chunk) {
            Ok(count @ 1..) => {
                let text = String::from_utf8_lossy(&chunk[..count]);
                self.shown.push_str(&text.replace('\r', ""));
                true
            }
            _ => false,
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
