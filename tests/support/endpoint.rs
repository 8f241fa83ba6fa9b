//! A server in processes of its own, and its admin endpoint, asked byte by byte.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test uses its own part of this"
)]

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::process::{Ended, ServerProcess, end_of, larder};

/// A server whose endpoint is a socket of the test's own.
pub struct Watched {
    pub server: ServerProcess,
    socket: SocketFile,
}

/// The file of a socket, which goes after the server that listens there: one that is killed leaves it.
struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// What an endpoint answered.
#[derive(Debug)]
pub struct Answer {
    pub code: u16,
    pub head: String,
    pub body: String,
}

/// Asks the endpoint that listens at a path of the file system.
pub fn ask(socket: &Path, method: &str, path: &str) -> Answer {
    ask_over(UnixStream::connect(socket).unwrap(), method, path)
}

/// Asks over a connection that is there.
pub fn ask_over(stream: impl Read + Write, method: &str, path: &str) -> Answer {
    ask_by_name(stream, "larder", method, path)
}

/// The same, calling the endpoint so.
pub fn ask_by_name(mut stream: impl Read + Write, host: &str, method: &str, path: &str) -> Answer {
    let request = format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").expect("an answer");
    let code = head.split(' ').nth(1).expect("a status line");
    Answer {
        code: code.parse().unwrap(),
        head: head.to_ascii_lowercase(),
        body: body.to_owned(),
    }
}

impl Watched {
    /// Starts a server of two workers.
    pub fn serve(name: &str, more: &[&str]) -> Self {
        let name = format!("larder-test-{}-{name}.admin", std::process::id());
        let path = std::env::temp_dir().join(name);
        let at = format!("unix:{}", path.display());
        let options = [
            "--memory",
            "64MiB",
            "--workers",
            "2",
            "--listen",
            "127.0.0.1:0",
        ];
        let server = ServerProcess::serve(
            &[&options[..], &["--admin", &at, "--evidence", "none"], more].concat(),
        );
        let socket = SocketFile(path);
        Self { server, socket }
    }

    /// Where the endpoint is.
    pub fn admin(&self) -> String {
        format!("unix:{}", self.socket.0.display())
    }

    /// Asks the endpoint.
    pub fn ask(&self, method: &str, path: &str) -> Answer {
        ask(&self.socket.0, method, path)
    }

    /// `/status.json`.
    pub fn status(&self) -> Value {
        let answer = self.ask("GET", "/status.json");
        assert_eq!(answer.code, 200, "{answer:?}");
        serde_json::from_str(&answer.body).expect("JSON")
    }

    /// Looks at `/status.json` until it has what is wanted.
    pub fn wait_for<T>(&self, look: impl Fn(&Value) -> Option<T>) -> T {
        loop {
            if let Some(found) = look(&self.status()) {
                return found;
            }
            std::thread::yield_now();
        }
    }

    /// Runs a command that asks this endpoint.
    pub fn run(&self, arguments: &[&str]) -> Ended {
        let admin = self.admin();
        end_of(
            &mut larder(&[arguments, &["--admin", &admin]].concat()),
            b"",
        )
    }
}
