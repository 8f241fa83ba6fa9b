//! Files that go with the test that made them.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test uses its own part of this"
)]

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

/// What the path of a Unix socket has at most.
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// A file that goes with the test.
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn named(name: &str) -> Self {
        let name = format!("larder-test-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let fits = path.as_os_str().len() <= SOCKET_PATH_BYTES_MAX;
        // Nobody would come to listen there, and some would wait for ever.
        let is_socket = path.extension().is_some_and(|it| it == "sock");
        assert!(fits || !is_socket, "TMPDIR is too long for {path:?}");
        Self(path)
    }

    /// A program that does what the script says.
    pub fn program(name: &str, script: &str) -> Self {
        let scratch = Self::named(name);
        std::fs::write(&scratch.0, format!("#!/bin/sh\n{script}\n")).unwrap();
        let executable = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(&scratch.0, executable).unwrap();
        scratch
    }

    pub fn text(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
