//! Larder's client beside redis-rs and fred: each with one multiplexed connection to its own server,
//! the same keys, the same values, the same shapes of work, round after round in turn.
//!
//! ```text
//! cargo run --release --manifest-path benches/clients/Cargo.toml -- \
//!     --larder larder://127.0.0.1:5273 --redis redis://127.0.0.1:6379
//! ```
//!
//! With `--generator target/release/larder` the 64 tasks are measured beside `larder bench` as well,
//! which has one connection and 64 requests under way at a time: what a client could reach that did
//! nothing but write requests and read replies.

mod contenders;
mod generator;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use contenders::Contender;
use rustix::time::{ClockId, clock_gettime};

/// LIMIT: few enough that the servers' caches of the processor hold them: the clients are measured.
const KEYS: usize = 10_000;
const VALUE_BYTES: usize = 100;

/// Measures clients: requests a second, and the client's own processor time for each.
#[derive(Parser)]
struct Options {
    /// Larder's server.
    #[arg(long)]
    larder: String,
    /// A server of Redis's protocol; without it only Larder's client is measured.
    #[arg(long)]
    redis: Option<String>,
    /// How long each measurement takes, in milliseconds.
    #[arg(long, default_value_t = 2000)]
    duration_ms: u64,
    /// How often each is measured; the median counts.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Only the shapes of work whose names contain this.
    #[arg(long, default_value = "")]
    only: String,
    /// Threads of the clients' runtime; 0 is the thread that asks alone.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// A `larder` whose `bench` is measured in turn with the 64 tasks.
    #[arg(long)]
    generator: Option<PathBuf>,
}

/// A shape of work.
#[derive(Clone, Copy)]
struct Shape {
    name: &'static str,
    tasks: u64,
    keys: usize,
}

const SHAPES: [Shape; 3] = [
    Shape {
        name: "1 task, get",
        tasks: 1,
        keys: 1,
    },
    Shape {
        name: "64 tasks, get",
        tasks: 64,
        keys: 1,
    },
    Shape {
        name: "1 task, get_many of 64",
        tasks: 1,
        keys: 64,
    },
];

/// What came of one measurement.
#[derive(Clone, Copy)]
struct Figures {
    requests_per_s: f64,
    cpu_us: f64,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let options = Options::parse();
    let mut runtime = match options.threads {
        0 => tokio::runtime::Builder::new_current_thread(),
        threads => {
            let mut runtime = tokio::runtime::Builder::new_multi_thread();
            runtime.worker_threads(threads);
            runtime
        }
    };
    runtime.enable_all().build()?.block_on(compare(&options))
}

async fn compare(options: &Options) -> Result<(), Box<dyn std::error::Error>> {
    let mut contenders = vec![Contender::larder(&options.larder).await?];
    if let Some(url) = &options.redis {
        contenders.push(Contender::redis_rs(url).await?);
        contenders.push(Contender::fred(url).await?);
    }
    // Made before, so that making them is not measured; used until the end.
    let keys: Vec<_> = (0..KEYS)
        .map(|number| format!("key:{number:012}"))
        .collect();
    let keys: &'static [String] = keys.leak();
    for contender in &contenders {
        for key in keys {
            contender.set(key, vec![b'v'; VALUE_BYTES]).await;
        }
    }
    println!(
        "{:<24} {:<12} {:>12} {:>12}",
        "", "", "requests/s", "CPU us/req"
    );
    let time = Duration::from_millis(options.duration_ms);
    for shape in SHAPES
        .iter()
        .filter(|shape| shape.name.contains(&options.only))
    {
        let mut measured = vec![Vec::new(); contenders.len()];
        let mut generated = Vec::new();
        for _ in 0..options.rounds {
            for (contender, measured) in contenders.iter().zip(&mut measured) {
                measured.push(measure(contender, *shape, keys, time).await);
            }
            if let Some(generator) = &options.generator
                && shape.tasks == generator::DEPTH
            {
                generated.push(generator::measure(generator, &options.larder, time)?);
            }
        }
        for (contender, measured) in contenders.iter().zip(&mut measured) {
            show(shape, contender.name(), measured);
        }
        if !generated.is_empty() {
            show(shape, "larder bench", &generated);
            let rounds = measured[0].iter().zip(&generated);
            let shares = rounds.map(|(client, bench)| client.requests_per_s / bench.requests_per_s);
            let share = median(shares.collect());
            println!("larder reaches {share:.2} of larder bench, the median of the rounds");
        }
    }
    Ok(())
}

fn show(shape: &Shape, name: &str, measured: &[Figures]) {
    println!(
        "{:<24} {:<12} {:>12.0} {:>12.2}",
        shape.name,
        name,
        median(
            measured
                .iter()
                .map(|figures| figures.requests_per_s)
                .collect()
        ),
        median(measured.iter().map(|figures| figures.cpu_us).collect()),
    );
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

async fn measure(
    contender: &Contender,
    shape: Shape,
    keys: &'static [String],
    time: Duration,
) -> Figures {
    let requests = Arc::new(AtomicU64::new(0));
    let (begun, cpu_before) = (Instant::now(), cpu());
    // Reading the clock for each request would be a part of what is measured.
    let is_over = Arc::new(AtomicBool::new(false));
    let watch = tokio::spawn({
        let is_over = is_over.clone();
        async move {
            tokio::time::sleep(time).await;
            is_over.store(true, Ordering::Relaxed);
        }
    });
    let tasks = (0..shape.tasks).map(|task| {
        let (contender, requests) = (contender.clone(), requests.clone());
        let is_over = is_over.clone();
        tokio::spawn(async move {
            let mut number = task as usize * 7919;
            let mut done = 0;
            while !is_over.load(Ordering::Relaxed) {
                let from = number % (keys.len() - shape.keys);
                match &keys[from..from + shape.keys] {
                    [key] => contender.get(key).await,
                    keys => contender.get_many(keys).await,
                }
                number += 64;
                done += 1;
            }
            requests.fetch_add(done, Ordering::Relaxed);
        })
    });
    let tasks: Vec<_> = tasks.collect();
    for task in tasks {
        task.await.expect("no task fails");
    }
    watch.await.expect("it only sleeps");
    let requests = requests.load(Ordering::Relaxed) as f64;
    Figures {
        requests_per_s: requests / begun.elapsed().as_secs_f64(),
        cpu_us: (cpu() - cpu_before).as_secs_f64() * 1e6 / requests,
    }
}

/// What this process has used of the processors.
fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
