//! Files that go with the test that made them.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test uses its own part of this"
)]

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

/// A file that goes with the test.
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn named(name: &str) -> Self {
        let name = format!("larder-test-{}-{name}", std::process::id());
        Self(std::env::temp_dir().join(name))
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
