//! `larder batch`: lines in, answers out in their order, failures with their line.
#![cfg(feature = "server")]

#[path = "support/process.rs"]
mod process;

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::Stdio;

use process::{Ended, ServerProcess, larder};
use serde_json::Value;

fn batch(server: &ServerProcess, options: &[&str], lines: &str) -> Ended {
    server.run_with_input(&[&["batch"], options].concat(), lines.as_bytes())
}

/// What came out, and how it ended.
fn outcome(ended: &Ended) -> (Option<i32>, &str, &str) {
    (ended.code, &ended.stdout, &ended.stderr)
}

#[test]
fn lines_are_carried_out_and_answered_in_their_order() {
    let server = ServerProcess::start();
    let lines = "# a comment\n\
                 set a 'one two'\n\
                 \n\
                 larder get a\n\
                 incr n --initial 5\r\n\
                 incr n\n\
                 delete a n\n\
                 scan\n\
                 set last \"line without end\"\n\
                 get last";
    let ended = batch(&server, &[], lines);
    let answers = "stored\none two\n5\n6\ndeleted 2 of 2\nstored\nline without end\n";
    assert_eq!(outcome(&ended), (Some(0), answers, ""));
    assert_eq!(outcome(&batch(&server, &[], "")), (Some(0), "", ""));
}

#[test]
fn what_comes_after_on_the_same_key_sees_what_came_before() {
    let server = ServerProcess::start();
    let (mut lines, mut expected) = (String::new(), String::new());
    for number in 1..=500 {
        let key = number % 7;
        let _ = write!(lines, "set k{key} {number}\nincr k{key}\nget k{key}\n");
        let _ = write!(expected, "stored\n{0}\n{0}\n", number + 1);
        if number % 100 == 0 {
            lines += "touch k0 k1 --forever\n";
            expected += "touched 2 of 2\n";
        }
    }
    let ended = batch(&server, &[], &lines);
    assert_eq!(outcome(&ended), (Some(0), &expected[..], ""));
}

#[test]
fn the_first_line_that_fails_ends_the_batch_with_its_number() {
    let server = ServerProcess::start();
    // The mistake is known before anything behind it is sent.
    let ended = batch(&server, &[], "set a 1\n\nscann\nset b 2\n");
    assert_eq!((ended.code, &ended.stdout[..]), (Some(2), "stored\n"));
    let line = "larder batch: line 3: unrecognized subcommand 'scann'; \
                tip: a similar subcommand exists: 'scan'; accepted: get, ";
    assert!(ended.stderr.starts_with(line), "{}", ended.stderr);
    let end = "larder batch: 1 of 2 commands failed, first line 3; nothing more was sent \
               (--keep-going goes on)\n";
    assert!(ended.stderr.ends_with(end), "{}", ended.stderr);
    assert_eq!(server.run(&["get", "b"]).code, Some(1));
    // What has to be alone waits for what is before it, and is not begun when that fails.
    let ended = batch(&server, &[], "get nothing\nflush\n");
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.stderr.contains("line 1: nothing is not there"),
        "{}",
        ended.stderr
    );
    assert_eq!(server.run(&["get", "a"]).stdout, "1");
    let ended = batch(&server, &[], "get 'a\n");
    assert_eq!(ended.code, Some(2));
    assert!(
        ended.stderr.contains("line 1: a quote is not closed"),
        "{}",
        ended.stderr
    );
}

#[test]
fn a_batch_that_keeps_going_tells_every_failure_and_ends_as_the_first_did() {
    let server = ServerProcess::start();
    let lines = "set word bread\nget fig\nincr word\ndance\nget word\ndelete word plum\n";
    for option in ["--keep-going", "-k"] {
        let ended = batch(&server, &[option], lines);
        assert_eq!(
            (ended.code, &ended.stdout[..]),
            (Some(1), "stored\nbread\ndeleted 1 of 2\n")
        );
        let complaints: Vec<&str> = ended.stderr.lines().collect();
        let expected = [
            "larder batch: line 2: fig is not there",
            "larder batch: line 3: ",
            "larder batch: line 4: unrecognized subcommand 'dance'",
            "larder batch: line 6: plum is not there",
            "larder batch: 4 of 6 commands failed",
        ];
        assert_eq!(complaints.len(), expected.len(), "{complaints:?}");
        for (complaint, expected) in complaints.iter().zip(expected) {
            assert!(complaint.starts_with(expected), "{complaint}");
        }
    }
}

#[test]
fn a_batch_without_a_server_ends_and_names_what_it_did_not_do() {
    let server = ServerProcess::start();
    let url = passes_one_answer(&server);
    let path = std::env::temp_dir().join(format!("larder-test-{}-undone", std::process::id()));
    std::fs::write(&path, "set a 1\nflush\nget a\nget a\nget a\n").unwrap();
    let arguments = ["batch", path.to_str().unwrap(), "--timeout", "200ms", "-k"];
    let ended = process::end_of(larder(&arguments).args(["--server", &url]), b"");
    std::fs::remove_file(&path).unwrap();
    assert_eq!((ended.code, &ended.stdout[..]), (Some(3), "stored\n"));
    let complaints: Vec<&str> = ended.stderr.lines().collect();
    let expected = [
        "larder batch: line 2: unknown whether executed: the connection was lost",
        "larder batch: line 3: not executed: cannot connect to larder://127.0.0.1:",
        "larder batch: 2 of 3 commands failed, first line 2; without a connection, lines 3 to 5 were not",
    ];
    assert_eq!(complaints.len(), expected.len(), "{complaints:?}");
    for (complaint, expected) in complaints.iter().zip(expected) {
        assert!(complaint.starts_with(expected), "{complaint}");
    }
}

#[test]
fn programs_get_an_object_for_each_line() {
    let server = ServerProcess::start();
    let lines = "set a 1\nget a\nget fig\n\nbake\nping\n";
    let ended = batch(&server, &["--json", "--keep-going"], lines);
    assert_eq!(ended.code, Some(1));
    let objects = ended
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap());
    let objects: Vec<Value> = objects.collect();
    let numbers: Vec<u64> = objects
        .iter()
        .map(|o| o["line"].as_u64().unwrap())
        .collect();
    assert_eq!(numbers, [1, 2, 3, 5, 6]);
    assert_eq!(objects[1]["value"], "1");
    assert_eq!(
        (&objects[2]["error"], &objects[2]["kind"]),
        (&"fig is not there".into(), &"not_done".into())
    );
    assert_eq!(objects[3]["kind"], "usage");
    // Or for one of them.
    let ended = batch(&server, &[], "get a\nget a --json\n");
    assert!(
        ended.stdout.starts_with("1\n{\"expires_in_ms\":null"),
        "{}",
        ended.stdout
    );
}

#[test]
fn values_come_from_files_and_not_from_the_batch_itself() {
    let server = ServerProcess::start();
    let path = std::env::temp_dir().join(format!("larder-test-{}-batch", std::process::id()));
    std::fs::write(&path, "two\nlines").unwrap();
    let lines = format!("set k --file '{0}'\nget k\n", path.display());
    assert_eq!(batch(&server, &[], &lines).stdout, "stored\ntwo\nlines\n");
    std::fs::write(&path, "set k v\nget k\n").unwrap();
    let ended = server.run(&["batch", path.to_str().unwrap()]);
    assert_eq!(outcome(&ended), (Some(0), "stored\nv\n", ""));
    std::fs::remove_file(&path).unwrap();
    let ended = server.run(&["batch", path.to_str().unwrap()]);
    assert_eq!(ended.code, Some(2));
    let ended = batch(&server, &["-"], "get k\n");
    assert_eq!(outcome(&ended), (Some(0), "v\n", ""));
    for line in ["set k -", "set k --file -", "delete --keys-from -"] {
        let ended = batch(&server, &[], line);
        assert_eq!(ended.code, Some(2), "{line}");
        let why = "cannot come from standard input, which is the batch itself";
        assert!(ended.stderr.contains(why), "{}", ended.stderr);
    }
}

#[test]
fn an_answer_does_not_wait_for_the_next_line() {
    let server = ServerProcess::start();
    let mut child = larder(&["batch"])
        .env("LARDER_SERVER", server.url())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut answers = BufReader::new(child.stdout.take().unwrap()).lines();
    for number in ["1", "2", "3"] {
        input.write_all(b"incr n --initial 1\n").unwrap();
        assert_eq!(answers.next().unwrap().unwrap(), number);
    }
    drop(input);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

/// Stands before a server, and holds its answers back until so many bytes of requests have passed.
fn behind_a_dam(server: &ServerProcess, request_bytes: usize) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("larder://{}", listener.local_addr().unwrap());
    let server = server.address();
    std::thread::spawn(move || {
        let mut client = listener.accept().unwrap().0;
        let mut server = TcpStream::connect(server).unwrap();
        let (mut to_server, mut to_client) =
            (server.try_clone().unwrap(), client.try_clone().unwrap());
        let (passed, all_passed) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let (mut chunk, mut bytes) = ([0; 4096], 0);
            while let Ok(count @ 1..) = client.read(&mut chunk) {
                to_server.write_all(&chunk[..count]).unwrap();
                bytes += count;
                if bytes >= request_bytes {
                    let _ = passed.send(());
                }
            }
        });
        // The answer to the greeting, without which there are no requests.
        let mut chunk = [0; 4096];
        let count = server.read(&mut chunk).unwrap();
        to_client.write_all(&chunk[..count]).unwrap();
        all_passed.recv().unwrap();
        let _ = std::io::copy(&mut server, &mut to_client);
        let _ = to_client.shutdown(Shutdown::Both);
    });
    url
}

/// Stands before a server, and is gone once it has passed the greeting and one answer on, and heard one
/// request more.
fn passes_one_answer(server: &ServerProcess) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("larder://{}", listener.local_addr().unwrap());
    let server = server.address();
    std::thread::spawn(move || {
        let mut client = listener.accept().unwrap().0;
        drop(listener);
        let mut server = TcpStream::connect(server).unwrap();
        let mut chunk = [0; 4096];
        for _ in ["greeting", "answer"] {
            let count = client.read(&mut chunk).unwrap();
            server.write_all(&chunk[..count]).unwrap();
            let count = server.read(&mut chunk).unwrap();
            client.write_all(&chunk[..count]).unwrap();
        }
        let _ = client.read(&mut chunk);
    });
    url
}

#[test]
fn lines_are_sent_before_those_before_them_are_answered() {
    let server = ServerProcess::start();
    let lines: String = (0..100).map(|n| format!("set key{n} v\n")).collect();
    // A request takes at least its header.
    let url = behind_a_dam(&server, 100 * 16);
    let ended = batch(&server, &["--server", &url], &lines);
    assert_eq!(outcome(&ended), (Some(0), &"stored\n".repeat(100)[..], ""));
}

#[test]
fn a_reader_that_has_seen_enough_ends_a_batch_that_would_never_end() {
    let server = ServerProcess::start();
    server.run(&["set", "k", "v"]);
    let endless = "while echo get k; do :; done | \"$LARDER\" batch | head -n 3";
    let mut shell = std::process::Command::new("sh");
    shell
        .args(["-c", endless])
        .env("LARDER", env!("CARGO_BIN_EXE_larder"))
        .env("LARDER_SERVER", server.url());
    let ended = process::end_of(&mut shell, b"");
    assert_eq!((ended.code, &ended.stdout[..]), (Some(0), "v\nv\nv\n"));
    assert!(!ended.stderr.contains("panic"), "{}", ended.stderr);
}

#[test]
fn large_values_pass_in_a_row() {
    let server = ServerProcess::start();
    let value = "x".repeat(1 << 20);
    let mut lines = String::new();
    for number in 0..8 {
        let _ = write!(lines, "set k{number} {value}\nget k{number}\n");
    }
    let ended = batch(&server, &[], &lines);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(ended.stdout.len(), 8 * ("stored\n".len() + (1 << 20) + 1));
}

#[test]
fn what_comes_in_many_objects_has_its_line_in_each() {
    let server = ServerProcess::start();
    let ended = batch(&server, &["--json"], "set a 1\nset b 2\nscan\nget a x b\n");
    assert_eq!(ended.code, Some(1));
    let objects: Vec<Value> = ended
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let lines: Vec<u64> = objects
        .iter()
        .map(|object| object["line"].as_u64().unwrap())
        .collect();
    assert_eq!(lines, [1, 2, 3, 3, 4, 4, 4], "{}", ended.stdout);
    let ended = batch(&server, &[], "get a b\nget a x\n");
    assert_eq!((ended.code, &ended.stdout[..]), (Some(1), "1\n2\n1\n"));
    assert!(
        ended
            .stderr
            .starts_with("larder batch: line 2: x is not there\n"),
        "{}",
        ended.stderr
    );
}
