//! A thousand tasks in ten processes want one absent key: one of them makes it, and another only when
//! that one's process is killed.
#![cfg(feature = "server")]

mod server_harness;

use std::convert::Infallible;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use larder_client::Client;
use larder_client::blocking::{self, Wait};
use server_harness::{address, settings, start};

const PROCESSES: usize = 10;
const TASKS: usize = 100;

/// Where the processes find the server; the test below is one of them where it is there.
const SERVER: &str = "LARDER_STAMPEDE_SERVER";
/// How long a lease is, in milliseconds.
const LEASE_MS: &str = "LARDER_STAMPEDE_LEASE_MS";
/// There for the process that never gets done with making the value.
const HANGS: &str = "LARDER_STAMPEDE_HANGS";

const HOUR_MS: u64 = 3_600_000;

/// A process with a hundred tasks, killed with the test.
struct Stampede {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Stampede {
    fn start(url: &str, lease_ms: u64, hangs: bool) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "one_of_the_processes", "--nocapture"])
            .env(SERVER, url)
            .env(LEASE_MS, lease_ms.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        if hangs {
            command.env(HANGS, "1");
        }
        let mut child = command.spawn().unwrap();
        let stdin = child.stdin.take().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let mut process = Self {
            child,
            stdin,
            stdout,
        };
        process.expect("connected");
        process
    }

    /// Reads on until a line ends like this; what runs tests writes before it.
    fn expect(&mut self, text: &str) {
        let mut line = String::new();
        while !line.trim_end().ends_with(text) {
            line.clear();
            assert!(
                self.stdout.read_line(&mut line).unwrap() > 0,
                "no line says {text}"
            );
        }
    }

    fn go(&mut self) {
        writeln!(self.stdin, "go").unwrap();
    }

    fn end(mut self) {
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).unwrap();
        assert!(self.child.wait().unwrap().success(), "{rest}");
    }
}

impl Drop for Stampede {
    fn drop(&mut self) {
        // One that has ended already needs no killing.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Makes the value, and is counted.
async fn make(client: Client) -> Result<&'static str, Infallible> {
    client.increment("fills").initial(1).await.expect("counted");
    if std::env::var_os(HANGS).is_some() {
        println!("making it");
        std::future::pending::<()>().await;
    }
    // Others ask meanwhile.
    for _ in 0..20 {
        client.ping().await.expect("answered");
    }
    Ok("the value")
}

async fn task(client: Client, lease_for: Duration) {
    let making = client.clone();
    let filled = client.get_or_fill("key", async move || make(making).await);
    assert_eq!(
        filled.lease_for(lease_for).await.expect("a value"),
        "the value"
    );
}

#[test]
fn one_of_the_processes() {
    let Ok(url) = std::env::var(SERVER) else {
        return;
    };
    let lease_ms = std::env::var(LEASE_MS).unwrap().parse().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let client = Client::connect(&url).await.unwrap();
        println!("connected");
        std::io::stdin().read_line(&mut String::new()).unwrap();
        let lease_for = Duration::from_millis(lease_ms);
        let tasks: Vec<_> = (0..TASKS)
            .map(|_| tokio::spawn(task(client.clone(), lease_for)))
            .collect();
        for task in tasks {
            task.await.expect("no task fails");
        }
    });
}

fn fills(url: &str) -> Option<bytes::Bytes> {
    let client = blocking::connect(url).unwrap();
    client.get("fills").wait().unwrap().map(|item| item.value)
}

#[test]
fn a_thousand_tasks_in_ten_processes_make_it_once() {
    let running = start(settings(2));
    let url = format!("larder://{}", address(&running));
    let mut processes: Vec<_> = (0..PROCESSES)
        .map(|_| Stampede::start(&url, HOUR_MS, false))
        .collect();
    processes.iter_mut().for_each(Stampede::go);
    processes.into_iter().for_each(Stampede::end);
    assert_eq!(fills(&url).unwrap(), "1");
}

#[test]
fn when_the_process_that_makes_it_is_killed_it_is_made_once_more() {
    let running = start(settings(2));
    let url = format!("larder://{}", address(&running));
    // Long enough for a machine that is busy: the second one has it too.
    const LEASE: u64 = 2000;
    let mut killed = Stampede::start(&url, LEASE, true);
    let mut processes: Vec<_> = (1..PROCESSES)
        .map(|_| Stampede::start(&url, LEASE, false))
        .collect();
    killed.go();
    killed.expect("making it");
    processes.iter_mut().for_each(Stampede::go);
    drop(killed);
    processes.into_iter().for_each(Stampede::end);
    assert_eq!(fills(&url).unwrap(), "2");
}
