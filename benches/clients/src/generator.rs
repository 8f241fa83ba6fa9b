//! `larder bench` in place of a client.

use std::io;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::{Figures, KEYS, VALUE_BYTES};

/// How many requests it has under way on its one connection.
pub(crate) const DEPTH: u64 = 64;

/// Runs it, with keys and values of the same lengths.
pub(crate) fn measure(program: &Path, server: &str, time: Duration) -> io::Result<Figures> {
    let ended = Command::new(program)
        .args([
            "bench",
            "--json",
            "--load",
            "--ratio",
            "1:0",
            "--connections",
            "1",
        ])
        .args(["--server", server, "--key-bytes", "16"])
        .arg(format!("--depth={DEPTH}"))
        .arg(format!("--keys={KEYS}"))
        .arg(format!("--value-bytes={VALUE_BYTES}"))
        .arg(format!("--duration={}ms", time.as_millis()))
        .output()?;
    let report = String::from_utf8_lossy(&ended.stdout);
    let figure = |name: &str| {
        let after = report.split_once(&format!("\"{name}\":"));
        let number = after.and_then(|(_, rest)| rest.split([',', '}']).next()?.parse::<f64>().ok());
        number.ok_or_else(|| {
            let said = String::from_utf8_lossy(&ended.stderr);
            io::Error::other(format!("larder bench did not say {name}: {said}"))
        })
    };
    Ok(Figures {
        requests_per_s: figure("operations_per_second")?,
        cpu_us: figure("generator_cpu_ns_per_operation")? / 1000.0,
    })
}
