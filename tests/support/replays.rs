//! `larder replay` of bytes that a test has.
#![allow(unreachable_pub, reason = "each test is a crate of its own")]

use serde_json::Value;

use crate::process::{Ended, end_of, larder};

/// Replays bytes from standard input.
pub fn replay(trace: impl AsRef<[u8]>, options: &[&str]) -> Ended {
    end_of(
        &mut larder(&[&["replay", "-"], options].concat()),
        trace.as_ref(),
    )
}

/// Replays bytes from standard input, which must go well; the JSON report.
pub fn report(trace: impl AsRef<[u8]>, options: &[&str]) -> Value {
    let ended = replay(trace, &[&["--json"], options].concat());
    assert_eq!(
        (ended.code, &ended.stderr[..]),
        (Some(0), ""),
        "{options:?}"
    );
    assert_eq!(ended.stdout.lines().count(), 1, "{}", ended.stdout);
    serde_json::from_str(&ended.stdout).unwrap()
}

/// The only run of a report.
pub fn only_run(report: &Value) -> &Value {
    let runs = report["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 1, "{report}");
    &runs[0]
}
